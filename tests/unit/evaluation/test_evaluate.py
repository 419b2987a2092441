"""Evaluation after all stages before it: its metrics, its choice, and work that is done once.

Run: .venv/bin/python -m pytest tests/unit/evaluation/test_evaluate.py
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from pipeline.captions import of_split, read_captions, read_images
from pipeline.errors import PipelineError
from pipeline.evaluation import controls
from pipeline.evaluation.controls import control_captions
from pipeline.evaluation.predictor import Predictor
from pipeline.features.store import FeatureStore, write_store
from pipeline.metrics.consensus import NEIGHBORS
from pipeline.metrics.scores import CONTROLS
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_ids
from tests.edited_code import EditCode
from tests.unit.project import CPU, Project, counted_openings, refuse_to_load

LOADED = pytest.raises(AssertionError, match="the language model was loaded")


def read_metrics(project: Project, name: str = "evaluate") -> Any:
    def no_nan(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} in the metrics")

    return json.loads((project.folder / "metrics" / f"{name}.json").read_text(), parse_constant=no_nan)


def with_generate(project: Project, **changes: Any) -> Project:
    """The same project, whose captions are generated otherwise."""
    generate = replace(project.params.generate, **changes)
    return Project(project.folder, replace(project.params, generate=generate))


def test_the_metrics_have_the_documented_keys_and_no_nan(project: Project) -> None:
    metrics = read_metrics(project)
    assert metrics.keys() == {
        *("best_epoch", "training", "selected_by", "choice", "images", "dev", "test", "intervals"),
        *("controls", "constant_caption", "consensus_images", "colors", "scenes", "by_epoch"),
        *("distinct_captions", "cut_off", "empty"),
    }
    assert metrics["images"] == {"dev": 4, "test": 6}
    assert metrics["selected_by"] == "bleu_4"
    assert metrics["training"] == load_checkpoint(project.best).info.training
    scores = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l", "words", "images"}
    assert metrics["dev"].keys() == metrics["test"].keys() == scores
    assert metrics["controls"].keys() == metrics["colors"].keys() - {"model"} == CONTROLS.keys()
    assert metrics["consensus_images"] in NEIGHBORS
    assert metrics["by_epoch"].keys() == {"1", "2"}
    best = metrics["by_epoch"][str(metrics["best_epoch"])]
    assert (best["dev"], best["test"]) == (metrics["dev"], metrics["test"])
    assert metrics["scenes"].keys() == {"shape_accuracy", "color_accuracy", "both_accuracy", "objects"}
    curve = (project.folder / "plots" / "epochs.csv").read_text().splitlines()
    assert curve[0].startswith("epoch,dev_loss,dev_bleu_1,")
    assert [line.split(",")[0] for line in curve[1:]] == ["1", "2"]


def test_the_figures_that_experiments_are_compared_by_are_those_of_the_best_epoch(project: Project) -> None:
    metrics, few = read_metrics(project), read_metrics(project, "scores")
    best = metrics["by_epoch"][str(metrics["best_epoch"])]
    assert few["best_epoch"] == metrics["best_epoch"]
    assert few["dev"].pop("loss") == best["dev_loss"]
    assert few["dev"] == {name: best["dev"][name] for name in ("bleu_1", "bleu_4", "cider", "rouge_l")}
    assert few["test"].items() >= {"cider": best["test"]["cider"], "cut_off": metrics["cut_off"]}.items()
    assert few["test"]["color_accuracy"] == metrics["scenes"]["color_accuracy"]
    assert few["control_cider"] == {name: of["cider"] for name, of in metrics["controls"].items()}


def controls_said(project: Project, folder: Path, **captions: str) -> dict[str, dict[str, str]]:
    """What the controls say where all captions of some splits are replaced by one."""
    records = [
        replace(r, captions=(captions[r.split],)) if r.split in captions else r
        for r in read_captions(project.data / "captions.jsonl")
    ]
    with FeatureStore(project.data / "features.h5") as store:
        return control_captions(store, records, folder)[0]


def test_controls_say_train_captions_whatever_people_said_of_other_images(
    project: Project, tmp_path: Path
) -> None:
    said = controls_said(project, tmp_path)
    assert said == controls_said(project, tmp_path, test="Nobody sees this.")
    train = of_split(read_captions(project.data / "captions.jsonl"), "train")
    known = {caption for record in train for caption in record.captions}
    for of_dev in (said, controls_said(project, tmp_path, dev="Nobody says this.")):
        assert of_dev["constant"] == said["constant"]
        assert of_dev["nearest"] == said["nearest"]
        assert set(of_dev["consensus"].values()) <= known
    assert set(controls_said(project, tmp_path, train="a dog")["consensus"].values()) == {"a dog"}


def test_the_best_checkpoint_is_the_chosen_epoch(project: Project) -> None:
    metrics = read_metrics(project)
    epoch = metrics["best_epoch"]
    chosen = project.data / "checkpoints" / f"epoch_{epoch:03d}.safetensors"
    assert project.best.read_bytes() == chosen.read_bytes()
    ranks = {int(e): (-of["dev"]["bleu_4"], of["dev_loss"]) for e, of in metrics["by_epoch"].items()}
    assert ranks[epoch] == min(ranks.values())


def test_predictions_are_kept_for_each_epoch_and_split(project: Project) -> None:
    names = sorted(path.name for path in (project.data / "predictions").iterdir())
    assert names == [f"epoch_00{e}_{split}.jsonl" for e in (1, 2) for split in ("dev", "test")]
    assert list(project.predictions("test")) == [image.image_id for image in project.test_images]


def test_equal_runs_give_equal_bytes(project: Project, make_project: Callable[[], Project]) -> None:
    assert make_project().outputs() == project.outputs()


@pytest.mark.parametrize("scratch", ["evaluate", "empty"])
def test_each_checkpoint_and_the_features_are_opened_once(project: Project, scratch: str) -> None:
    """It was read five times: to list, to verify, to digest, to load and to copy it."""
    with counted_openings() as opened:
        project.evaluate(scratch)
    read = {name: times for name, times in opened.items() if name.startswith(("epoch_00", "features"))}
    assert {name: times for name, times in read.items() if "jsonl" not in name} == {
        "epoch_001.safetensors": 1,
        "epoch_002.safetensors": 1,
        "features.h5": 1,
    }


def test_what_is_known_of_checkpoints_and_controls_is_not_computed_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.outputs()
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    for control in ("constant_caption", "nearest_rows", "Consensus"):
        monkeypatch.setattr(controls, control, refuse_to_load)
    project.evaluate()
    assert project.outputs() == before


def other_features(project: Project, split: str) -> bytes:
    """features.h5 as of other models' images: all facts are right, the rows of a split are others."""
    path, records = project.data / "features.h5", read_captions(project.data / "captions.jsonl")
    changed = {record.image_id for record in records if record.split == split}
    with FeatureStore(path) as store:
        rows = [-row if i in changed else row for i in store.image_ids for row in store.read([i])]
        spec = store.spec
    before = path.read_bytes()
    write_store(path, read_images(project.data / "images.jsonl"), spec, rows)
    return before


