"""Stage 6: regions of test images are captioned, their crops encoded on the fly."""

from pathlib import Path

from stages.console import SCRATCH, stage_banner, stage_command


@stage_command
def main(params: Path) -> None:
    """Put every region request to the first test images.

    \b
    Reads   data/best.safetensors, data/images.jsonl, data/captions.jsonl and the images
    Writes  data/regions/, metrics/regions.json
    Params  regions, generate

    \b
    Example: python -m stages.regions
    """
    from pipeline.hardware.device import choose_placement
    from pipeline.hardware.execution import Execution
    from pipeline.hardware.memory import keep_freed_memory
    from pipeline.params.loader import load_params
    from pipeline.regions.caption_regions import RegionPaths, caption_regions

    settings = load_params(params)
    keep_freed_memory()
    paths = RegionPaths(
        checkpoint=Path("data/best.safetensors"),
        images=Path("data/images.jsonl"),
        captions=Path("data/captions.jsonl"),
        output=Path("data/regions"),
        metrics=Path("metrics/regions.json"),
    )
    reads = [paths.checkpoint, paths.images, paths.captions]
    with stage_banner("regions", reads, [paths.output, paths.metrics]) as close_with:
        placement = choose_placement(settings.runtime.device)
        found = caption_regions(paths, settings, Execution(placement, settings.runtime, SCRATCH / "regions"))
        close_with(f"{found['requests']} requests about {found['images']} images")


if __name__ == "__main__":
    main()
