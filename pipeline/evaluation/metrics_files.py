"""The content of evaluate.json, scores.json and epochs.csv, put together from the results of the epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.captions import CaptionRecord, Split, select_split, vocabulary
from pipeline.evaluation.predictor import Predictions
from pipeline.files.json_files import JsonObject
from pipeline.files.unchanged_file import UnchangedFile
from pipeline.metrics.bootstrap import difference_intervals, intervals
from pipeline.metrics.colors import score_colors
from pipeline.metrics.scene_truth import judge_caption, score_judgments
from pipeline.metrics.scores import MAIN_SCORES, SCORES, PerImageScores, measure
from pipeline.model.checkpoints import CheckpointInfo

# Evaluation captions these; train is what the model learned from.
SCORED_SPLITS: tuple[Split, ...] = ("dev", "test")
_COMPARED_STATISTICS = ("distinct_captions", "cut_off")
_COMPARED_ACCURACIES = ("shape_accuracy", "color_accuracy")

ControlCaptions = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class EpochResult:
    """The captions of one epoch's checkpoint for dev and test, their scores, and the loss on dev (nats)."""

    info: CheckpointInfo
    file: UnchangedFile
    predictions: Mapping[Split, Predictions]
    scores: Mapping[Split, PerImageScores]
    dev_loss: float

    def texts(self, split: Split) -> dict[str, str]:
        """Return the captions of a split by image id."""
        return {image_id: prediction.text for image_id, prediction in self.predictions[split].items()}

    def as_dict(self) -> JsonObject:
        """Return loss and scores, rounded to four decimals."""
        scores = {str(split): self.scores[split].scores() for split in SCORED_SPLITS}
        return {"dev_loss": round(self.dev_loss, 4), **scores}


def evaluation_metrics(
    best: EpochResult,
    results: Mapping[int, EpochResult],
    choice: JsonObject,
    controls: ControlCaptions,
    consensus_images: int,
    records: Sequence[CaptionRecord],
) -> JsonObject:
    """Return the content of metrics/evaluate.json.

    Args:
        best: the epoch that was chosen.
        results: by epoch, all epochs in order.
        choice: what chose the best epoch, of `choose_epoch`.
        controls: by name, a caption for each test image.
        consensus_images: how many train images the control `consensus` is of.
        records: the captions of all images.
    """
    by_epoch = {str(epoch): result.as_dict() for epoch, result in results.items()}
    chosen = by_epoch[str(best.info.epoch)]
    return {
        "best_epoch": best.info.epoch,
        # With the epoch it says which checkpoint the scores are of.
        "training": best.info.training,
        **choice,
        "images": {split: len(best.predictions[split]) for split in SCORED_SPLITS},
        **{split: chosen[split] for split in SCORED_SPLITS},
        "intervals": {split: intervals(best.scores[split]) for split in SCORED_SPLITS},
        **_control_metrics(best, controls, select_split(records, "test")),
        "consensus_images": consensus_images,
        **output_statistics(best.predictions["test"]),
        **_scene_metrics(best, records),
        "by_epoch": by_epoch,
    }


def summary_metrics(evaluation: Mapping[str, Any]) -> JsonObject:
    """Return the content of metrics/scores.json: the few numbers that experiments are compared by.

    `dvc metrics diff` prints a line, and `dvc exp show` a column, for every number of a metrics file: with
    each epoch's scores and all intervals that would be hundreds. `evaluation` is what `evaluation_metrics`
    returns.
    """
    best = str(evaluation["best_epoch"])
    summary: JsonObject = {"best_epoch": evaluation["best_epoch"]}
    for split in SCORED_SPLITS:
        summary[split] = {name: evaluation[split][name] for name in MAIN_SCORES}
    summary["dev"]["loss"] = evaluation["by_epoch"][best]["dev_loss"]
    summary["test"] |= {name: evaluation[name] for name in _COMPARED_STATISTICS}
    if scenes := evaluation.get("scenes"):
        summary["test"] |= {name: scenes[name] for name in _COMPARED_ACCURACIES if name in scenes}
    summary["control_cider"] = {name: scores["cider"] for name, scores in evaluation["controls"].items()}
    if answers := evaluation.get("answers"):
        summary["test"]["answer_accuracy"] = answers["accuracy"]
        controls = answers["controls"]
        summary["control_accuracy"] = {name: scores["accuracy"] for name, scores in controls.items()}
    return summary


def epochs_csv(by_epoch: Mapping[str, Any]) -> str:
    """Return the content of plots/epochs.csv: a line for each epoch, with its loss and scores."""
    names = [(split, name) for split in SCORED_SPLITS for name in SCORES]
    lines = [["epoch", "dev_loss", *(f"{split}_{name}" for split, name in names)]]
    for epoch, result in by_epoch.items():
        values = [result["dev_loss"], *(result[split][name] for split, name in names)]
        lines.append([epoch, *(f"{value:.4f}" for value in values)])
    return "".join(f"{','.join(line)}\n" for line in lines)


def output_statistics(predictions: Predictions) -> dict[str, float]:
    """Return the per cent of captions that are distinct, cut off at the length limit, and empty."""
    captions = predictions.values()
    counts = {
        "distinct_captions": len({caption.text for caption in captions}),
        "cut_off": sum(not caption.finished for caption in captions),
        "empty": sum(not caption.text for caption in captions),
    }
    return {name: round(100 * count / len(captions), 4) for name, count in counts.items()}


def _control_metrics(
    best: EpochResult, controls: ControlCaptions, test: Sequence[CaptionRecord]
) -> JsonObject:
    """Return the controls' scores, and the colors that they and the model name.

    `behind`: by how much a control's CIDEr-D is below the model's, with the 95 % interval.
    """
    references = {record.image_id: record.texts for record in test}
    model = best.scores["test"]
    metrics: JsonObject = {}
    for name, captions in controls.items():
        control = measure(captions, references)
        scores = control.scores()
        lead = round(model.scores()["cider"] - scores["cider"], 4)
        metrics[name] = {**scores, "behind": {"cider": lead, **difference_intervals(model, control)["cider"]}}
    captioners = {"model": best.texts("test"), **controls}
    return {
        "controls": metrics,
        "constant_caption": next(iter(controls["constant"].values())),
        "colors": {name: score_colors(captions, references) for name, captions in captioners.items()},
    }


def _scene_metrics(best: EpochResult, records: Sequence[CaptionRecord]) -> JsonObject:
    """Return how often captions of scenes name the only object, or no object; empty for other datasets."""
    texts = best.texts("test")
    test = select_split(records, "test")
    shapes, colors = vocabulary(records)
    judgments = [
        judge_caption(texts[record.image_id], next(iter(record.objects), None), shapes=shapes, colors=colors)
        for record in test
        if shapes and len(record.objects) <= 1
    ]
    return {"scenes": score_judgments(judgments)} if judgments else {}
