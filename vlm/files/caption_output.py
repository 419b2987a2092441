"""Where `vlm caption` puts captions: the terminal, a file next to each image, or one file for all."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_write_errors
from pipeline.files.json_files import JsonObject, read_jsonl, write_atomic, write_jsonl
from pipeline.files.locks import file_lock
from pipeline.regions.regions import REGIONS, Region
from vlm.files.image_files import text_file

if TYPE_CHECKING:
    from pipeline.regions.captioner import RegionCaption

# A killed run loses at most what it made in that time, and the batch under way.
_SAVE_SECONDS = 10.0


@dataclass
class Printer:
    """Prints captions as lines of JSON, or as text that names path and region where it should.

    Where the texts are answers, `question` is what was asked.
    """

    as_json: bool
    names_path: bool
    names_region: bool
    question: str | None = None

    def has(self, _image: Path, _region: Region) -> bool:
        """Nothing that was printed before is known."""
        return False

    def add(self, image: Path, answer: "RegionCaption") -> bool:
        """Print a caption."""
        from tqdm import tqdm

        if self.as_json:
            line = json.dumps(_row(image, answer, self.question), ensure_ascii=False)
        else:
            names = [_text(image)] * self.names_path + [str(answer.region)] * self.names_region
            line = ": ".join([*names, answer.text])
        tqdm.write(line)  # above its bar
        return True

    def end_batch(self) -> None:
        """Do nothing: what was printed is kept."""


class TextFiles:
    """Writes the caption of `photo.jpg` to `photo.txt`, atomically; a file that exists is never touched."""

    def __init__(self, images: Iterable[Path], regions: Sequence[Region]) -> None:
        """Raise PipelineError for captions of regions, and where two would belong in one file."""
        parts = [region for region in regions if region.pixels or region.box != REGIONS["full"].box]
        if parts or len(regions) > 1:
            # A text file that exists does not say which region its caption is of.
            names = ", ".join(map(str, parts or regions))
            raise PipelineError(
                f"--write txt takes captions of whole images, not of {names}. Fix: use --write OUT.jsonl."
            )
        owners: dict[Path, Path] = {}
        for image in images:
            owner = owners.setdefault(text_file(image), image)
            if owner != image:
                raise PipelineError(
                    f"{owner} and {image} would share {text_file(image)}. "
                    "Fix: rename one of them, or use --write OUT.jsonl."
                )

    def has(self, image: Path, _region: Region) -> bool:
        """Whether the image has a text file, by any author."""
        return text_file(image).exists()

    def add(self, image: Path, answer: "RegionCaption") -> bool:
        """Write a caption; False if its file exists by now."""
        path = text_file(image)
        with explain_write_errors(path):
            try:
                path.touch(exist_ok=False)  # a file that somebody wrote meanwhile is kept
            except FileExistsError:
                return False
        try:
            write_atomic(path, f"{answer.text}\n".encode())
        except BaseException:
            path.unlink()  # an empty file would count as a caption
            raise
        return True

    def end_batch(self) -> None:
        """Do nothing: each caption has its file."""


class JsonLines:
    """Writes one file with a line for each caption, atomically, after a batch and when it is saved."""

    def __init__(self, path: Path) -> None:
        """Read the captions that the file has. Raises PipelineError if it has anything else."""
        self._path = path
        self._rows: list[JsonObject] = []
        self._known: set[tuple[object, ...]] = set()
        self._saved, self._is_saved = time.monotonic(), True
        for number, row in read_jsonl(path) if path.exists() else ():
            match row:
                case {"path": str(image), "region": str(name), "box": [*box], "caption": str()}:
                    self._known.add((image, name, *map(str, box)))
                    self._rows.append(row)
                case _:
                    raise PipelineError(
                        f"{path}:{number} is not a line of `vlm caption`, so nothing is added to that "
                        "file. Fix: name another file."
                    )

    def has(self, image: Path, region: Region) -> bool:
        """Whether the file has the region of an image; of a box in pixels, known only when it is output."""
        return not region.pixels and (_text(image), region.name, *map(str, region.box)) in self._known

    def add(self, image: Path, answer: "RegionCaption") -> bool:
        """Take a caption; False if the file has it."""
        if self.has(image, answer.region):
            return False
        self._rows.append(_row(image, answer))
        self._is_saved = False
        return True

    def end_batch(self) -> None:
        """Write all lines, unless that was done seconds ago; the captions of a batch come at once."""
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write all lines, if some are not written yet."""
        if not self._is_saved:
            write_jsonl(self._path, self._rows)
            self._saved, self._is_saved = time.monotonic(), True


# `has` says whether an earlier run left a caption, `add` outputs one and says whether it was new, and
# `end_batch` is called when the captions of a batch are output.
CaptionOutput = Printer | TextFiles | JsonLines


@contextmanager
def open_output(
    write: str | None, printer: Printer, images: Iterable[Path], regions: Sequence[Region]
) -> Iterator[CaptionOutput]:
    """Open what `--write` names, for captions of `regions` of each image; without it, the printer.

    Raises PipelineError if another process writes that file of all captions: it would lose some.
    """
    if not write:
        yield printer
    elif write == "txt":
        yield TextFiles(images, regions)
    elif write.endswith(".jsonl"):
        path = Path(write)
        lock = path.with_name(f".{path.name}.lock")
        with file_lock(lock, f"captioning into {path}"), ExitStack() as stack:
            stack.callback(lock.unlink, missing_ok=True)
            lines = JsonLines(path)
            stack.callback(lines.save)
            yield lines
    else:
        raise click.UsageError(f"--write takes txt or a file OUT.jsonl, not {write!r:.100}.")


def _text(image: Path) -> str:
    """The path as text that UTF-8 can hold, whatever bytes a file name has."""
    return os.fsencode(image).decode("utf-8", "backslashreplace")


def _row(image: Path, answer: "RegionCaption", question: str | None = None) -> JsonObject:
    text = {"caption": answer.text} if question is None else {"question": question, "answer": answer.text}
    return {
        "path": _text(image),
        "region": answer.region.name,
        "box": answer.region.box,
        **text,
        "score": round(answer.score, 4),
        "finished": answer.finished,
    }