NOT_TRAINED_ON = pytest.raises(
    PipelineError, match=r"\d+ train images .*features\.h5 .*epoch_001\.safetensors was trained on"
)


# What was said of damaged features is not said again once they are mended.
@pytest.mark.parametrize(("split", "error"), [("train", NOT_TRAINED_ON), ("test", LOADED)])
def test_other_features_are_refused_or_captioned_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, split: str, error: Any
) -> None:
    before = other_features(project, split)
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    try:
        with error:
            project.evaluate()
    finally:
        (project.data / "features.h5").write_bytes(before)
    project.evaluate()


def test_the_constant_control_stays_with_other_features_and_the_nearest_does_not(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_captions(project.data / "captions.jsonl")

    def compute() -> None:
        with FeatureStore(project.data / "features.h5") as store:
            controls.control_captions(store, records, tmp_path)

    compute()
    before = other_features(project, "test")
    try:
        monkeypatch.setattr(controls, "constant_caption", refuse_to_load)
        with monkeypatch.context() as patch, LOADED:
            patch.setattr(controls, "nearest_rows", refuse_to_load)
            compute()
        compute()
    finally:
        (project.data / "features.h5").write_bytes(before)


def test_other_code_captions_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, edit_code: EditCode
) -> None:
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    for name in ("evaluation/evaluate.py", "files/prediction_cache.py", "metrics/bleu.py"):
        with edit_code(name):
            project.evaluate()
    for name in ("evaluation/predictor.py", "model/generation.py", "text/prompt.py"):
        with edit_code(name), LOADED:
            project.evaluate()
    with LOADED:
        with_generate(project, max_new_tokens=3).evaluate()


