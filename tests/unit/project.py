"""A project of tiny models in which the stages have been run, without DVC."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from pipeline.captions import CaptionRecord, ImageRecord, read_captions, read_images, select_split
from pipeline.datasets.prepare import prepare
from pipeline.encoding.encode import encode_images
from pipeline.evaluation.evaluate import EvaluatePaths, evaluate
from pipeline.features.store import FeatureStore
from pipeline.files.json_files import read_json, read_jsonl, write_json
from pipeline.hardware.execution import Execution
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.params.schema import Params
from pipeline.retrieval.retrieve import RetrievePaths, retrieve
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import tokenize_captions
from pipeline.training.outputs import TrainPaths
from pipeline.training.train import train
from tests.stage_paths import placed
from tests.tiny_llama import CPU


@dataclass(frozen=True)
class Project:
    """A folder in which the stages have been run, laid out as dvc.yaml lays it out."""

    folder: Path
    params: Params

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def best(self) -> Path:
        return self.data / "best.safetensors"

    @property
    def captioner(self) -> FeatureCaptioner:
        """The best epoch's model, which captions features."""
        return FeatureCaptioner.load(load_checkpoint(self.best), CPU, None)

    def features(self, image_id: str) -> Tensor:
        """Read the features of an image, `[1, P, D_v]`."""
        with FeatureStore(self.data / "features.h5") as store:
            return torch.from_numpy(store.read([image_id]))

    @property
    def images(self) -> list[ImageRecord]:
        return read_images(self.data / "images.jsonl")

    @property
    def records(self) -> list[CaptionRecord]:
        return read_captions(self.data / "captions.jsonl")

    @property
    def test_images(self) -> list[ImageRecord]:
        ids = {record.image_id for record in select_split(self.records, "test")}
        return [image for image in self.images if image.image_id in ids]

    def execution(self, stage: str) -> Execution:
        return Execution(CPU, self.params.runtime, self.folder / ".scratch" / stage)

    def run(self) -> None:
        """Run all stages up to evaluation."""
        params, data = self.params, self.data
        self.prepare()
        encode_images(data / "images.jsonl", data / "features.h5", params.encoder, self.execution("encode"))
        retrieve(placed(RetrievePaths(), self.folder), params.prompt.similar_captions)
        tokenizer = CaptionTokenizer(params.prompt, params.language_model)
        tokenize_captions(data / "captions.jsonl", data / "tokens.h5", tokenizer)
        train(placed(TrainPaths(), self.folder), params, self.execution("train"))
        self.evaluate()

    def prepare(self, workers: int = 1) -> str:
        data = self.data
        images, captions = data / "images.jsonl", data / "captions.jsonl"
        return prepare(self.params.data, images, captions, data / "images", workers)

    def evaluate(self, scratch: str = "evaluate") -> dict[str, Any]:
        return evaluate(placed(EvaluatePaths(), self.folder), self.params, self.execution(scratch))

    def outputs(self) -> dict[str, bytes]:
        """What training and evaluation left, by path; not what it cost, which no two runs agree on."""
        files = [*self.data.glob("checkpoints/*"), *self.data.glob("predictions/*"), self.best]
        files += [*self.folder.glob("metrics/*"), *self.folder.glob("plots/*")]
        found = {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}
        del found["metrics/cost.json"]
        return found

    def predictions(self, split: str) -> dict[str, str]:
        """Those of the best epoch, by image id."""
        epoch = read_json(self.folder / "metrics" / "evaluate.json")["best_epoch"]
        rows = read_jsonl(self.data / "predictions" / f"epoch_{epoch:03d}_{split}.jsonl")
        return {row["image_id"]: row["caption"] for _, row in rows}


def write_dvc_lock(process: int) -> None:
    """Let a process hold DVC's lock of the current folder, as `dvc repro` does while it runs."""
    locks = {"write": {"/data": {"pid": process, "cmd": "dvc repro"}}, "read": {}}
    write_json(Path(".dvc/tmp/rwlock"), locks)


def refuse_to_load(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the language model was loaded")


@contextmanager
def restored(path: Path) -> Iterator[bytes]:
    """The content of a file that is changed meanwhile, and has that content again afterwards."""
    content = path.read_bytes()
    try:
        yield content
    finally:
        path.write_bytes(content)
