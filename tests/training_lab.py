"""A small training run for tests: random features, tokenized captions, and means to interrupt it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pipeline.captions import CaptionRecord, ImageRecord, write_captions
from pipeline.features.store import FeatureStore, write_store
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.hardware.processes import ONE_PROCESS, Processes
from pipeline.params.schema import LoraParams, Params, ProjectorParams
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import read_tokens, tokenize_captions
from pipeline.training.features import TrainingFeatures, open_features
from pipeline.training.outputs import TrainPaths, TrainSummary
from pipeline.training.train import train
from pipeline.training.trainer import Trainer

NUM_TOKENS, WIDTH = 4, 6
SPEC: dict[str, Any] = {"name": "random", "num_tokens": NUM_TOKENS, "width": WIDTH}
WORDS = ("red circle", "green square", "blue star", "large cross")
# Steps of an epoch of the lab: eight images, one row each, four rows a batch.
STEPS = 2


def save_features(
    path: Path, count: int, fill: float | None = None, spec: dict[str, Any] | None = None, seed: int = 0
) -> None:
    values = np.random.default_rng(seed).normal(size=(count, NUM_TOKENS, WIDTH)).astype(np.float16)
    if fill is not None:
        values[-1] = fill
    records = [ImageRecord(f"{n}.png", f"{n}.png", f"{n:064x}", 8, 8) for n in range(count)]
    write_store(path, records, spec or SPEC, values)


@dataclass(frozen=True)
class Lab:
    """Random features of some images and their tokenized captions, ready to train on."""

    features: Path
    tokens: Path
    params: Params

    def open_features(self, where: Literal["memory", "disk"]) -> TrainingFeatures:
        """The features of the training images, as training opens them."""
        with FeatureStore(self.features) as store:
            images = dict(zip(store.image_ids, store.sha256, strict=True))
        trained_on = {image_id: images[image_id] for image_id in read_tokens(self.tokens, "train").image_ids}
        return open_features(self.features, SPEC, trained_on, where)

    def train(
        self,
        folder: Path,
        *,
        dropout: float = 0.0,
        match_embedding_norm: bool = True,
        save_every_seconds: float = 1e-9,
        language_model: str | None = None,
        lora: LoraParams | None = None,
        features: Literal["auto", "memory", "disk"] = "auto",
        processes: Processes = ONE_PROCESS,
        **changes: Any,
    ) -> TrainSummary:
        """Train into `folder`, with some of `train`'s parameters changed."""
        paths = TrainPaths(
            features=self.features,
            tokens=self.tokens,
            checkpoints=folder / "checkpoints",
            metrics=folder / "train.json",
            cost=folder / "cost.json",
            curve=folder / "training.csv",
        )
        settings = replace(
            self.params,
            train=replace(self.params.train, **changes),
            projector=ProjectorParams(16, True, match_embedding_norm, dropout),
            language_model=replace(
                self.params.language_model, name=language_model or self.params.language_model.name
            ),
            lora=lora or self.params.lora,
        )
        runtime = replace(settings.runtime, save_every_seconds=save_every_seconds, features=features)
        placement = choose_placement(runtime.device)
        return train(paths, settings, Execution(placement, runtime, folder / "scratch", processes))


def make_lab(folder: Path, params: Params, images: int) -> Lab:
    """A lab whose images have one to three captions."""
    records = [
        CaptionRecord(
            f"{n}.png", "train", tuple(f"A {WORDS[(n + c) % 4]} {'on top ' * c}" for c in range(1 + n % 3))
        )
        for n in range(images)
    ]
    write_captions(folder / "captions.jsonl", records)
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    tokenize_captions(folder / "captions.jsonl", folder / "tokens.h5", tokenizer, max_tokens=48)
    save_features(folder / "features.h5", images)
    return Lab(folder / "features.h5", folder / "tokens.h5", params)


def outputs(folder: Path) -> dict[str, bytes]:
    """All that the stage leaves behind."""
    files = [*(folder / "checkpoints").iterdir(), folder / "train.json", folder / "training.csv"]
    return {path.name: path.read_bytes() for path in files}


@contextmanager
def interrupted_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[None]:
    """Ctrl-C at the beginning of the step after `steps` steps."""
    step, taken = Trainer._step, 0

    def interrupt(self: Trainer, *arguments: Any) -> tuple[float, float, float]:
        nonlocal taken
        if taken == steps:
            raise KeyboardInterrupt
        taken += 1
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            yield


def losses(folder: Path) -> list[float]:
    lines = (folder / "training.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,loss,learning_rate,gradient_norm"
    return [float(line.split(",")[2]) for line in lines[1:]]
