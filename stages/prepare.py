"""Stage 1: a caption dataset becomes one table of images, captions and splits."""

from pathlib import Path

from pipeline.params.schema import Params
from stages.console import stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Read, download or draw the dataset, check every image, and list images and captions.

    \b
    Reads   the dataset at data.root, or draws scenes
    Writes  data/images.jsonl, data/captions.jsonl, data/images/
    Params  data

    \b
    Example: python -m stages.prepare
    """
    from pipeline.datasets.prepare import prepare

    images, captions, folder = Path("data/images.jsonl"), Path("data/captions.jsonl"), Path("data/images")
    with stage_banner("prepare", [Path(settings.data.root)], [images, captions, folder]) as close_with:
        counts = prepare(settings.data, images, captions, folder, settings.runtime.num_workers)
        close_with(counts)


if __name__ == "__main__":
    main()
