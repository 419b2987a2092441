"""The choice of the epoch: a score on dev decides, and where it cannot, the loss on dev does."""

from collections.abc import Mapping

from pipeline.files.json_files import JsonObject
from pipeline.metrics.bootstrap import difference_intervals
from pipeline.metrics.scores import PerImageScores

# pycocoevalcap gives captions without any 4-gram of their references a BLEU-4 above 0 but below this: a
# difference between two of these is no difference in quality.
_NO_DIFFERENCE = 0.01


def choose_epoch(
    scores: Mapping[int, PerImageScores], losses: Mapping[int, float], select_by: str
) -> tuple[int, JsonObject]:
    """Return the best epoch, and for the metrics `selected_by` and, of several epochs, the `choice`.

    Of all epochs that a paired bootstrap over the dev images cannot tell from the epoch with the highest
    score, that one included, the epoch with the lowest loss is best.

    Args:
        scores: of dev, by epoch.
        losses: on dev (nats a token), by epoch.
        select_by: a key of `metrics.scores.SCORES`.
    """
    values = {epoch: per_image.scores()[select_by] for epoch, per_image in scores.items()}
    highest, *others = sorted(scores, key=lambda epoch: (-values[epoch], losses[epoch], epoch))
    if not others:
        return highest, {"selected_by": select_by}
    leads = {epoch: difference_intervals(scores[highest], scores[epoch])[select_by] for epoch in others}
    candidates = [highest, *(epoch for epoch in others if leads[epoch]["low"] < _NO_DIFFERENCE)]
    choice = {
        "decided_by": select_by if len(candidates) == 1 else "dev_loss",
        "candidates": sorted(candidates),
        "highest_epoch": highest,
        "next_best_epoch": others[0],
        "lead": round(values[highest] - values[others[0]], 4),
        **leads[others[0]],
    }
    best = min(candidates, key=lambda epoch: (losses[epoch], epoch))
    return best, {"selected_by": select_by, "choice": choice}
