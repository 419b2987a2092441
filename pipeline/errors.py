"""The one exception that a user is meant to read."""


class PipelineError(Exception):
    """A mistake that the user can mend: missing data, a wrong value, files that do not belong together.

    The message is one or two sentences: the thing, the value found, what is allowed, the next command.
    Stages turn it into exit code 1 without a traceback; any other exception is a bug and keeps its own.
    """
