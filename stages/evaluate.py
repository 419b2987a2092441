"""Stage 6: every epoch is scored on dev and test, and dev chooses the best."""

from pipeline.params.schema import Params
from stages.console import SCRATCH, stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Caption dev and test with every checkpoint, score them, choose the best epoch on dev.

    \b
    Reads   data/checkpoints/, data/features.h5, data/captions.jsonl, data/memory.h5,
            data/neighbors.h5
    Writes  metrics/scores.json, metrics/evaluate.json, plots/epochs.csv, data/predictions/,
            data/best.safetensors
    Params  evaluate, generate

    \b
    Example: python -m stages.evaluate
    """
    from pipeline.evaluation.evaluate import EvaluatePaths, evaluate
    from pipeline.hardware.execution import Execution

    paths = EvaluatePaths()
    reads = [paths.checkpoints, paths.features, paths.captions, paths.memory, paths.neighbors]
    writes = [paths.metrics, paths.scores, paths.curve, paths.predictions, paths.best]
    with stage_banner("evaluate", reads, writes) as close_with:
        evaluation = evaluate(paths, settings, Execution.start(settings.runtime, SCRATCH / "evaluate"))
        test = evaluation["test"]
        decided = evaluation.get("choice", {}).get("decided_by", evaluation["selected_by"])
        close_with(
            f"best epoch {evaluation['best_epoch']} by {decided}; test BLEU-1 "
            f"{test['bleu_1']:.2f}, BLEU-4 {test['bleu_4']:.2f}, CIDEr-D {test['cider']:.2f}"
        )


if __name__ == "__main__":
    main()
