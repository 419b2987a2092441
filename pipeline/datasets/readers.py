"""The readers of caption datasets: each turns one family of files into a Listing.

They read text only; `pipeline.datasets.read` checks for all formats that the images exist.
"""

import logging
from pathlib import Path

from pipeline.captions import Split
from pipeline.datasets.listing import Listing, to_split
from pipeline.datasets.text_files import parse_json, read_lines, read_rows, read_text, to_object
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

JSONL, CSV = "captions.jsonl", "captions.csv"

# Karpathy's restval is the part of COCO's validation images that is left over; everyone trains on it.
_KARPATHY_SPLITS: dict[str, Split] = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


def karpathy_files(root: Path) -> list[Path]:
    """List the JSON files in Karpathy's format in a folder: dataset.json, else all dataset_*.json."""
    plain = root / "dataset.json"
    return [plain] if plain.is_file() else sorted(root.glob("dataset_*.json"))


def karpathy_file(root: Path) -> Path:
    """Return the one JSON file in Karpathy's format of a folder. Raises PipelineError for none or several."""
    files = karpathy_files(root)
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "neither"
        raise PipelineError(f"{root} needs dataset.json or exactly one dataset_*.json; it holds {names}.")
    return files[0]


def read_karpathy(root: Path) -> Listing:
    """Read the one file in Karpathy's format of a folder; the images lie in images/ or next to the file."""
    listing = read_karpathy_file(karpathy_file(root), root / "images")
    first = next(iter(listing.captions))
    if not (listing.folder / first).is_file() and (root / first).is_file():
        listing.folder = root
    return listing


def read_karpathy_file(source: Path, image_folder: Path) -> Listing:
    """Read Karpathy's JSON of Flickr8k, Flickr30k or COCO."""
    content = parse_json(read_text(source), source)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise PipelineError(f'{source} lists no images; expected {{"images": [{{"filename": ...}}, ...]}}.')
    listing = Listing(source, image_folder)
    for number, entry in enumerate(images):
        place = f"{source}: images[{number}]"
        image = to_object(entry, place)
        # COCO has its files in train2014/ and val2014/, which only `filepath` says.
        name, prefix = image.get("filename"), image.get("filepath")
        split = to_split(image.get("split"), place, _KARPATHY_SPLITS)
        image_id = listing.add_image(f"{prefix}/{name}" if prefix and name else name, split, place)
        sentences = image.get("sentences")
        if isinstance(sentences, list):
            sentences = [s.get("raw") if isinstance(s, dict) else s for s in sentences]
        listing.add_captions(image_id, sentences, place)
    return listing


def read_jsonl(root: Path) -> Listing:
    """Read captions.jsonl: on each line an image, its captions, questions about it, possibly its split."""
    listing = Listing(root / JSONL, root)
    unread: set[str] = set()
    for place, line in read_lines(listing.source):
        row = parse_json(line, listing.source, first_line=int(place.rpartition(":")[2]))
        if not isinstance(row, dict):
            raise PipelineError(f'{place} holds {row!r:.60}, expected {{"image": ..., "captions": [...]}}.')
        split = to_split(row["split"], place) if "split" in row else None
        image_id = listing.add_image(row.get("image"), split, place)
        if "captions" in row or "turns" not in row:
            listing.add_captions(image_id, row.get("captions"), place)
        for turn in _turns(row.get("turns", []), place):
            listing.add_conversation(image_id, [turn], place)
        unread |= row.keys() - {"image", "captions", "turns", "split"}
    if unread:
        names = "image, captions, turns and split"
        logger.warning("%s: only %s are read, not %s", listing.source, names, sorted(unread))
    return listing


def _turns(turns: object, place: str) -> list[tuple[object, object, object]]:
    """Return question, answer and kind of each turn, which its line may leave out."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise PipelineError(
            f'{place}: turns are {turns!r:.60}, expected [{{"question": ..., "answer": ...}}, ...].'
        )
    return [(turn.get("question"), turn.get("answer"), turn.get("kind")) for turn in turns]


def read_csv(root: Path) -> Listing:
    """Read captions.csv with the header image,caption or image,caption,split: one caption on each row."""
    listing = Listing(root / CSV, root)
    for place, row in read_rows(listing.source, optional=("split",)):
        split = to_split(row["split"], place) if "split" in row else None
        image_id = listing.add_image(row["image"], split, place, again=True)
        listing.add_captions(image_id, [row["caption"]], place)
    return listing