def test_other_code_computes_the_controls_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, edit_code: EditCode
) -> None:
    computed: list[object] = []

    def compute(train: object) -> str:
        computed.append(train)
        return "a dog"

    monkeypatch.setattr(controls, "constant_caption", compute)
    with edit_code("metrics/bleu.py"):
        project.evaluate()
    assert not computed
    with edit_code("metrics/cider.py"):
        project.evaluate()
    assert len(computed) == 1
    monkeypatch.undo()
    project.evaluate()


def exchange_epochs(project: Project) -> None:
    first, second = (project.data / "checkpoints" / f"epoch_00{epoch}.safetensors" for epoch in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        ("load", r"epoch_002\.safetensors holds epoch 1"),
        ("use_checkpoint", r"epoch_001\.safetensors was exchanged while it was in use"),
    ],
)
def test_a_checkpoint_exchanged_after_it_was_read_is_noticed_and_nothing_wrong_is_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch, moment: str, error: str
) -> None:
    """Under the digest of one epoch stood the captions of the other, for good."""
    before = project.outputs()
    other = with_generate(project, max_new_tokens=2)
    do = getattr(FeatureCaptioner, moment)

    def exchange(*arguments: Any) -> Any:
        exchange_epochs(project)
        monkeypatch.undo()
        return do(*arguments)

    monkeypatch.setattr(FeatureCaptioner, moment, exchange)
    with pytest.raises(PipelineError, match=error):
        other.evaluate(moment)
    exchange_epochs(project)
    assert project.outputs() == before
    other.evaluate(moment)
    continued = project.outputs()
    shutil.rmtree(project.folder / ".scratch" / moment)
    other.evaluate(moment)
    assert project.outputs() == continued
    project.evaluate()


def test_one_more_epoch_evaluates_that_epoch_only(
    make_project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    before = project.outputs()
    done: list[tuple[str, int]] = []

    def recorded(name: str) -> Callable[..., Any]:
        do = getattr(FeatureCaptioner, name)

        def record(self: FeatureCaptioner, *arguments: Any) -> Any:
            done.append((name, self.info.epoch))
            return do(self, *arguments)

        return record

    for name in ("caption", "loss"):
        monkeypatch.setattr(FeatureCaptioner, name, recorded(name))
    longer = Project(project.folder, replace(project.params, train=replace(project.params.train, epochs=3)))
    longer.train()
    longer.evaluate()
    assert set(done) == {("caption", 3), ("loss", 3)}
    assert done.count(("loss", 3)) == 1
    after = longer.outputs()
    known = [name for name in before if name.startswith(("data/checkpoints/", "data/predictions/"))]
    assert len(known) == 2 + 4
    assert {name: after[name] for name in known} == {name: before[name] for name in known}
    assert "data/predictions/epoch_003_test.jsonl" in after


def test_a_loss_on_dev_that_is_no_number_is_an_error_and_not_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = of_split(read_captions(project.data / "captions.jsonl"), "dev")
    references = {record.image_id: record.captions for record in dev}
    checkpoint = load_checkpoint(project.best)
    with FeatureStore(project.data / "features.h5") as store:
        predictor = Predictor(store, project.params.generate, project.execution("no-number"))
        with monkeypatch.context() as patch:
            patch.setattr(FeatureCaptioner, "loss", lambda *_: float("nan"))
            with pytest.raises(PipelineError, match=r"best\.safetensors on dev is nan in torch\.float32"):
                predictor.loss(checkpoint, references)
        assert predictor.loss(checkpoint, references) > 0


def test_a_caption_is_at_most_as_long_as_the_longest_of_train(project: Project) -> None:
    model = FeatureCaptioner.load(load_checkpoint(project.best), CPU, None)
    params = replace(project.params.generate, max_new_tokens=None)
    features = torch.randn(12, model.info.encoder["num_tokens"], model.info.encoder["width"])
    ids = [one.ids for one in generate_ids(model.model, features, replace(params, max_new_tokens=60), 12)]
    longest = model.info.longest_caption
    assert max(map(len, ids)) > longest  # it would ramble on
    found = list(model.caption(features, params, 12))
    limited = generate_ids(model.model, features, replace(params, max_new_tokens=longest), 12)
    assert [one.finished for one in found] == [one.finished for one in limited]
    assert not all(one.finished for one in found)
