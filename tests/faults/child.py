"""A stage in its own process, to be killed, stopped, interrupted or starved of disk at a chosen moment.

A server process imports the models' libraries once and is forked for each attempt (`multiprocessing`'s
forkserver), so that an attempt costs the stage's own work and not three seconds of imports.
"""

import fcntl
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.faults.work import count_work

_SERVER = multiprocessing.get_context("forkserver")
# A child imports its parent's main module again: the last two make that cheap.
_PRELOADED = """
    stages.console pipeline.encoding.encode pipeline.training.train pipeline.evaluation.evaluate
    pipeline.regions.caption_regions pipeline.report.report pipeline.datasets.prepare accelerate bitsandbytes
    transformers.models.clip.modeling_clip transformers.models.llama.modeling_llama tests.faults.suite pytest
""".split()  # noqa: SIM905
_PIPE_BYTES = 1 << 20
LONGEST = 300.0


@dataclass(frozen=True)
class Fault:
    """What happens to a stage.

    Attributes:
        at_change: before the stage's change of that number of the project's files (opened to write, renamed,
            removed, a folder made) it gets `signal`.
        in_swap: it gets `signal` between the two renames that replace a folder.
        signal: SIGKILL, SIGINT (Ctrl-C), or SIGSTOP to let others act at that moment.
        file_limit: bytes that no file may grow beyond (RLIMIT_FSIZE).
    """

    at_change: int | None = None
    in_swap: bool = False
    signal: int = signal.SIGKILL
    file_limit: int | None = None


NO_FAULT = Fault()


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: exit code (-9: killed), output, seconds, changes of files and work."""

    code: int | None
    printed: str
    seconds: float
    changes: int
    work: int

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def refused(self) -> bool:
        """Exit 1 with one sentence on what is wrong, and no traceback."""
        return self.code == 1 and self.printed.count("Error: ") == 1 and "Traceback" not in self.printed

    @property
    def last_line(self) -> str:
        """Exit code, and the sentence that was printed last."""
        text = self.printed.strip()
        start = text.rfind("Error: ") if "Error: " in text else text.rfind("\n") + 1
        return f"exit {self.code}: {' '.join(text[start:].split()):.300}"


@dataclass
class Attempt:
    """A stage that is running."""

    process: ForkServerProcess
    output: Connection
    changes: Any
    work: Any
    begun: float = field(default_factory=time.monotonic)

    def wait_until_stopped(self) -> bool:
        """Whether it stopped itself; False where it ended first."""
        status = Path(f"/proc/{self.process.pid}/stat")
        while self.process.is_alive():
            if status.read_text().rpartition(")")[2].split()[0] == "T":
                return True
            time.sleep(0.005)
        return False

    def end(self, seconds: float = LONGEST) -> Ended:
        """Wait that long for its end, else kill it."""
        self.process.join(max(0.0, self.begun + seconds - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        took = time.monotonic() - self.begun
        with open(self.output.fileno(), "rb", closefd=False) as pipe, self.output:
            printed = pipe.read().decode(errors="replace")
        return Ended(self.process.exitcode, printed, took, self.changes.value, self.work.value)


def start(folder: Path, stage: str, fault: Fault = NO_FAULT) -> Attempt:
    """Start a stage in a project's folder."""
    return start_call(folder, run_stage, (stage,), fault)


def start_call(
    folder: Path, call: Callable[..., None], arguments: tuple[Any, ...] = (), fault: Fault = NO_FAULT
) -> Attempt:
    """Start a function in a project's folder; its output is kept."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    _SERVER.set_forkserver_preload(_PRELOADED)
    # Not a file, whose size a fault may limit. Nobody reads before the end: what is printed must fit.
    reader, writer = _SERVER.Pipe(duplex=False)
    fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    changes = _SERVER.Value("l", 0, lock=False)
    work = _SERVER.Value("l", 0, lock=False)
    process = _SERVER.Process(
        target=_in_folder, args=(folder, (writer, changes, work), fault, call, arguments)
    )
    process.start()
    writer.close()
    return Attempt(process, reader, changes, work)


def run(folder: Path, stage: str, fault: Fault = NO_FAULT) -> Ended:
    """Run a stage to its end."""
    return start(folder, stage, fault).end()


def run_stage(stage: str) -> None:
    """Run the stage's own command, as `python -m stages.NAME` does; exits."""
    importlib.import_module(f"stages.{stage}").main(args=[], prog_name=f"stages.{stage}")


def _in_folder(
    folder: Path,
    reports: tuple[Connection, Any, Any],
    fault: Fault,
    call: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    output, changes, work = reports
    os.chdir(folder)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    # In the background of a shell Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    count_work(work)
    sys.addaudithook(_Hook(os.fspath(folder), changes, fault))
    if fault.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_limit, fault.file_limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    call(*arguments)


class _Hook:
    """Counts changes of the project's files just before they happen, and sends the signal at its time."""

    def __init__(self, folder: str, changes: Any, fault: Fault) -> None:
        self._folder, self._changes, self._fault, self._sent = folder, changes, fault, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if not changes or not self._is_ours(arguments[0]):
            return
        self._changes.value += 1
        # The second rename moves a hidden folder to a name that is not hidden; an old one is put back so too.
        swaps = event == "os.rename" and Path(arguments[0]).is_dir() and Path(arguments[1]).name[0] != "."
        swaps = swaps and Path(arguments[0]).suffix != ".old"
        due = self._changes.value == self._fault.at_change or (self._fault.in_swap and swaps)
        if due and not self._sent:
            self._sent = True
            os.kill(os.getpid(), self._fault.signal)

    def _is_ours(self, path: object) -> bool:
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else b""
        return isinstance(name, str) and (not name.startswith("/") or name.startswith(self._folder))
