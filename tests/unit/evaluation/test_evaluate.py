"""Evaluation after all stages before it: its metrics, its choice, and work that is done once.

Run: .venv/bin/python -m pytest tests/unit/evaluation/test_evaluate.py
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from pipeline.captions import select_split
from pipeline.errors import PipelineError
from pipeline.evaluation import controls
from pipeline.evaluation import evaluate as evaluate_module
from pipeline.evaluation.controls import control_captions
from pipeline.evaluation.predictor import Predictor
from pipeline.features.store import FeatureStore, write_store
from pipeline.files.json_files import read_json, read_jsonl
from pipeline.metrics.consensus import NEIGHBORS
from pipeline.metrics.scores import ANSWER_CONTROLS, ANSWERS, CONTROLS, SCORES
from pipeline.model.checkpoints import load_checkpoint, load_tensors, tensor_digest
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import Generated, generate_candidates
from pipeline.retrieval.neighbors import Neighbors
from tests.edited_code import edited_code
from tests.params_files import with_changes
from tests.refusals import call_before, refusal
from tests.unit.project import Project, refuse_to_load, restored

LOADED = pytest.raises(AssertionError, match="the language model was loaded")


def read_metrics(project: Project, name: str = "evaluate") -> Any:
    return read_json(project.folder / "metrics" / f"{name}.json")


def test_the_metrics_have_the_documented_keys(project: Project) -> None:
    metrics = read_metrics(project)
    assert metrics.keys() == {
        *("best_epoch", "training", "selected_by", "choice", "images", "dev", "test", "intervals"),
        *("controls", "constant_caption", "consensus_images", "colors", "scenes", "by_epoch"),
        *("distinct_captions", "cut_off", "empty", "answers"),
    }
    assert metrics["images"] == {"dev": 4, "test": 6}
    assert metrics["selected_by"] == "bleu_4"
    assert metrics["training"] == load_checkpoint(project.best).info.training
    assert metrics["dev"].keys() == metrics["test"].keys() == {*SCORES, "words", "images"}
    assert metrics["controls"].keys() == metrics["colors"].keys() - {"model"} == CONTROLS.keys()
    assert metrics["consensus_images"] in {min(n, 16) for n in NEIGHBORS}  # there are 16 train images
    assert metrics["scenes"].keys() >= {"shape_accuracy", "color_accuracy", "both_accuracy", "objects"}
    curve = (project.folder / "plots" / "epochs.csv").read_text().splitlines()
    assert curve[0].startswith("epoch,dev_loss,dev_bleu_1,")
    assert [line.split(",")[0] for line in curve[1:]] == ["1", "2"]


def test_the_figures_that_experiments_are_compared_by_are_those_of_the_best_epoch(project: Project) -> None:
    metrics, summary = read_metrics(project), read_metrics(project, "scores")
    best = metrics["by_epoch"][str(metrics["best_epoch"])]
    assert (best["dev"], best["test"]) == (metrics["dev"], metrics["test"])
    assert summary["best_epoch"] == metrics["best_epoch"]
    assert summary["dev"].pop("loss") == best["dev_loss"]
    assert summary["dev"] == {name: best["dev"][name] for name in ("bleu_1", "bleu_4", "cider", "rouge_l")}
    assert summary["test"].items() >= {"cider": best["test"]["cider"], "cut_off": metrics["cut_off"]}.items()
    assert summary["test"]["color_accuracy"] == metrics["scenes"]["color_accuracy"]
    assert summary["control_cider"] == {name: c["cider"] for name, c in metrics["controls"].items()}


def test_trackers_get_the_scores_of_each_epoch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = MagicMock()
    monkeypatch.setattr(evaluate_module, "tracking", tracking)
    params = with_changes(project.params, runtime={"trackers": ("wandb",)})
    metrics = replace(project, params=params).evaluate()
    assert tracking.call_args.args[0] == ("wandb",)
    tracked = {epoch: numbers for (numbers, epoch), _ in tracking().__enter__().call_args_list}
    assert tracked.keys() == {1, 2}
    best = tracked[metrics["best_epoch"]]
    assert best["test/cider"] == metrics["test"]["cider"]
    assert best.keys() == {"dev/loss", *(f"{split}/{score}" for split in ("dev", "test") for score in SCORES)}


def test_the_cost_of_training_counts_captions_and_conversations(project: Project) -> None:
    train = select_split(project.records, "train")
    texts = sum(len(record.captions) + len(record.conversations) for record in train)
    assert read_metrics(project, "cost")["texts"] == project.params.train.epochs * texts


def test_answers_are_in_predictions_and_their_accuracy_in_the_metrics(project: Project) -> None:
    metrics, summary = read_metrics(project), read_metrics(project, "scores")
    answers = metrics["answers"]
    records = select_split(project.records, "test")
    asked = [(r.image_id, turn) for r in records for turn, *_ in r.conversations]
    assert answers["questions"] == len(asked)
    assert answers["controls"].keys() == ANSWER_CONTROLS.keys()
    assert summary["test"]["answer_accuracy"] == answers["accuracy"]
    assert summary["control_accuracy"] == {n: c["accuracy"] for n, c in answers["controls"].items()}
    rows = [row for _, row in read_jsonl(project.data / "predictions" / ANSWERS)]
    assert [(row["image_id"], row["question"], row["expected"]) for row in rows] == [
        (image_id, turn.question, turn.answer) for image_id, turn in asked
    ]
    assert round(100 * sum(row["right"] for row in rows) / len(rows), 4) == answers["accuracy"]


def test_an_answer_is_that_to_the_question_about_the_image(project: Project) -> None:
    rows = [row for _, row in read_jsonl(project.data / "predictions" / ANSWERS)][:3]
    model = project.captioner
    for row in rows:
        features = project.features(row["image_id"])
        (alone,) = model.caption(features, project.params.generate, 1, questions=[row["question"]])
        assert alone.text == row["answer"]
        (caption,) = model.caption(features, project.params.generate, 1)
        # A question asks for something else than the instruction, which may be asked as one.
        same = [project.params.prompt.instruction]
        (again,) = model.caption(features, project.params.generate, 1, questions=same)
        assert again == caption


def caption_controls(project: Project, folder: Path, **captions: str) -> dict[str, dict[str, str]]:
    """The captions of the controls where all captions of some splits are replaced by one."""
    records = [
        replace(r, captions=(captions[r.split],)) if r.split in captions else r for r in project.records
    ]
    return control_captions(Neighbors.read(project.data / "neighbors.h5"), records, folder)[0]


def test_controls_are_train_captions_whatever_people_said_of_others(project: Project, tmp_path: Path) -> None:
    texts = caption_controls(project, tmp_path)
    assert texts == caption_controls(project, tmp_path, test="Nobody sees this.")
    train = select_split(project.records, "train")
    known = {caption for record in train for caption in record.captions}
    for other_dev in (texts, caption_controls(project, tmp_path, dev="Nobody says this.")):
        assert other_dev["constant"] == texts["constant"]
        assert other_dev["nearest"] == texts["nearest"]
        assert set(other_dev["consensus"].values()) <= known
    assert set(caption_controls(project, tmp_path, train="a dog")["consensus"].values()) == {"a dog"}


def test_the_outputs_are_of_the_chosen_epoch_and_of_all(project: Project) -> None:
    epoch = read_metrics(project)["best_epoch"]
    chosen = project.data / "checkpoints" / f"epoch_{epoch:03d}.safetensors"
    best, trained = load_checkpoint(project.best), load_checkpoint(chosen)
    assert best.info == replace(trained.info, generate=asdict(project.params.generate))
    assert tensor_digest(load_tensors(project.best)[0]) == tensor_digest(load_tensors(chosen)[0])
    names = sorted(path.name for path in (project.data / "predictions").iterdir())
    assert names == [ANSWERS, *(f"epoch_00{e}_{split}.jsonl" for e in (1, 2) for split in ("dev", "test"))]
    assert list(project.predictions("test")) == [image.image_id for image in project.test_images]


def test_equal_runs_give_equal_bytes(project: Project, make_project: Callable[[], Project]) -> None:
    assert make_project().outputs() == project.outputs()


def test_the_log_tells_answers_from_captions(project: Project, log: pytest.LogCaptureFixture) -> None:
    metrics = project.evaluate(scratch="log")
    asked = metrics["answers"]["questions"]
    epoch = f"epoch {metrics['best_epoch']}"
    for line in (
        f"{epoch}, test: {metrics['images']['test']} images captioned",
        f"{epoch}, questions: {asked} questions answered",
        f"{epoch}, images shuffled: {asked} questions answered",
    ):
        assert line in log.messages


@contextmanager
def other_features(project: Project, split: str) -> Iterator[None]:
    """features.h5 as from other images: its attributes are right, the rows of one split differ."""
    path, records = project.data / "features.h5", project.records
    changed = {record.image_id for record in records if record.split == split}
    with FeatureStore(path) as store:
        rows = [-row if i in changed else row for i in store.image_ids for row in store.read([i])]
        spec = store.spec
    with restored(path):
        write_store(path, project.images, spec, rows)
        yield


NOT_TRAINED_ON = pytest.raises(
    PipelineError, match=r"epoch_001\.safetensors was trained on .* \d+ train images .*features\.h5"
)


# Captions of damaged features are not used once the features are restored.
@pytest.mark.parametrize(("split", "error"), [("train", NOT_TRAINED_ON), ("test", LOADED)])
def test_other_features_are_refused_or_captioned_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, split: str, error: Any
) -> None:
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    with other_features(project, split), error:
        project.evaluate()
    project.evaluate()


def test_other_neighbors_change_only_the_consensus(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = project.records
    neighbors = Neighbors.read(project.data / "neighbors.h5")
    control_captions(neighbors, records, tmp_path)
    others = replace(neighbors, rows=neighbors.rows[:, ::-1])
    monkeypatch.setattr(controls, "constant_caption", refuse_to_load)
    with monkeypatch.context() as patch, LOADED:
        patch.setattr(controls, "Consensus", refuse_to_load)
        control_captions(others, records, tmp_path)
    control_captions(others, records, tmp_path)


def test_kept_work_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """Until its code changes; the contract's tests say which code counts."""
    before = project.outputs()
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    for control in ("constant_caption", "Consensus"):
        monkeypatch.setattr(controls, control, refuse_to_load)
    with edited_code("metrics/bleu.py"):
        project.evaluate()
    assert "scoring the controls" in log.messages
    assert project.outputs() == before
    for name in ("model/generation.py", "metrics/cider.py"):
        with edited_code(name), LOADED:
            project.evaluate()


