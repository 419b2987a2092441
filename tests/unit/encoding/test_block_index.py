"""The index of kept features: it needs a temporary folder with room, and leaves nothing there.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_block_index.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.encoding import block_index
from pipeline.encoding.block_index import BlockIndex
from pipeline.errors import PipelineError
from tests.import_closure import ROOT


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, and an index that keeps hardly anything in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(block_index, "_CACHE_KIB", 16)
    return tmp_path


def digests(count: int) -> list[str]:
    return [f"{n:064x}" for n in range(count)]


def test_an_image_is_found_where_its_block_says(temporary: Path) -> None:
    index = BlockIndex()
    for start in range(0, 2000, 100):
        index.record(f"block_{start}", digests(2000)[start : start + 100])
    assert index.note_missing(digests(2003)) == 3
    assert index.find(digests(2000)[1234]) == ("block_1200", 34)
    assert index.find(digests(2001)[2000]) is None
    assert [index.claim(sha256) for sha256 in (*digests(2001)[1999:], digests(2001)[2000])] == [
        False,
        True,
        False,
    ]
    # A process that is killed leaves nothing behind either.
    assert list(temporary.iterdir()) == []
    index.close()


def test_a_full_temporary_folder_is_named_with_its_free_space(temporary: Path) -> None:
    index = BlockIndex()
    index._run("PRAGMA max_page_count = 20")
    with pytest.raises(
        PipelineError,
        match=rf"cannot write {temporary}/vlm-blocks-\S+: No space left .*MB free there\); make",
    ):
        index.note_missing(digests(5000))
    index.close()


LIMITED = """
import resource, tempfile
from pipeline.encoding import block_index
tempfile.tempdir, block_index._CACHE_KIB = {folder!r}, 16
index = block_index.BlockIndex()
resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
index.note_missing(f"{{n:064x}}" for n in range(5000))
"""


def test_a_limit_on_the_size_of_files_is_named_with_the_free_space(tmp_path: Path) -> None:
    """In a process of its own: a limit that was lowered stays so."""
    command = [sys.executable, "-c", LIMITED.format(folder=str(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = rf"PipelineError: cannot write {tmp_path}/vlm-blocks-\S+: File too large .*MB free there\); make"
    assert re.search(said, done.stderr), done.stderr


def test_a_temporary_folder_that_cannot_be_written_is_named(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))
    with pytest.raises(
        PipelineError, match=rf"cannot write {temporary}/none/vlm-blocks: No such file or dir"
    ):
        BlockIndex()
