"""The few figures of an evaluation that experiments are compared by.

`dvc metrics diff` prints a line, and `dvc exp show` a column, for every number of a metrics file. With each
epoch's scores and all intervals that would be hundreds; whoever wants those reads metrics/evaluate.json.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.files.json_files import JsonObject

_SCORES = ("bleu_1", "bleu_4", "cider", "rouge_l")
_HABITS = ("distinct_captions", "cut_off")
_OBJECTS = ("shape_accuracy", "color_accuracy")


def summary_metrics(evaluation: Mapping[str, Any]) -> JsonObject:
    """The best epoch, its scores and habits, and the controls' CIDEr-D.

    Args:
        evaluation: the content of metrics/evaluate.json.

    Returns:
        The content of metrics/scores.json, numbers alone.
    """
    best = str(evaluation["best_epoch"])
    figures: JsonObject = {"best_epoch": evaluation["best_epoch"]}
    for split in ("dev", "test"):
        figures[split] = {name: evaluation[split][name] for name in _SCORES}
    figures["dev"]["loss"] = evaluation["by_epoch"][best]["dev_loss"]
    figures["test"] |= {name: evaluation[name] for name in _HABITS}
    if "scenes" in evaluation:
        figures["test"] |= {name: evaluation["scenes"][name] for name in _OBJECTS}
    figures["control_cider"] = {name: scores["cider"] for name, scores in evaluation["controls"].items()}
    return figures
