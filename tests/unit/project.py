"""A project of tiny models in which the stages have been run, without DVC."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import h5py
import pytest

from pipeline.captions import ImageRecord, read_captions, read_images, select_split
from pipeline.datasets.prepare import prepare
from pipeline.encoding.encode import encode_images
from pipeline.evaluation.evaluate import EvaluatePaths, evaluate
from pipeline.files.json_files import read_jsonl
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import Params
from pipeline.retrieval.retrieve import RetrievePaths, retrieve
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import tokenize_captions
from pipeline.training.outputs import TrainPaths
from pipeline.training.train import train
from tests.stage_paths import placed

CPU = choose_placement("cpu")


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
    def test_images(self) -> list[ImageRecord]:
        ids = {r.image_id for r in select_split(read_captions(self.data / "captions.jsonl"), "test")}
        return [image for image in read_images(self.data / "images.jsonl") if image.image_id in ids]

    def execution(self, stage: str) -> Execution:
        return Execution(CPU, self.params.runtime, self.folder / ".scratch" / stage)

    def run_until_training(self) -> None:
        params, data = self.params, self.data
        images, captions = data / "images.jsonl", data / "captions.jsonl"
        prepare(params.data, images, captions, data / "images", workers=1)
        encode_images(images, data / "features.h5", params.encoder, self.execution("encode"))
        self.retrieve()
        tokenizer = CaptionTokenizer(params.prompt, params.language_model)
        tokenize_captions(captions, data / "tokens.h5", tokenizer)
        self.train()

    def retrieve(self) -> None:
        retrieve(placed(RetrievePaths(), self.folder), self.params.prompt.similar_captions)

    def train(self) -> None:
        train(placed(TrainPaths(), self.folder), self.params, self.execution("train"))

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
        epoch = json.loads((self.folder / "metrics" / "evaluate.json").read_text())["best_epoch"]
        rows = read_jsonl(self.data / "predictions" / f"epoch_{epoch:03d}_{split}.jsonl")
        return {row["image_id"]: row["caption"] for _, row in rows}


def write_dvc_lock(folder: Path, process: int) -> None:
    """Let a process hold DVC's lock of a project, as `dvc repro` does while it runs."""
    (folder / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    locks = {"write": {"/data": {"pid": process, "cmd": "dvc repro"}}, "read": {}}
    (folder / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(locks))


def refuse_to_load(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the language model was loaded")


@contextmanager
def counted_openings() -> Iterator[Counter[str]]:
    """How often each file is opened while it lasts, by name."""
    opened: Counter[str] = Counter()
    open_file, open_store = io.open, h5py.File

    def count(open_it: Any) -> Any:
        def opening(path: Any, *args: Any, **kwargs: Any) -> Any:
            opened[Path(path).name] += 1
            return open_it(path, *args, **kwargs)

        return opening

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", count(open_file))
        patch.setattr(h5py, "File", count(open_store))
        yield opened
