"""Encode on a Ray cluster: a pool of actors, each with the encoder, writes the blocks.

The images are cut into the batches that one process would make, so the blocks, and the store that is written
from them, have the same bytes. An actor gets a list of images (a share), reads the files and writes the
blocks: images and scratch folder lie on a disk that all machines of the cluster share.
"""

import json
import os
import shutil
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.captions import ImageRecord, read_images, write_images
from pipeline.encoding.batches import EncodedBatch, choose_batch, encode_batches
from pipeline.encoding.block_files import DAMAGED, Block, block_path
from pipeline.encoding.encode import encoding_provenance
from pipeline.errors import PipelineError
from pipeline.files.batched import batched
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, canonical_json
from pipeline.hardware.execution import Execution
from pipeline.hardware.memory import keep_freed_memory
from pipeline.vision.encoder import EncoderSpec, ImageEncoder
from pipeline.vision.load import load_encoder

# Batches of a share: many, so that reading ahead pays; few enough that all actors end at about the same time.
_MAX_BATCHES = 64
_SHARES_PER_ACTOR = 8
# Ray itself asks an address without an answer again and again, for minutes.
_SECONDS_TO_ANSWER = 5
# Only names of files pass through Ray's shared memory.
_OBJECT_STORE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Pool:
    """The actors of a run.

    Attributes:
        actors: their number.
        device: the device of each actor's encoder, `cpu` or `cuda`.
        threads: PyTorch's threads in each actor.
    """

    actors: int
    device: str
    threads: int


@dataclass(frozen=True)
class _Task:
    """What every actor has to know."""

    folder: Path  # relative paths start from it
    blocks: Path
    execution: Execution
    spec: EncoderSpec
    provenance: JsonObject  # of features, on the machine where the run was started
    pool: Pool


def encode_with_ray(
    images: Iterable[ImageRecord], count: int, folder: Path, encoder: ImageEncoder, execution: Execution
) -> Generator[EncodedBatch, None, None]:
    """Encode `count` images into blocks in `folder` on the cluster; yield the result of each batch.

    The cluster is the one that RAY_ADDRESS names or this process is connected to, otherwise one on this
    machine for this call.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise PipelineError(
            "runtime.encode_engine is ray, but Ray is not installed. Fix: run `make ray`, or use local."
        ) from error

    runtime, shares = execution.runtime, folder / "shares"
    try:
        started = _connect(ray)
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"No Ray cluster answers at {os.environ.get('RAY_ADDRESS', 'this machine')} "
            f"({_first_line(error)}). Fix: check RAY_ADDRESS and `ray status`, or use "
            "runtime.encode_engine: local."
        ) from error
    try:
        pool = plan_pool(ray.cluster_resources(), runtime.device, torch.get_num_threads())
        size = choose_batch(runtime, execution.placement.device)
        files = _write_shares(shares, images, count, pool.actors, size)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        task = _Task(Path.cwd(), folder, execution, encoder.spec, encoding_provenance(encoder.spec), pool)
        needs = {"num_cpus": 1, "num_gpus": 1} if pool.device == "cuda" else {"num_cpus": pool.threads}
        results = (
            ray.data.from_items([{"share": str(file)} for file in files], override_num_blocks=len(files))
            .map(
                _Encoder,
                fn_constructor_args=(task,),
                compute=ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=1),
                **needs,
            )
            .iter_rows()
        )
        for row in results:
            result = json.loads(row["result"])
            if result["error"]:
                raise PipelineError(result["error"])
            yield from (_batch_of(folder, *batch) for batch in result["batches"])
    except ray.exceptions.RayError as error:
        raise PipelineError(
            f"Encoding on the Ray cluster failed ({_first_line(error)}). "
            "Fix: repair that and run the command again, which continues from the finished blocks."
        ) from error
    finally:
        shutil.rmtree(shares, ignore_errors=True)
        if started:
            ray.shutdown()


def _connect(ray: Any) -> bool:
    """Connect to a cluster; return whether it was started here.

    Raises OSError if nothing listens at an address `HOST:PORT` or `ray://HOST:PORT`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address := os.environ.get("RAY_ADDRESS"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdigit():
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER):
                pass
        ray.init(**quiet)
        return False
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **quiet,
    )
    return True


