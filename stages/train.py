"""Stage 5: the projector, with adapters if asked for, is trained from cached features."""

import os

from pipeline.params.schema import Params
from stages.console import SCRATCH, stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Train the projector (and adapters, with lora.rank); save a checkpoint for each epoch.

    Continues an interrupted run, or one with fewer epochs, from .scratch/train.

    \b
    Reads   data/features.h5, data/tokens.h5, data/neighbors.h5
    Writes  data/checkpoints/, metrics/train.json, metrics/cost.json, plots/training.csv
    Params  train, projector, lora, language_model

    Under `accelerate launch` or `torchrun --nproc-per-node N -m stages.train` several processes share work.

    \b
    Example: python -m stages.train
    """
    from pipeline.hardware.device import choose_placement
    from pipeline.hardware.execution import Execution
    from pipeline.hardware.memory import keep_freed_memory
    from pipeline.hardware.processes import join_processes
    from pipeline.training.outputs import TrainPaths
    from pipeline.training.train import train

    keep_freed_memory()
    paths = TrainPaths()
    reads = [paths.features, paths.tokens, paths.neighbors]
    writes = [paths.checkpoints, paths.metrics, paths.cost, paths.curve]
    count = int(os.environ.get("WORLD_SIZE", "1"))  # set by `accelerate launch` and `torchrun`
    with (
        stage_banner("train", reads, writes) as close_with,
        join_processes(choose_placement(settings.runtime.device), count) as (processes, placement),
    ):
        execution = Execution(placement, settings.runtime, SCRATCH / "train", processes)
        done = train(paths, settings, execution)
        epochs = f"{done.epochs} epoch" + ("s" if done.epochs > 1 else "")
        close_with(f"{epochs}, {done.trained_steps} of {done.steps} steps trained now, loss {done.loss:.4f}")


if __name__ == "__main__":
    main()
