"""Evaluation after all stages before it: its metrics, its choice, and predictions that are made once.

Run: .venv/bin/python -m pytest tests/unit/evaluation/test_evaluate.py
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest
import torch

from pipeline.captions import of_split, read_captions, read_images
from pipeline.errors import PipelineError
from pipeline.evaluation import evaluate
from pipeline.evaluation.predictor import Predictor
from pipeline.features.store import FeatureStore, write_store
from pipeline.files.unchanged_files import UnchangedFiles
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_ids
from tests.edited_code import EditCode
from tests.project_lab import CPU, Project, refuse_to_load


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


def test_the_figures_that_experiments_are_compared_by_are_those_of_the_best_epoch(project: Project) -> None:
    metrics = json.loads((project.folder / "metrics" / "evaluate.json").read_text())
    few = json.loads((project.folder / "metrics" / "scores.json").read_text())
    best = metrics["by_epoch"][str(metrics["best_epoch"])]
    assert few["best_epoch"] == metrics["best_epoch"]
    assert few["dev"].pop("loss") == best["dev_loss"]
    assert few["dev"] == {name: best["dev"][name] for name in ("bleu_1", "bleu_4", "cider", "rouge_l")}
    assert few["test"].items() >= {"cider": best["test"]["cider"], "cut_off": metrics["cut_off"]}.items()
    assert few["test"]["color_accuracy"] == metrics["scenes"]["color_accuracy"]
    assert few["control_cider"] == {name: of["cider"] for name, of in metrics["controls"].items()}


def test_the_best_checkpoint_is_the_chosen_epoch(project: Project) -> None:
    metrics = json.loads((project.folder / "metrics" / "evaluate.json").read_text())
    epoch = metrics["best_epoch"]
    chosen = project.data / "checkpoints" / f"epoch_{epoch:03d}.safetensors"
    assert project.best.read_bytes() == chosen.read_bytes()
    by_epoch = {int(e): scores["dev"]["bleu_4"] for e, scores in metrics["by_epoch"].items()}
    assert by_epoch[epoch] == max(by_epoch.values())
    losses = {int(e): scores["dev_loss"] for e, scores in metrics["by_epoch"].items()}
    assert losses[epoch] == min(losses[e] for e, score in by_epoch.items() if score == by_epoch[epoch])


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
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
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


def test_features_that_the_checkpoints_were_not_trained_on_are_refused(project: Project) -> None:
    before = other_features(project, "train")
    try:
        with pytest.raises(
            PipelineError,
            match=r"the features of the \d+ train images .*features\.h5 .* are not those that .*epoch_001"
            r"\.safetensors was trained on .*; run `dvc repro train`",
        ):
            project.evaluate()
    finally:
        (project.data / "features.h5").write_bytes(before)


def test_other_features_of_dev_and_test_are_captioned_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said of damaged features is not said again once they are mended."""
    before = other_features(project, "test")
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    try:
        with pytest.raises(AssertionError, match="the language model was loaded"):
            project.evaluate()
    finally:
        (project.data / "features.h5").write_bytes(before)
    project.evaluate()


def test_other_code_captions_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, edit_code: EditCode
) -> None:
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    for name in ("evaluation/evaluate.py", "evaluation/prediction_cache.py", "metrics/bleu.py"):
        with edit_code(name):
            project.evaluate()
    for name in ("evaluation/predictor.py", "model/generation.py", "text/prompt.py"):
        with edit_code(name), pytest.raises(AssertionError, match="the language model was loaded"):
            project.evaluate()