def exchange_epochs(project: Project) -> None:
    first, second = (project.data / "checkpoints" / f"epoch_00{epoch}.safetensors" for epoch in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        ("load", r"epoch_002\.safetensors .* epoch is 1, expected 2"),
        ("use_checkpoint", r"epoch_001\.safetensors was exchanged while it was in use"),
    ],
)
def test_a_checkpoint_exchanged_while_it_is_in_use_is_noticed(
    project: Project, monkeypatch: pytest.MonkeyPatch, moment: str, error: str
) -> None:
    """The captions of one epoch were stored under the digest of the other, for good."""
    before = project.outputs()
    other = Project(project.folder, with_changes(project.params, generate={"max_new_tokens": 2}))

    def exchange(*arguments: Any) -> None:
        if moment == "load" or arguments[1].info.epoch == 2:  # `load` uses the first
            exchange_epochs(project)
            monkeypatch.undo()

    call_before(monkeypatch, FeatureCaptioner, moment, exchange)
    refusal(other.evaluate, moment, match=error)
    exchange_epochs(project)
    assert project.outputs() == before
    other.evaluate(moment)
    continued = project.outputs()
    shutil.rmtree(project.folder / ".scratch" / moment)
    other.evaluate(moment)
    assert project.outputs() == continued
    project.evaluate()


