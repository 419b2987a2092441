"""A place by its crop or by a question: what is captioned and what is answered about corners of test scenes.

Both are judged by the same rule, where a corner shows one whole object or nothing (`metrics.scene_truth`).
"""

from pathlib import Path
from typing import Any

import click

from benchmarks.common import benchmark, table
from pipeline.captions import read_captions, read_images, select_split, vocabulary
from pipeline.metrics.scene_truth import judge_caption, score_judgments
from pipeline.regions.caption_regions import only_object, visible_objects
from pipeline.regions.captioner import Captioner
from pipeline.regions.regions import REGIONS

_CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
_COLUMNS = ("objects", "shape_accuracy", "color_accuracy", "both_accuracy", "empties", "empty_accuracy")


@benchmark
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(data: Path) -> None:
    """Compare captions of crops with answers about the same corners of the test scenes of a run.

    \b
    Example: python -m benchmarks.places data
    """
    click.echo(f"loading {data} ...", err=True)
    captioner = Captioner.load(data)
    paths = {image.image_id: Path(image.path) for image in read_images(data / "images.jsonl")}
    records = read_captions(data / "captions.jsonl")
    shapes, colors = vocabulary(records)
    rows: list[dict[str, Any]] = []
    for way in ("caption of the crop", "answer to a question"):
        judgments = []
        for name in _CORNERS:
            # Where a corner shows several objects, or a part of one, no text would be the right one.
            clear = [
                record
                for record in select_split(records, "test")
                if only_object(record.objects, REGIONS[name])
                or not visible_objects(record.objects, REGIONS[name])
            ]
            images = [paths[record.image_id] for record in clear]
            click.echo(f"{way}, {name}: {len(images)} images ...", err=True)
            if way == "caption of the crop":
                said = captioner.caption(images, name)
            else:
                said = captioner.answer(f"What is in the {name.replace('-', ' ')} corner?", images)
            for record, text in zip(clear, said, strict=True):
                item = only_object(record.objects, REGIONS[name])
                judgments.append(judge_caption(text.text, item, shapes=shapes, colors=colors))
        scores = score_judgments(judgments)
        rows.append({"": way, **{column.replace("_", " "): scores.get(column, "") for column in _COLUMNS}})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
