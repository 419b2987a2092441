"""Whether kept work is found after an edit of the code, without editing it: a copy is digested instead."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipeline import result_code


@contextmanager
def edited_code(name: str) -> Iterator[None]:
    """While it lasts, the file `name` of `pipeline/` counts as edited."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        ignore = shutil.ignore_patterns("__pycache__")
        copy = Path(shutil.copytree(result_code.PIPELINE, Path(folder, "pipeline"), ignore=ignore))
        with (copy / name).open("a") as file:
            file.write("# edited\n")
        patch.setattr(result_code, "PIPELINE", copy)
        yield
