"""The dataset card: what a prepared dataset holds, as a page of Markdown that depends on the data alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean, median

from pipeline.captions import SPLITS, CaptionRecord, ImageRecord, of_split

_LICENCES = {
    "scenes": "Drawn and described by this project's own code, under its licence.",
    "flickr8k": (
        "Flickr8k is for non-commercial research and education; its photographs stay under the terms that "
        "their photographers chose at Flickr. Images, captions and features are not to be passed on."
    ),
}
_UNKNOWN_LICENCE = (
    "Not known to this project. Before images, captions, features or a trained model are passed on, look up "
    "what the dataset's makers allow."
)
_NAMED = 3


def dataset_card(
    source: str,
    origin: str,
    images: Sequence[ImageRecord],
    captions: Sequence[CaptionRecord],
    licence: str | None = None,
) -> str:
    """The card of a table of images and captions.

    Args:
        source: `data.source`.
        origin: where the dataset comes from, in words.
        images: all images.
        captions: the captions of the same images.
        licence: the note on it; None: what is known of the source.
    """
    lines = [
        "# Dataset",
        "",
        f"`{source}`: {origin}",
        "",
        "| split | images | captions | captions of an image | words of a caption (mean) |",
        "|---|---:|---:|---:|---:|",
        *(_row(split, of_split(captions, split)) for split in SPLITS),
        _row("all", captions),
        "",
        f"- Words of a caption: {_spread(len(c.split()) for r in captions for c in r.captions)}.",
        f"- Characters of a caption: {_spread(len(c) for r in captions for c in r.captions)}.",
        f"- Width of an image: {_spread(i.width for i in images)} pixels.",
        f"- Height of an image: {_spread(i.height for i in images)} pixels.",
        *_duplicates(images, captions),
        "",
        "## Licence",
        "",
        licence or _LICENCES.get(source, _UNKNOWN_LICENCE),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, records: Sequence[CaptionRecord]) -> str:
    counts = [len(record.captions) for record in records]
    words = [len(caption.split()) for record in records for caption in record.captions]
    some = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"| {name} | {len(records)} | {sum(counts)} | {some} | {mean(words):.1f} |"


def _spread(values: Iterable[int]) -> str:
    numbers = list(values)
    return f"{min(numbers)} to {max(numbers)}, median {median(numbers):g}, mean {mean(numbers):.1f}"


def _duplicates(images: Sequence[ImageRecord], captions: Sequence[CaptionRecord]) -> list[str]:
    """What is there more than once: equal image files are a leak where they lie in different splits."""
    by_content: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        by_content[image.sha256].append(image.image_id)
    equal = [ids for ids in by_content.values() if len(ids) > 1]
    splits = {record.image_id: record.split for record in captions}
    leaking = [ids for ids in equal if len({splits[i] for i in ids}) > 1]
    images_of = Counter(caption for record in captions for caption in set(record.captions))
    repeated = sum(len(r.captions) - len(set(r.captions)) for r in captions)
    return [
        f"- Images with equal bytes: {_groups(equal)}; in different splits: {_groups(leaking)}.",
        f"- Captions that an image has more than once: {repeated}.",
        f"- Captions that several images have: {sum(count > 1 for count in images_of.values())}.",
    ]


def _groups(groups: Sequence[list[str]]) -> str:
    if not groups:
        return "none"
    named = "; ".join(" = ".join(ids[:_NAMED]) for ids in sorted(groups)[:_NAMED])
    return f"{len(groups)} groups ({named}{'; ...' if len(groups) > _NAMED else ''})"
