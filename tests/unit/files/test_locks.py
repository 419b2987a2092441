"""Locks: a second run is told which process holds the lock.

Run: .venv/bin/python -m pytest tests/unit/files/test_locks.py
"""

import logging
import os
import socket
from pathlib import Path

import pytest

from pipeline.files.locks import file_lock
from stages.console import stage_banner
from tests.refusals import refusal


def test_a_second_run_is_told_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "encode.lock"
    holder = f"encode is .* by process {os.getpid()} on {socket.gethostname()} since 20.*{path}"
    with file_lock(path, "encode"):
        refusal(file_lock(path, "encode").__enter__, match=holder)
        path.with_name("encode.lock.json").write_text("{")
        refusal(file_lock(path, "encode").__enter__, match="by another process")


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), file_lock(tmp_path / "lock", "train"):
            raise KeyboardInterrupt
    assert not (tmp_path / "lock.json").exists()


@pytest.mark.usefixtures("here")
def test_a_stage_of_one_process_ignores_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Job schedulers set RANK for everything that they start; only for `train` it names the writer."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)  # the banner sets it
    with stage_banner("encode", [], [Path("features.h5")]):
        refusal(stage_banner("encode", [], [Path("features.h5")]).__enter__, match="process")
    with stage_banner("train", [], [Path("checkpoints")]), stage_banner("train", [], [Path("checkpoints")]):
        pass
