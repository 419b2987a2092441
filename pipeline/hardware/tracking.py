"""Numbers of a run in TensorBoard, Weights & Biases or MLflow while it runs, by accelerate's trackers."""

import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

_PROJECT = "lightweight-vlm"

# Takes numbers by name, and the step or epoch that they are of.
Track = Callable[[Mapping[str, float], int], None]


def require_trackers(names: Iterable[str]) -> None:
    """Raise PipelineError if the package of a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise PipelineError(
                f"runtime.trackers names {name}, which is not installed. Fix: run `pip install {name}`, or "
                "set runtime.trackers: []."
            )


@contextmanager
def tracking(names: Iterable[str], scratch: Path, stage: str, training: str) -> Iterator[Track]:
    """Open trackers; yield a function that gives numbers to all of them.

    Args:
        names: those of `runtime.trackers`; none in all processes but the main one.
        scratch: where TensorBoard's files go, in the folder `tensorboard`.
        stage: train or evaluate.
        training: fingerprint of the training, by which trackers put the stages of a run together.

    Raises:
        PipelineError: if a tracker does not start, as without its package or an API key.
    """
    require_trackers(names)
    trackers: list[Any] = []

    def track(values: Mapping[str, float], step: int) -> None:
        for tracker in list(trackers):
            try:
                tracker.log(dict(values), step=step)
            except Exception as error:  # a server that is away must not end a training of hours
                logger.warning("%s gets no more numbers: %s", tracker.name, error)
                trackers.remove(tracker)

    try:
        for name in names:
            trackers.append(_start(name, scratch, stage, training[:16]))
        yield track
    finally:
        for tracker in trackers:
            try:
                tracker.finish()
            except Exception as error:  # what was trained is published nevertheless
                logger.warning("%s may lack the last numbers: %s", tracker.name, error)


def _start(name: str, scratch: Path, stage: str, training: str) -> Any:
    # Imported only here: most runs have no tracker.
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's own messages need it
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"logging_dir": scratch / "tensorboard"},
        "wandb": {"name": f"{stage} {training}", "group": training},
        "mlflow": {"run_name": f"{stage} {training}"},
    }
    project = training if name == "tensorboard" else _PROJECT
    try:
        tracker = LOGGER_TYPE_TO_CLASS[name](project, **options[name])
        tracker.start()
    except Exception as error:  # each service has other errors
        raise PipelineError(
            f"{name} does not start: {error!s:.300}. Fix: log in to it or set its address, or set "
            "runtime.trackers: []."
        ) from error
    return tracker
