"""Encoding on a Ray cluster: a pool of actors, each with the encoder, writes the same blocks.

The images are cut into the batches that one process would make, so the blocks, and the store that is joined
from them, have the same bytes. An actor gets a list of images (a share), reads the files and writes the
blocks itself: images and scratch folder lie on a disk that all machines of the cluster see.
"""

import json
import os
import shutil
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.captions import ImageRecord, read_images, write_images
from pipeline.encoding.batches import EncodedBatch, Unreadable, encode_batches
from pipeline.encoding.block_files import DAMAGED, Block, block_path
from pipeline.encoding.encode import encode_facts
from pipeline.errors import PipelineError
from pipeline.files.batched import batched
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, canonical_json
from pipeline.hardware.execution import Execution
from pipeline.hardware.memory import keep_freed_memory
from pipeline.vision.encoder import EncoderSpec, ImageEncoder
from pipeline.vision.load import load_encoder

# Batches of a share: many, so that reading ahead pays; few enough that all actors end at about the same time.
_MOST_BATCHES = 64
_SHARES_OF_AN_ACTOR = 8
# Ray itself asks an address where nobody answers again and again, for minutes.
_SECONDS_TO_ANSWER = 5
# Only names of files pass through Ray's shared memory.
_OBJECT_STORE = 128 * 2**20


@dataclass(frozen=True)
class Pool:
    """The actors of a run.

    Attributes:
        actors: how many there are.
        device: where each one's encoder is, `cpu` or `cuda`.
        threads: that each one's PyTorch computes with.
    """

    actors: int
    device: str
    threads: int

    @property
    def needs(self) -> dict[str, float]:
        """What an actor takes of the cluster, in Ray's words."""
        return {"num_cpus": 1, "num_gpus": 1} if self.device == "cuda" else {"num_cpus": self.threads}


@dataclass(frozen=True)
class _Task:
    """What every actor has to know."""

    folder: Path  # that relative paths start from
    blocks: Path
    execution: Execution
    spec: EncoderSpec
    facts: JsonObject  # that features follow from, where the run was started
    pool: Pool


def encode_with_ray(
    images: Iterable[ImageRecord], count: int, folder: Path, encoder: ImageEncoder, execution: Execution
) -> Generator[EncodedBatch, None, None]:
    """Encode `count` images into blocks in `folder` on the cluster; yields what became of each batch.

    The cluster is the one that RAY_ADDRESS names or this process is connected to, otherwise one on this
    machine, for this call.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise PipelineError(
            "runtime.encode_engine is ray, but Ray is not installed; run `make ray`, or use local."
        ) from error

    runtime, shares = execution.runtime, folder / "shares"
    try:
        started = _connect(ray)
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"no Ray cluster can be reached at {os.environ.get('RAY_ADDRESS', 'this machine')} "
            f"({_first_line(error)}); check RAY_ADDRESS and `ray status`, or use runtime.encode_engine=local."
        ) from error
    try:
        pool = plan_pool(ray.cluster_resources(), runtime.device, torch.get_num_threads())
        files = _write_shares(shares, images, _share_size(count, runtime.encode_batch_size, pool.actors))
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        task = _Task(Path.cwd(), folder, execution, encoder.spec, encode_facts(encoder.spec), pool)
        results = (
            ray.data.from_items([{"share": str(file)} for file in files], override_num_blocks=len(files))
            .map(
                _Encoder,
                fn_constructor_args=(task,),
                compute=ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=1),
                **pool.needs,
            )
            .iter_rows()
        )
        for row in results:
            yield from _batches_of(json.loads(row["result"]), folder)
    except ray.exceptions.RayError as error:
        raise PipelineError(
            f"encoding on the Ray cluster failed ({_first_line(error)}); mend that and run the command "
            "again, which continues from the blocks that are finished."
        ) from error
    finally:
        shutil.rmtree(shares, ignore_errors=True)
        if started:
            ray.shutdown()


def _connect(ray: Any) -> bool:
    """Connect to a cluster; whether it had to be started, on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address := os.environ.get("RAY_ADDRESS"):
        _require_answer(address)
        ray.init(**quiet)
        return False
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        _node_ip_address="127.0.0.1",
        **quiet,
    )
    return True


