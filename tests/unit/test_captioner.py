"""All stages' functions one after another, and the captioner that they end in, with tiny models.

Run: .venv/bin/python -m pytest tests/unit/test_captioner.py
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import Captioner
from pipeline.captions import ImageRecord, of_split, read_captions, read_images, vocabulary
from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.device import choose_placement
from pipeline.encoder import load_encoder
from pipeline.encoding import encode_images
from pipeline.errors import PipelineError
from pipeline.evaluation import EvaluatePaths, evaluate
from pipeline.feature_store import FeatureStore
from pipeline.generation import generate_ids
from pipeline.images import crop, open_image
from pipeline.metrics.scene_truth import names_object
from pipeline.params import Params
from pipeline.prepare import prepare
from pipeline.prompt import CaptionTokenizer
from pipeline.records import read_jsonl
from pipeline.region_captions import RegionPaths, caption_regions, only_object
from pipeline.regions import REGIONS, named
from pipeline.token_store import tokenize_captions
from pipeline.trained_model import TrainedModel
from pipeline.training import train
from pipeline.training_outputs import TrainPaths
from tests.tiny_models import save_clip, save_llama

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
        ids = {r.image_id for r in of_split(read_captions(self.data / "captions.jsonl"), "test")}
        return [image for image in read_images(self.data / "images.jsonl") if image.image_id in ids]

    def run_until_training(self) -> None:
        params, data = self.params, self.data
        images, captions = data / "images.jsonl", data / "captions.jsonl"
        prepare(params.data, images, captions, data / "dataset.md", data / "images", workers=1)
        scratch = self.folder / ".scratch"
        encode_images(images, data / "features.h5", scratch / "encode", params.encoder, params.runtime, CPU)
        tokenizer = CaptionTokenizer(params.prompt, params.language_model)
        tokenize_captions(captions, data / "tokens.h5", tokenizer, params.prompt.max_caption_tokens)
        paths = TrainPaths(
            features=data / "features.h5",
            tokens=data / "tokens.h5",
            checkpoints=data / "checkpoints",
            metrics=self.folder / "metrics" / "train.json",
            cost=self.folder / "metrics" / "cost.json",
            curve=self.folder / "plots" / "training.csv",
            scratch=scratch / "train",
        )
        train(paths, params.train, params.projector, params.language_model, params.lora, params.runtime, CPU)

    def evaluate(self) -> dict[str, Any]:
        data, folder = self.data, self.folder
        paths = EvaluatePaths(
            checkpoints=data / "checkpoints",
            features=data / "features.h5",
            captions=data / "captions.jsonl",
            predictions=data / "predictions",
            best=self.best,
            metrics=folder / "metrics" / "evaluate.json",
            curve=folder / "plots" / "epochs.csv",
            scratch=folder / ".scratch" / "evaluate",
        )
        return evaluate(paths, self.params.evaluate, self.params.generate, self.params.runtime, CPU)

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


@pytest.fixture(scope="module")
def make_project(
    tiny_params: Params, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Project]:
    """Runs all stages up to evaluation in a folder of their own."""

    def make() -> Project:
        model = replace(tiny_params.language_model, name=str(tiny_llama))
        params = replace(tiny_params, language_model=model)
        project = Project(tmp_path_factory.mktemp("project"), params)
        project.run_until_training()
        project.evaluate()
        return project

    return make


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()


@pytest.fixture(scope="module")
def captioner(project: Project) -> Captioner:
    return Captioner.load(project.best, device="cpu")


def refuse_to_load(*_: object) -> NoReturn:
    raise AssertionError("the language model was loaded")


def test_the_metrics_have_the_documented_keys_and_no_nan(project: Project) -> None:
    def no_nan(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} in the metrics")

    text = (project.folder / "metrics" / "evaluate.json").read_text()
    metrics = json.loads(text, parse_constant=no_nan)
    scores = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l", "words", "images"}
    assert metrics.keys() == {
        "best_epoch",
        "training",
        "selected_by",
        "choice",
        "images",
        "dev",
        "test",
        "intervals",
        "controls",
        "constant_caption",
        "colors",
        "distinct_captions",
        "cut_off",
        "empty",
        "scenes",
        "by_epoch",
    }
    assert metrics["images"] == {"dev": 4, "test": 6}
    assert metrics["selected_by"] == "bleu_4"
    assert metrics["training"] == load_checkpoint(project.best).info.training
    assert metrics["dev"].keys() == metrics["test"].keys() == scores
    assert metrics["controls"].keys() == {"constant", "nearest", "shuffled"}
    assert metrics["by_epoch"].keys() == {"1", "2"}
    best = metrics["by_epoch"][str(metrics["best_epoch"])]
    assert (best["dev"], best["test"]) == (metrics["dev"], metrics["test"])
    assert metrics["scenes"].keys() == {"shape_accuracy", "color_accuracy", "both_accuracy", "objects"}
    curve = (project.folder / "plots" / "epochs.csv").read_text().splitlines()
    assert curve[0].startswith("epoch,dev_loss,dev_bleu_1,")
    assert [line.split(",")[0] for line in curve[1:]] == ["1", "2"]


def test_the_best_checkpoint_is_the_chosen_epoch(project: Project) -> None:
    metrics = json.loads((project.folder / "metrics" / "evaluate.json").read_text())
    epoch = metrics["best_epoch"]
    chosen = project.data / "checkpoints" / f"epoch_{epoch:03d}.safetensors"
    assert project.best.read_bytes() == chosen.read_bytes()
    by_epoch = {int(e): scores["dev"]["bleu_4"] for e, scores in metrics["by_epoch"].items()}
    assert by_epoch[epoch] == max(by_epoch.values())


def test_predictions_are_kept_for_each_epoch_and_split(project: Project) -> None:
    names = sorted(path.name for path in (project.data / "predictions").iterdir())
    assert names == [f"epoch_00{e}_{split}.jsonl" for e in (1, 2) for split in ("dev", "test")]
    assert list(project.predictions("test")) == [image.image_id for image in project.test_images]


def test_equal_runs_give_equal_bytes(project: Project, make_project: Callable[[], Project]) -> None:
    assert make_project().outputs() == project.outputs()


def test_predictions_of_known_checkpoints_are_reused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.outputs()
    monkeypatch.setattr(TrainedModel, "load", refuse_to_load)
    project.evaluate()
    assert project.outputs() == before


def test_other_ways_to_generate_caption_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = replace(project.params.generate, max_new_tokens=3)
    other = Project(project.folder, replace(project.params, generate=generate))
    monkeypatch.setattr(TrainedModel, "load", refuse_to_load)
    with pytest.raises(AssertionError, match="the language model was loaded"):
        other.evaluate()


def test_a_caption_is_at_most_as_long_as_the_longest_of_train(project: Project) -> None:
    model = TrainedModel.load(project.best, CPU, None)
    params = replace(project.params.generate, max_new_tokens=None)
    features = torch.randn(12, model.info.encoder["num_tokens"], model.info.encoder["width"])
    ids = [one.ids for one in generate_ids(model.model, features, replace(params, max_new_tokens=60), 12)]
    longest = model.info.longest_caption
    assert max(map(len, ids)) > longest  # it would ramble on
    found = list(model.caption(features, params, 12))
    limited = generate_ids(model.model, features, replace(params, max_new_tokens=longest), 12)
    assert [one.finished for one in found] == [one.finished for one in limited]
    assert not all(one.finished for one in found)


def test_the_captioner_says_what_the_evaluation_said(project: Project, captioner: Captioner) -> None:
    """From the image file instead of the cached features."""
    said = {
        image.image_id: captioner.caption(image.path, generate=project.params.generate).text
        for image in project.test_images
    }
    assert said == project.predictions("test")
    assert len(set(said.values())) > 1


def test_cached_features_are_those_of_the_full_region(project: Project) -> None:
    encoder = load_encoder(project.params.encoder, torch.device("cpu"))
    with FeatureStore(project.data / "features.h5") as store:
        for image in project.test_images:
            picture = crop(open_image(Path(image.path), max_megapixels=1), REGIONS["full"].box)
            fresh = encoder.encode(encoder.preprocess(picture).unsqueeze(0))
            cached = torch.from_numpy(store.read([image.image_id])).float()
            assert torch.allclose(fresh, cached, atol=1e-3, rtol=1e-3)


def test_a_path_a_picture_and_an_array_are_the_same_image(project: Project, captioner: Captioner) -> None:
    path = Path(project.test_images[0].path)
    with Image.open(path) as picture:
        expected = captioner.caption(path)
        assert captioner.caption(str(path)) == expected
        assert captioner.caption(picture) == expected
        assert captioner.caption(np.asarray(picture)) == expected
    assert expected.region == REGIONS["full"]


def test_a_region_is_captioned_as_its_crop(project: Project, captioner: Captioner) -> None:
    path = Path(project.test_images[0].path)
    box = (0.0, 0.0, 0.5, 0.5)
    part = captioner.caption(crop(open_image(path, max_megapixels=1), box))
    named = captioner.caption(path, region="top-left")
    assert (named.text, named.finished) == (part.text, part.finished)
    assert named.region == REGIONS["top-left"]
    boxed = captioner.caption(path, region=box)
    assert (boxed.text, boxed.region.box) == (part.text, box)
    assert captioner.ask("Describe the object in the top-left corner", path) == named
    assert captioner.ask("Describe the image", path) == captioner.caption(path)


def test_many_requests_are_answered_in_their_order(project: Project, captioner: Captioner) -> None:
    requests = [
        (image.path, REGIONS[name]) for image in project.test_images for name in ("full", "top-left", "right")
    ]
    answers = captioner.caption_many(requests)
    assert [answer.region for answer in answers] == [region for _, region in requests]
    alone = [captioner.caption(path, region=region.name) for path, region in requests[:4]]
    assert answers[:4] == alone
    assert captioner.caption_many([]) == []


def test_a_list_of_images_gives_a_list_of_captions(project: Project, captioner: Captioner) -> None:
    paths = [image.path for image in project.test_images]
    captions = captioner.caption(paths, region="left third")
    assert captions == [captioner.caption(path, region="left third") for path in paths]
    assert captioner.caption(tuple(paths[:1]), region="left third") == captions[:1]
    assert captioner.caption([]) == []


def test_a_request_for_several_regions_gives_several_captions(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    answers = captioner.ask_all("Compare the left and the right", path)
    assert answers == [captioner.caption(path, region=name) for name in ("left", "right")]
    with pytest.raises(PipelineError, match="names more than one region: left and right"):
        captioner.ask("Compare the left and the right", path)


def test_a_box_in_pixels_is_answered_in_fractions(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    in_pixels = captioner.caption(path, region=(0, 0, 32, 64))
    assert in_pixels.region.box == REGIONS["left"].box
    assert in_pixels.text == captioner.caption(path, region="left").text
    with pytest.raises(PipelineError, match="beyond the image of 64 x 64 pixels"):
        captioner.caption(path, region=(0, 0, 65, 64))


def test_scores_are_means_over_tokens_whatever_the_search(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    for beams in (1, 3):
        generate = replace(project.params.generate, beams=beams)
        alone = captioner.caption(path, generate=generate)
        batch = captioner.caption([path] * 3, generate=generate)
        assert alone.score < 0
        assert [one.score for one in batch] == pytest.approx([alone.score] * 3, abs=1e-4)


def test_what_cannot_be_read_has_its_error_and_the_others_their_captions(
    project: Project, captioner: Captioner, tmp_path: Path
) -> None:
    good = project.test_images[0].path
    requests = [(path, REGIONS["full"]) for path in (good, tmp_path / "none.png", good)]
    first, error, last = captioner.caption_each(requests)
    assert first == last == captioner.caption(good)
    assert isinstance(error, PipelineError)
    with pytest.raises(PipelineError, match=r"none\.png does not exist"):
        captioner.caption_many(requests)


def test_a_checkpoint_is_found_by_its_folder_and_without_its_suffix(project: Project) -> None:
    path = project.test_images[0].path
    expected = Captioner.load(project.best, "cpu").caption(path)
    for name in (project.data, project.data / "best"):
        assert Captioner.load(name, "cpu").caption(path) == expected
    with pytest.raises(
        PipelineError, match=r"checkpoints holds no best\.safetensors; .*epoch_001\.safetensors"
    ):
        Captioner.load(project.data / "checkpoints")
    with pytest.raises(PipelineError, match=r"nothing does not exist; run `dvc repro`"):
        Captioner.load(project.data / "nothing")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("top-left and bottom", "more than one region"),
        ((0.5, 0.0, 0.2, 1.0), "the box '0.5,0,0.2,1' is not left, top, right, bottom"),
        ("0,0,2.5,1", "the box '0,0,2.5,1' is not"),
        ("asdf", "'asdf' names no region; allowed: full, top-left"),
    ],
)
def test_a_region_that_is_none_is_refused(
    project: Project, captioner: Captioner, region: Any, message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        captioner.caption(project.test_images[0].path, region=region)


def test_an_image_that_is_none_is_refused(captioner: Captioner, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none\.png does not exist"):
        captioner.caption(tmp_path / "none.png")
    with pytest.raises(PipelineError, match=r"an image array has shape \(2, 2\) and type float64"):
        captioner.caption(np.zeros((2, 2)))  # type: ignore[arg-type]


def region_paths(project: Project) -> RegionPaths:
    return RegionPaths(
        checkpoint=project.best,
        images=project.data / "images.jsonl",
        captions=project.data / "captions.jsonl",
        output=project.data / "regions",
        metrics=project.folder / "regions.json",
        scratch=project.folder / ".scratch" / "regions",
    )


def test_a_box_beyond_an_image_names_it(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    requests = [(path, REGIONS["full"]), (path, named("0,0,65,64"))]
    good, error = captioner.caption_each(requests)
    assert good == captioner.caption(path)
    assert str(error).startswith(f"{path}: the box 0,0,65,64px reaches beyond the image of 64 x 64 pixels;")


def test_the_regions_stage_refuses_a_box_beyond_an_image_before_it_loads_models(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    settings = replace(project.params.regions, images=1, requests=("left", "0,0,65,64"))
    image_id = project.test_images[0].image_id
    with pytest.raises(PipelineError, match=rf"regions\.requests.*: {image_id}: the box 0,0,65,64px reaches"):
        caption_regions(region_paths(project), settings, project.params.generate, project.params.runtime)


def test_the_regions_stage_tells_a_pixel_from_the_whole_image(project: Project) -> None:
    def size(request: str) -> tuple[int, int]:
        settings = replace(project.params.regions, images=1, requests=(request,))
        paths = region_paths(project)
        caption_regions(paths, settings, project.params.generate, project.params.runtime)
        with Image.open(paths.output / "00000.jpg") as saved:
            return saved.size

    assert size("0,0,1,1") == (64, 64)
    assert size("0,0,1,1px") == (1, 1)


def test_the_regions_stage_writes_crops_captions_and_truth(project: Project, captioner: Captioner) -> None:
    requests = (
        "Describe the object in the top-left corner",
        "Describe the whole image",
        "What is on the right?",
    )
    settings = replace(project.params.regions, images=3, requests=requests)
    paths = region_paths(project)
    metrics = caption_regions(paths, settings, project.params.generate, project.params.runtime)
    assert metrics == json.loads(paths.metrics.read_text())
    assert (metrics["images"], metrics["requests"]) == (3, 9)

    listed = read_captions(paths.captions)
    shapes, colors = vocabulary(listed)
    shown = {record.image_id: record.objects for record in listed}
    images = {image.image_id: image for image in project.test_images}
    rows = [row for _, row in read_jsonl(paths.output / "regions.jsonl")]
    assert [row["image_id"] for row in rows] == [i for i in list(images)[:3] for _ in requests]
    assert [row["region"] for row in rows[:3]] == ["top-left", "full", "right"]
    for row in rows:
        region = REGIONS[row["region"]]
        with Image.open(paths.output / row["crop"]) as saved:
            assert saved.size == (
                (64 if region.box[2] - region.box[0] == 1 else 32),
                (64 if region.box[3] - region.box[1] == 1 else 32),
            )
        answer = captioner.caption(
            images[row["image_id"]].path, region=region.name, generate=project.params.generate
        )
        assert row["caption"] == answer.text
        item = only_object(shown[row["image_id"]], region)
        assert ("object" in row) == ("correct" in row) == (item is not None)
        if item is not None:
            assert row["object"] == json.loads(json.dumps(asdict(item)))
            shape, color = names_object(answer.text, item.shape, item.color, shapes=shapes, colors=colors)
            assert row["correct"] == {"shape": shape, "color": color}
    assert metrics["objects"] == sum("object" in row for row in rows) > 0
    assert len(list(paths.output.iterdir())) == len(rows) + 1


def trained_with(project: Project, folder: Path, part: str, name: Path) -> Path:
    """The best checkpoint, naming another folder for one of its frozen models."""
    trained = load_checkpoint(project.best)
    facts = {**getattr(trained.info, part), "name": str(name)}
    changed = folder / "checkpoint.safetensors"
    save_checkpoint(changed, trained.projector.state_dict(), replace(trained.info, **{part: facts}))
    return changed


def test_an_encoder_with_other_weights_is_refused(project: Project, tmp_path: Path, tiny_clip: Path) -> None:
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    checkpoint = trained_with(project, tmp_path, "encoder", folder)
    assert isinstance(Captioner.load(checkpoint, "cpu"), Captioner)

    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PipelineError, match=r"was trained with encoder weights '.*', but .*clip now has"):
        Captioner.load(checkpoint, "cpu")


def test_an_encoder_with_other_preprocessing_is_refused(project: Project, tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clip")
    processor = folder / "preprocessor_config.json"
    assert '"do_normalize": true' in processor.read_text()
    processor.write_text(processor.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    checkpoint = trained_with(project, tmp_path, "encoder", folder)
    with pytest.raises(PipelineError, match=r"was trained with encoder preprocessing '.*', but"):
        Captioner.load(checkpoint, "cpu")


def test_a_language_model_with_other_weights_is_refused(project: Project, tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "llama", seed=1)
    checkpoint = trained_with(project, tmp_path, "language_model", folder)
    with pytest.raises(PipelineError, match=r"was trained with other weights of .*llama \(sha256 "):
        Captioner.load(checkpoint, "cpu")