def plan_pool(resources: Mapping[str, float], device: str, threads: int) -> Pool:
    """Plan one actor for each GPU; without GPUs, one for each `threads` cores.

    An actor computes with as many threads as a single process: sums, and so the bytes, can depend on them.

    Args:
        resources: the cluster's, by Ray's names.
        device: `runtime.device`.
        threads: PyTorch's threads in this process.

    Raises:
        PipelineError: if the device is a GPU and the cluster has none.
    """
    gpus = int(resources.get("GPU", 0))
    if device.startswith("cuda") and not gpus:
        raise PipelineError(f"runtime.device is {device}, but the Ray cluster has no GPU. Use auto or cpu.")
    if device in ("cpu", "mps") or not gpus:
        return Pool(max(1, int(resources["CPU"]) // threads), "cpu", threads)
    return Pool(gpus, "cuda", threads)


def _write_shares(
    folder: Path, images: Iterable[ImageRecord], count: int, actors: int, batch_size: int
) -> list[Path]:
    """Write each share, which is whole batches, as a list like images.jsonl; delete an earlier run's."""
    shutil.rmtree(folder, ignore_errors=True)
    batches = -(-count // batch_size)
    size = batch_size * min(_MAX_BATCHES, max(1, batches // (actors * _SHARES_PER_ACTOR)))
    files = []
    for number, share in enumerate(batched(images, size)):
        files.append(folder / f"{number:08}.jsonl")
        write_images(files[-1], share)
    return files


def _batch_of(folder: Path, count: int, name: str | None, unreadable: list[list[str]]) -> EncodedBatch:
    """The result of a batch, from what `_Encoder` returns."""
    block = None if name is None else folder / name
    if block is not None and (fault := _fault_of(block)) is not None:
        raise PipelineError(
            f"{block} was written on the Ray cluster, but cannot be read here ({fault}). "
            "Fix: put the project on a disk that all machines of the cluster share."
        )
    return EncodedBatch(count, block, tuple((image_id, reason) for image_id, reason in unreadable))


def _fault_of(block: Path) -> Exception | None:
    """The reason why a path is not a good block; None if it is."""
    try:
        Block(block)
    except (*DAMAGED, PipelineError) as error:
        return error
    return None


class _Encoder:
    """An actor with an encoder."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._encoder: ImageEncoder | None = None
        torch.set_num_threads(task.pool.threads)
        keep_freed_memory()

    def __call__(self, row: JsonObject) -> JsonObject:
        """Encode the images of `row["share"]`; return an error or the arguments of `_batch_of`."""
        result: JsonObject = {"error": "", "batches": []}
        try:
            os.chdir(self._task.folder)
            for batch in self._encode(read_images(Path(row["share"]))):
                block = batch.block and batch.block.name
                result["batches"].append([batch.count, block, batch.unreadable])
        except PipelineError as error:
            # As a value: Ray would wrap an exception in its own.
            result["error"] = str(error)
        except OSError as error:
            result["error"] = (
                f"{socket.gethostname()} cannot work in {self._task.folder} ({error}). "
                "Fix: put the project on a disk that all machines of the Ray cluster share."
            )
        # As text: columns of a table have one type each, and an empty list has none.
        return {"result": canonical_json(result)}

    def _encode(self, images: Iterable[ImageRecord]) -> Iterator[EncodedBatch]:
        task = self._task
        device = torch.device(task.pool.device)
        if self._encoder is None:
            cache = task.execution.runtime.model_cache
            self._encoder = load_encoder(task.spec.params, device, cache)
            require_equal_machines(encoding_provenance(self._encoder.spec), task.provenance)
        missing = []
        size = choose_batch(task.execution.runtime, device)
        for batch in batched(images, size):
            block = block_path(task.blocks, [image.sha256 for image in batch])
            # Written by an actor that was killed later in this share.
            if block.exists() and _fault_of(block) is None:
                yield EncodedBatch(len(batch), block)
            else:
                missing.append(batch)
        yield from encode_batches(self._encoder, missing, task.blocks, task.execution.runtime)


def _first_line(error: BaseException) -> str:
    """The first line of a library's error; Ray's continue with the traceback of another machine."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require_equal_machines(actual: JsonObject, expected: JsonObject) -> None:
    """Compare this machine's encoder, code and libraries with those of the machine that started the run.

    Raises PipelineError naming this machine and the first difference.
    """
    for name, value, wanted in differences(actual, expected):
        raise PipelineError(
            f"On {socket.gethostname()}, {name} is {value!s:.24}, expected {wanted!s:.24}. Fix: give all "
            "machines of the Ray cluster the model, code and libraries of the machine that started the run."
        )
