"""The index of kept features: it needs a temporary folder with room, and leaves nothing there.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_block_index.py
"""

import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.encoding.block_index import BlockIndex
from pipeline.errors import PipelineError
from tests.import_closure import ROOT

DIGESTS = [f"{n:064x}" for n in range(2003)]
# In a process of its own: a limit that was lowered stays so. (Its cache takes 16 MiB.)
LIMITED = """
import resource, tempfile
from pipeline.encoding.block_index import BlockIndex
tempfile.tempdir = {folder!r}
index = BlockIndex()
resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
index.note_missing(f"{{n:064x}}" for n in range(300_000))
"""


def test_an_image_is_found_where_its_block_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    index = BlockIndex()
    for start in range(0, 2000, 100):
        index.record(f"block_{start}", DIGESTS[start : start + 100])
    assert index.note_missing(DIGESTS) == 3
    assert index.find(DIGESTS[1234]) == ("block_1200", 34)
    assert index.find(DIGESTS[2000]) is None
    assert [index.claim(DIGESTS[n]) for n in (1999, 2000, 2000)] == [False, True, False]
    assert list(tmp_path.iterdir()) == [], "a process that is killed leaves nothing behind either"
    index.close()


def test_a_full_temporary_folder_is_named_with_its_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def connect_to_a_small_disk(*args: Any, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*args, **options)
        database.execute("PRAGMA max_page_count = 20")
        return database

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sqlite3, "connect", connect_to_a_small_disk)
    index = BlockIndex()
    with pytest.raises(
        PipelineError, match=rf"{tmp_path}/vlm-blocks-\S+: No space left .*MB free there\); make"
    ):
        index.note_missing(DIGESTS)
    index.close()


def test_a_limit_on_the_size_of_files_is_named_with_the_free_space(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED.format(folder=str(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = rf"PipelineError: cannot write {tmp_path}/vlm-blocks-\S+: File too large .*MB free there\); make"
    assert re.search(said, done.stderr), done.stderr


def test_a_temporary_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(PipelineError, match=rf"{tmp_path}/none/vlm-blocks: No such file or dir"):
        BlockIndex()
