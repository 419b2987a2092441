"""Whether kept work is found after an edit of the code, without editing it: a copy is digested instead."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pipeline import result_code

EditCode = Callable[[str], AbstractContextManager[None]]


@contextmanager
def edited_code(folder: Path, name: str) -> Iterator[None]:
    """While it lasts, the file `name` of `pipeline/` counts as edited."""
    shutil.copytree(result_code.PIPELINE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / name).open("a") as file:
        file.write("# edited\n")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(result_code, "PIPELINE", folder)
            yield
    finally:
        shutil.rmtree(folder)
