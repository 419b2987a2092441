"""One run at a time: the second is told who holds the lock, and no lock outlives its holder."""

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


def interrupted(path: Path) -> None:
    with file_lock(path, "train"):
        assert str(os.getpid()) in path.with_name(f"{path.name}.json").read_text()
        raise KeyboardInterrupt


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


def test_the_second_is_told_who_holds_it_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "encode.lock"
    with holder(path) as process:
        with pytest.raises(PipelineError) as caught, file_lock(path, "encode"):
            pass
        said = str(caught.value)
        assert said.startswith("encode is under way in this folder already, by process ")
        assert f"by process {process} on {socket.gethostname()} since 20" in said
        assert str(path) in said
    with file_lock(path, "encode"):
        pass


def test_a_holder_that_has_not_signed_yet_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path):
        (tmp_path / "lock.json").write_text("{")
        with (
            pytest.raises(PipelineError, match="already, by another process; wait"),
            file_lock(path, "train"),
        ):
            pass


def test_it_is_free_after_an_error_and_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(path)
    assert not (tmp_path / "lock.json").exists()


def test_a_stage_that_has_one_process_is_locked_whatever_a_cluster_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job schedulers set RANK for everything that they start; of `train` alone it says who writes."""
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