def _require_answer(address: str) -> None:
    """Raises OSError where nobody listens at `HOST:PORT` or `ray://HOST:PORT`; Ray's own words pass."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER):
            pass


def plan_pool(resources: Mapping[str, float], device: str, threads: int) -> Pool:
    """One actor a GPU; without GPUs one for each `threads` cores.

    So many as a single process would compute with: sums, and so the bytes, can depend on their number.

    Args:
        resources: the cluster's, by Ray's names.
        device: `runtime.device`.
        threads: that PyTorch computes with in this process.

    Raises:
        PipelineError: where GPUs are asked for and there are none.
    """
    gpus = int(resources.get("GPU", 0))
    if device.startswith("cuda") and not gpus:
        raise PipelineError(f"runtime.device is {device}, but the Ray cluster has no GPU; use auto or cpu.")
    if device in ("cpu", "mps") or not gpus:
        return Pool(max(1, int(resources["CPU"]) // threads), "cpu", threads)
    return Pool(gpus, "cuda", threads)


def _share_size(count: int, batch_size: int, actors: int) -> int:
    """Images of a share: whole batches."""
    batches = -(-count // batch_size)
    return batch_size * min(_MOST_BATCHES, max(1, batches // (actors * _SHARES_OF_AN_ACTOR)))


def _write_shares(folder: Path, images: Iterable[ImageRecord], size: int) -> list[Path]:
    """Write each share as a list like images.jsonl; an earlier run's are deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    files = []
    for number, share in enumerate(batched(images, size)):
        files.append(folder / f"{number:08}.jsonl")
        write_images(files[-1], share)
    return files


def _batches_of(result: JsonObject, folder: Path) -> Iterator[EncodedBatch]:
    """What became of the batches of one share, as `_Encoder` says."""
    if result["error"]:
        raise PipelineError(result["error"])
    for count, name, unreadable in result["batches"]:
        block = None if name is None else folder / name
        if block is not None and (fault := _fault_of(block)) is not None:
            raise PipelineError(
                f"{block} was written on the Ray cluster, but cannot be read here ({fault}); the project "
                "must lie on a disk that all machines of it share."
            )
        yield EncodedBatch(count, block, tuple(Unreadable(*one) for one in unreadable))


def _fault_of(block: Path) -> Exception | None:
    """Why there is no good block at that path; None where there is one."""
    try:
        Block(block)
    except (*DAMAGED, PipelineError) as error:
        return error
    return None


class _Encoder:
    """An actor: the encoder, and what it does with a share."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._encoder: ImageEncoder | None = None
        torch.set_num_threads(task.pool.threads)
        keep_freed_memory()

    def __call__(self, row: JsonObject) -> JsonObject:
        """Encode the images of `row["share"]`; gives what `_batches_of` takes."""
        result: JsonObject = {"error": "", "batches": []}
        try:
            os.chdir(self._task.folder)
            for done in self._encode(read_images(Path(row["share"]))):
                block = done.block and done.block.name
                result["batches"].append([done.count, block, list(map(astuple, done.unreadable))])
        except PipelineError as error:
            # As a value: Ray would wrap an exception in its own.
            result["error"] = str(error)
        except OSError as error:
            result["error"] = (
                f"{socket.gethostname()} cannot work in {self._task.folder} ({error}); the project must lie "
                "on a disk that all machines of the Ray cluster share."
            )
        # As text: columns of a table have one type each, and an empty list has none.
        return {"result": canonical_json(result)}

    def _encode(self, images: Iterable[ImageRecord]) -> Iterator[EncodedBatch]:
        task = self._task
        if self._encoder is None:
            self._encoder = _load(task)
        missing = []
        for batch in batched(images, task.execution.runtime.encode_batch_size):
            block = block_path(task.blocks, [image.sha256 for image in batch])
            # Written by an actor that was killed later in this share.
            if block.exists() and _fault_of(block) is None:
                yield EncodedBatch(len(batch), block)
            else:
                missing.append(batch)
        yield from encode_batches(self._encoder, missing, task.blocks, task.execution.runtime)


def _first_line(error: BaseException) -> str:
    """What a library's error says first; Ray's go on with the traceback of another machine."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _load(task: _Task) -> ImageEncoder:
    encoder = load_encoder(
        task.spec.params, torch.device(task.pool.device), task.execution.runtime.model_cache
    )
    require_equal_machines(encode_facts(encoder.spec), task.facts)
    return encoder


def require_equal_machines(found: JsonObject, wanted: JsonObject) -> None:
    """Compare this machine's encoder, code and libraries with those where the run was started.

    Raises PipelineError naming this machine and the first fact that differs.
    """
    for name, value, expected in differences(found, wanted):
        raise PipelineError(
            f"{socket.gethostname()} encodes otherwise than the machine where the run was started: {name} is "
            f"{value!s:.24}, expected {expected!s:.24}; all machines of the Ray cluster need the same model, "
            "code and libraries."
        )