def exchange_epochs(project: Project) -> None:
    first, second = (project.data / "checkpoints" / f"epoch_00{epoch}.safetensors" for epoch in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def test_a_checkpoint_exchanged_after_it_was_scored_is_not_taken_for_the_best(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.outputs()

    def exchange(*arguments: Any) -> Any:
        exchange_epochs(project)
        return nearest(*arguments)

    nearest = evaluate._nearest
    monkeypatch.setattr(evaluate, "_nearest", exchange)
    with pytest.raises(PipelineError, match=r"epoch_00.* was exchanged while it was in use .*command again"):
        project.evaluate()
    exchange_epochs(project)
    assert project.outputs() == before


def test_nothing_is_kept_of_a_checkpoint_exchanged_before_it_was_loaded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the digest of one epoch stood the captions of the other, for good."""
    generate = replace(project.params.generate, max_new_tokens=2)
    other = Project(project.folder, replace(project.params, generate=generate))
    kept = set((project.folder / ".scratch" / "evaluate").iterdir())

    def exchange(*arguments: Any) -> FeatureCaptioner:
        exchange_epochs(project)
        return load(*arguments)

    load = FeatureCaptioner.load
    with monkeypatch.context() as patch:
        patch.setattr(FeatureCaptioner, "load", exchange)
        with pytest.raises(PipelineError, match=r"epoch_001.* was exchanged while it was in use"):
            other.evaluate()
    exchange_epochs(project)
    assert set((project.folder / ".scratch" / "evaluate").iterdir()) == kept


def test_one_more_epoch_evaluates_that_epoch_only(
    make_project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    before = project.outputs()
    captioned: list[int] = []
    losses: list[int] = []

    def caption(self: FeatureCaptioner, *arguments: Any) -> Any:
        captioned.append(self.info.epoch)
        return say(self, *arguments)

    def loss(self: FeatureCaptioner, *arguments: Any) -> float:
        losses.append(self.info.epoch)
        return measure(self, *arguments)

    say, measure = FeatureCaptioner.caption, FeatureCaptioner.loss
    monkeypatch.setattr(FeatureCaptioner, "caption", caption)
    monkeypatch.setattr(FeatureCaptioner, "loss", loss)
    longer = Project(project.folder, replace(project.params, train=replace(project.params.train, epochs=3)))
    longer.train()
    longer.evaluate()
    assert set(captioned) == {3}
    assert losses == [3]
    after = longer.outputs()
    known = [name for name in before if name.startswith(("data/checkpoints/", "data/predictions/"))]
    assert len(known) == 2 + 4
    assert {name: after[name] for name in known} == {name: before[name] for name in known}
    assert "data/predictions/epoch_003_test.jsonl" in after


def test_a_loss_on_dev_that_is_no_number_is_an_error_and_not_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = {
        r.image_id: r.captions for r in of_split(read_captions(project.data / "captions.jsonl"), "dev")
    }
    with FeatureStore(project.data / "features.h5") as store:
        predictor = Predictor(
            store, UnchangedFiles(), project.params.generate, project.execution("no-number")
        )
        with monkeypatch.context() as patch:
            patch.setattr(FeatureCaptioner, "loss", lambda *_: float("nan"))
            with pytest.raises(
                PipelineError, match=r"best\.safetensors on dev is nan in torch\.float32: its"
            ):
                predictor.loss(project.best, references)
        assert predictor.loss(project.best, references) > 0


def test_other_ways_to_generate_caption_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = replace(project.params.generate, max_new_tokens=3)
    other = Project(project.folder, replace(project.params, generate=generate))
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    with pytest.raises(AssertionError, match="the language model was loaded"):
        other.evaluate()


def test_a_caption_is_at_most_as_long_as_the_longest_of_train(project: Project) -> None:
    model = FeatureCaptioner.load(project.best, CPU, None)
    params = replace(project.params.generate, max_new_tokens=None)
    features = torch.randn(12, model.info.encoder["num_tokens"], model.info.encoder["width"])
    ids = [one.ids for one in generate_ids(model.model, features, replace(params, max_new_tokens=60), 12)]
    longest = model.info.longest_caption
    assert max(map(len, ids)) > longest  # it would ramble on
    found = list(model.caption(features, params, 12))
    limited = generate_ids(model.model, features, replace(params, max_new_tokens=longest), 12)
    assert [one.finished for one in found] == [one.finished for one in limited]
    assert not all(one.finished for one in found)
