"""Locks: a second run is told which process holds the lock, and no lock outlives its holder.

Run: .venv/bin/python -m pytest tests/unit/files/test_locks.py
"""

import logging
import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files.locks import file_lock
from stages.console import stage_banner

SPAWN = multiprocessing.get_context("spawn")


def hold(path: Path, ready: Event) -> None:
    with file_lock(path, "encode"):
        ready.set()
        SPAWN.Event().wait(60)


@contextmanager
def holder(path: Path) -> Iterator[int]:
    """The id of another process that holds the lock; it is killed at the end."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    try:
        yield process.pid or 0
    finally:
        process.kill()
        process.join()


def test_a_second_run_is_told_the_holder_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "encode.lock"
    with holder(path) as process:
        signed = f"encode is .* by process {process} on {socket.gethostname()} since 20.*{path}"
        with pytest.raises(PipelineError, match=signed), file_lock(path, "encode"):
            pass
        path.with_name("encode.lock.json").write_text("{")
        with pytest.raises(PipelineError, match="by another process"), file_lock(path, "encode"):
            pass
    with file_lock(path, "encode"):
        pass


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    def interrupt() -> None:
        with file_lock(tmp_path / "lock", "train"):
            assert str(os.getpid()) in (tmp_path / "lock.json").read_text()
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert not (tmp_path / "lock.json").exists()


def test_a_stage_with_one_process_is_locked_even_if_a_cluster_sets_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job schedulers set RANK for everything that they start; only for `train` it names the writer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)  # the banner sets it
    with (
        stage_banner("encode", [], [Path("features.h5")]),
        pytest.raises(PipelineError, match="process"),
        stage_banner("encode", [], [Path("features.h5")]),
    ):
        pass
    with stage_banner("train", [], [Path("checkpoints")]), stage_banner("train", [], [Path("checkpoints")]):
        pass