def test_a_loss_that_is_not_a_number_is_not_stored(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = select_split(project.records, "dev")
    checkpoint = load_checkpoint(project.best)
    with FeatureStore(project.data / "features.h5") as store:
        predictor = Predictor(store, project.params.generate, project.execution("no-number"))
        with monkeypatch.context() as patch:
            patch.setattr(FeatureCaptioner, "loss", lambda *_: float("nan"))
            with pytest.raises(PipelineError, match=r"best\.safetensors on dev is nan in torch\.float32"):
                predictor.loss(checkpoint, dev)
        assert predictor.loss(checkpoint, dev) > 0


def test_a_caption_is_at_most_as_long_as_the_longest_of_train(project: Project) -> None:
    model = project.captioner
    features = torch.randn(12, model.info.encoder["num_tokens"], model.info.encoder["width"])

    def generate(limit: int) -> list[Generated]:
        params = replace(project.params.generate, max_new_tokens=limit)
        return [best for best, *_ in generate_candidates(model.model, features, params, 12)]

    longest = model.info.longest_caption
    assert max(len(caption.ids) for caption in generate(60)) > longest  # it would ramble on
    unlimited = replace(project.params.generate, max_new_tokens=None)
    finished = [caption.finished for caption in model.caption(features, unlimited, 12)]
    assert finished == [caption.finished for caption in generate(longest)]
    assert not all(finished)
