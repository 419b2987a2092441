"""The one exception that a user is meant to read, and how it shows a value or a long list."""

import reprlib
from collections.abc import Sequence

_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


class PipelineError(Exception):
    """A mistake that the user can correct: missing data, a wrong value, files that do not belong together.

    The message says what is wrong, with the value; what is allowed; and `Fix:` with the next command.
    Stages turn it into exit code 1 without a traceback; any other exception is a bug and keeps its traceback.
    """


class UnreadableError(PipelineError):
    """The system refuses to read a file, which may be good: it is never taken for damaged or missing."""


def shorten(value: object) -> str:
    """Show a value as errors do: short, however large or deep it is."""
    try:
        return _REPR.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a huge {type(value).__name__}"


def first_few(texts: Sequence[str], count: int = 5, separator: str = ", ") -> str:
    """Name the first `count` texts and say how many more there are."""
    named = separator.join(texts[:count])
    more = len(texts) - count
    if more <= 0:
        return named
    return f"{named}{' ' if separator == ', ' else separator}and {more:,} more"
