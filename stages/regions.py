"""Stage 7: regions of test images are captioned, their crops encoded on the fly."""

from pipeline.params.schema import Params
from stages.console import SCRATCH, stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Ask every region request about the first test images.

    \b
    Reads   data/best.safetensors, data/images.jsonl, data/captions.jsonl and the images
    Writes  data/regions/, metrics/regions.json
    Params  regions, generate

    \b
    Example: python -m stages.regions
    """
    from pipeline.hardware.execution import Execution
    from pipeline.regions.caption_regions import RegionPaths, caption_regions

    paths = RegionPaths()
    reads = [paths.checkpoint, paths.images, paths.captions]
    with stage_banner("regions", reads, [paths.output, paths.metrics]) as close_with:
        counts = caption_regions(paths, settings, Execution.start(settings.runtime, SCRATCH / "regions"))
        close_with(f"{counts['requests']} requests about {counts['images']} images")


if __name__ == "__main__":
    main()
