"""The report's tables of colours: which are said, and which instead of which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions import CaptionRecord, SceneObject, of_split, vocabulary
from pipeline.errors import PipelineError
from pipeline.files.json_files import read_jsonl
from pipeline.metrics.color_confusions import (
    ColorConfusions,
    confusions_of_objects,
    confusions_with_references,
)


@dataclass(frozen=True, slots=True)
class ColorTable:
    """Counts, with their heading and what stands in their rows; `images` says what was counted."""

    title: str
    meant: str
    images: str
    confusions: ColorConfusions


def color_tables(
    said: Mapping[str, str], captions: Sequence[CaptionRecord], regions: Path
) -> list[ColorTable]:
    """Test captions against their references, and against the truth where the dataset knows it.

    Args:
        said: the caption of each test image.
        captions: all captions of the dataset.
        regions: regions.jsonl, whose rows may name the one `object` that a region shows.

    Raises PipelineError for an object that is none.
    """
    test = of_split(captions, "test")
    references = {record.image_id: record.captions for record in test}
    with_references = confusions_with_references({i: said[i] for i in references}, references)
    tables = [ColorTable("Against the references", "in a reference", "test images", with_references)]
    shapes, colors = vocabulary(captions)
    single = [(said[r.image_id], r.objects[0]) for r in test if len(r.objects) == 1]
    for title, images, known in (
        ("Against the truth: single objects", "images of one object", single),
        ("Against the truth: region crops", "crops of one object", _shown(regions)),
    ):
        if known:
            counted = confusions_of_objects(known, shapes=shapes, colors=colors)
            tables.append(ColorTable(title, "true colour", images, counted))
    return [table for table in tables if table.confusions.colors]


def _shown(path: Path) -> list[tuple[str, SceneObject]]:
    """The caption of each region that shows one object, and that object."""
    shown = []
    for number, row in read_jsonl(path):
        if "object" in row:
            try:
                shown.append((row["caption"], SceneObject(**row["object"])))
            except (KeyError, TypeError) as error:
                raise PipelineError(
                    f"{path}:{number} holds no object with its caption: {error}; run `dvc repro regions`."
                ) from error
    return shown
