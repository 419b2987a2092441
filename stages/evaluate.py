"""Stage 5: every epoch is scored on dev and test, and dev chooses the best."""

from pathlib import Path

from stages.console import SCRATCH, stage_banner, stage_command


@stage_command
def main(params: Path) -> None:
    """Caption dev and test with every checkpoint, score them, choose the best epoch on dev.

    \b
    Reads   data/checkpoints/, data/features.h5, data/captions.jsonl
    Writes  metrics/scores.json, metrics/evaluate.json, plots/epochs.csv, data/predictions/,
            data/best.safetensors
    Params  evaluate, generate

    \b
    Example: python -m stages.evaluate
    """
    from pipeline.evaluation.evaluate import EvaluatePaths, evaluate
    from pipeline.hardware.device import choose_placement
    from pipeline.hardware.execution import Execution
    from pipeline.hardware.memory import keep_freed_memory
    from pipeline.params.loader import load_params

    settings = load_params(params)
    keep_freed_memory()
    paths = EvaluatePaths(
        checkpoints=Path("data/checkpoints"),
        features=Path("data/features.h5"),
        captions=Path("data/captions.jsonl"),
        predictions=Path("data/predictions"),
        best=Path("data/best.safetensors"),
        metrics=Path("metrics/evaluate.json"),
        scores=Path("metrics/scores.json"),
        curve=Path("plots/epochs.csv"),
    )
    reads = [paths.checkpoints, paths.features, paths.captions]
    writes = [paths.metrics, paths.scores, paths.curve, paths.predictions, paths.best]
    with stage_banner("evaluate", reads, writes) as close_with:
        placement = choose_placement(settings.runtime.device)
        found = evaluate(paths, settings, Execution(placement, settings.runtime, SCRATCH / "evaluate"))
        test = found["test"]
        decided = found.get("choice", {}).get("decided_by", found["selected_by"])
        close_with(
            f"best epoch {found['best_epoch']} by {decided}; test BLEU-1 "
            f"{test['bleu_1']:.2f}, BLEU-4 {test['bleu_4']:.2f}, CIDEr {test['cider']:.2f}"
        )


if __name__ == "__main__":
    main()
