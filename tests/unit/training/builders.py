"""A small training run: random features, tokenized captions, adapters; interruptions and damage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.captions import CaptionRecord, ImageRecord, write_captions
from pipeline.features.store import FeatureStore, write_store
from pipeline.hardware.device import Placement
from pipeline.hardware.execution import Execution
from pipeline.hardware.processes import ONE_PROCESS, Processes
from pipeline.params.schema import LoraParams, Params, ProjectorParams
from pipeline.retrieval.retrieve import RetrievePaths, retrieve
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import read_tokens, tokenize_captions
from pipeline.training.batches import TrainingData, read_neighbors
from pipeline.training.features import TrainingFeatures
from pipeline.training.optimizer import StepOptimizer
from pipeline.training.outputs import TrainPaths, TrainSummary
from pipeline.training.train import train
from tests.refusals import call_before, flipped
from tests.tiny_llama import CPU, NUM_TOKENS, WIDTH

SPEC: dict[str, Any] = {"name": "random", "num_tokens": NUM_TOKENS, "width": WIDTH}
WORDS = ("red circle", "green square", "blue star", "large cross")
# Steps of an epoch of the lab: eight images, one row each, four rows a batch.
STEPS = 2
PROJECTOR = {"hidden.weight", "hidden.bias", "output.weight", "output.bias", "mean", "scale"}
LORA = LoraParams(rank=4, alpha=16.0, dropout=0.0, targets=("q_proj", "v_proj"))
OFF = replace(LORA, rank=0)
# Adapters of the tiny Llama: two layers of width 64, whose grouped values have width 32.
SHAPES = {
    f"lora.model.layers.{layer}.self_attn.{name}.lora_{matrix}.weight": shape
    for layer in (0, 1)
    for name, width in (("q_proj", 64), ("v_proj", 32))
    for matrix, shape in (("A", (4, 64)), ("B", (width, 4)))
}


def save_features(path: Path, count: int, fill: float | None = None, seed: int = 0) -> None:
    """Write a store of `count` images; `fill` replaces the features of the last image."""
    values = np.random.default_rng(seed).normal(size=(count, NUM_TOKENS, WIDTH)).astype(np.float16)
    if fill is not None:
        values[-1] = fill
    records = [ImageRecord(f"{n:02}.png", f"{n:02}.png", f"{n:064x}", 8, 8) for n in range(count)]
    write_store(path, records, SPEC, values)


@dataclass(frozen=True)
class Lab:
    """Random features of some images and their tokenized captions, ready to train on."""

    features: Path
    tokens: Path
    params: Params
    placement: Placement = CPU

    @property
    def neighbors(self) -> Path:
        return self.features.with_name("neighbors.h5")

    @contextmanager
    def data(self) -> Iterator[TrainingData]:
        """Open the data as training does."""
        tokens = read_tokens(self.tokens, "train")
        with FeatureStore(self.features) as store:
            features = TrainingFeatures(store, tokens.image_ids, "memory")
            yield TrainingData(features, tokens, *read_neighbors(self.neighbors, tokens))

    def execution(self, folder: Path, processes: Processes = ONE_PROCESS, **runtime: Any) -> Execution:
        """Return how runs in `folder` are carried out, with some of `runtime` changed."""
        changed = replace(self.params.runtime, **runtime)
        return Execution(self.placement, changed, folder / "scratch", processes)

    def train(
        self,
        folder: Path,
        *,
        dropout: float = 0.0,
        match_embedding_norm: bool = True,
        lora: LoraParams | None = None,
        runtime: dict[str, Any] | None = None,
        processes: Processes = ONE_PROCESS,
        **changes: Any,
    ) -> TrainSummary:
        """Train into `folder`, with some of `train`'s parameters changed; saved after each step."""
        paths = TrainPaths(
            features=self.features,
            tokens=self.tokens,
            neighbors=self.neighbors,
            checkpoints=folder / "checkpoints",
            metrics=folder / "train.json",
            cost=folder / "cost.json",
            curve=folder / "training.csv",
        )
        settings = replace(
            self.params,
            train=replace(self.params.train, **changes),
            projector=ProjectorParams(16, True, match_embedding_norm, dropout),
            lora=lora or self.params.lora,
        )
        execution = self.execution(folder, processes, **{"save_every_seconds": 1e-9, **(runtime or {})})
        return train(paths, settings, execution)


def make_lab(
    folder: Path, params: Params, images: int = 8, records: Sequence[CaptionRecord] | None = None
) -> Lab:
    """Make a lab of these records, or of images that have one to three captions."""
    records = records or [
        CaptionRecord(
            f"{n:02}.png", "train", tuple(f"A {WORDS[(n + c) % 4]} {'on top ' * c}" for c in range(1 + n % 3))
        )
        for n in range(images)
    ]
    paths = retrieve_paths(folder)
    write_captions(paths.captions, records)
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    tokenize_captions(paths.captions, folder / "tokens.h5", tokenizer)
    save_features(paths.features, len(records))
    retrieve(paths, params.prompt.similar_captions)
    return Lab(paths.features, folder / "tokens.h5", params)


def retrieve_paths(folder: Path) -> RetrievePaths:
    """Return the paths of retrieving neighbors, all of them in one folder."""
    names = ("features.h5", "captions.jsonl", "memory.h5", "neighbors.h5")
    return RetrievePaths(*(folder / name for name in names))


def checkpoint(folder: Path, epoch: int = 1) -> Path:
    """Return the path of the published checkpoint of an epoch."""
    return folder / "checkpoints" / f"epoch_{epoch:03d}.safetensors"


def outputs(folder: Path) -> dict[str, bytes]:
    """Read all outputs of the stage except its cost."""
    files = [*(folder / "checkpoints").iterdir(), folder / "train.json", folder / "training.csv"]
    return {path.name: path.read_bytes() for path in files}


def losses(folder: Path) -> list[float]:
    """Read the losses of all steps."""
    lines = (folder / "training.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,loss,learning_rate,gradient_norm"
    return [float(line.split(",")[2]) for line in lines[1:]]


def scratch_file(folder: Path, name: str) -> Path:
    """Find a file of the only training in the scratch folder."""
    (path,) = (folder / "scratch").glob(f"*/{name}")
    return path


def flip_bit(path: Path) -> None:
    """Damage a file by one bit, at its end."""
    path.write_bytes(flipped(path.read_bytes()))


@contextmanager
def interrupted_after(steps: int) -> Iterator[None]:
    """Press Ctrl-C at the beginning of the step after `steps` steps."""
    taken = count()

    def interrupt(*_: object) -> None:
        if next(taken) == steps:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        call_before(patch, StepOptimizer, "compute_gradients", interrupt)
        with pytest.raises(KeyboardInterrupt):
            yield
