"""Datasets made to do harm: each is refused in a sentence, or taken for what it is."""

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults import child
from tests.faults.lab import Lab, Tally
from tests.params_files import write_params

_SPLITS = ("train", "train", "train", "dev", "test", "test")
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
_LONG = "word " * 2_000_000


@dataclass
class Dataset:
    """A good dataset, as captions.jsonl; its third image and that one's line are what is spoilt."""

    root: Path
    rows: list[dict[str, Any]]

    @property
    def image(self) -> Path:
        return self.root / "2.png"

    @property
    def row(self) -> dict[str, Any]:
        return self.rows[2]

    def write(self, text: str | None = None) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.rows) if text is None else text
        (self.root / "captions.jsonl").write_text(lines, encoding="utf-8", errors="surrogatepass")


def make_dataset(root: Path) -> Dataset:
    """Six images with two captions each."""
    root.mkdir()
    rows = []
    for number, split in enumerate(_SPLITS):
        Image.new("RGB", (40, 30), (number * 40, 90, 200)).save(root / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": ["A picture.", "One colour."], "split": split})
    made = Dataset(root, rows)
    made.write()
    return made


def _png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A PNG whose header claims a size that its little data does not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def _bomb(dataset: Dataset) -> None:
    # Small as a file, 1.6 GB decoded.
    Image.new("1", (40_000, 40_000)).save(dataset.image, optimize=False)


def _text_bomb(dataset: Dataset) -> None:
    content = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + content))
    dataset.image.write_bytes(_png(40, 30, chunk))


def _frames(dataset: Dataset) -> None:
    frames = [Image.new("P", (500, 500), n) for n in range(200)]
    frames[0].save(dataset.image, format="GIF", save_all=True, append_images=frames[1:])


def _link_outside(dataset: Dataset) -> None:
    outside = dataset.root.parent / "secret.png"
    dataset.image.rename(outside)
    dataset.image.symlink_to(outside)


def _folder_link(dataset: Dataset) -> None:
    outside = dataset.root.parent / "secrets"
    outside.mkdir()
    dataset.image.rename(outside / "2.png")
    (dataset.root / "sub").symlink_to(outside)
    dataset.row["image"] = "sub/2.png"
    dataset.write()


def _loop(dataset: Dataset) -> None:
    dataset.image.unlink()
    dataset.image.symlink_to(dataset.image)


def _pipe(dataset: Dataset) -> None:
    dataset.image.unlink()
    os.mkfifo(dataset.image)


def _folder(dataset: Dataset) -> None:
    dataset.image.unlink()
    dataset.image.mkdir()


def _jpeg_with_bad_exif(dataset: Dataset) -> None:
    content = io.BytesIO()
    Image.new("RGB", (40, 30)).save(content, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(30))
    dataset.image.write_bytes(content.getvalue())


def _bytes(content: bytes) -> Callable[[Dataset], None]:
    def write(dataset: Dataset) -> None:
        dataset.image.write_bytes(content)

    return write


def _caption(text: object) -> Callable[[Dataset], None]:
    def write(dataset: Dataset) -> None:
        dataset.row["captions"] = [text, "One colour."]
        dataset.write()

    return write


def _row(**changes: Any) -> Callable[[Dataset], None]:
    def write(dataset: Dataset) -> None:
        dataset.row.update(changes)
        dataset.write()

    return write


def _line(text: str) -> Callable[[Dataset], None]:
    def write(dataset: Dataset) -> None:
        lines = [json.dumps(row) for row in dataset.rows]
        lines[2] = text
        dataset.write("\n".join(lines))

    return write


def _all_in_one_split(dataset: Dataset) -> None:
    for row in dataset.rows:
        row["split"] = "train"
    dataset.write()


# Kind -> how the dataset is spoilt, and words of the sentence that refuses it; None: it may be taken.
KINDS: dict[str, tuple[Callable[[Dataset], object], str | None]] = {
    "image: decompression bomb": (_bomb, "too many pixels"),
    "image: header claims 2 billion pixels a side": (_bytes(_png(2**31 - 1, 2**31 - 1)), "too many pixels"),
    "image: header claims more than the data": (_bytes(_png(900, 900)), "is truncated or damaged"),
    "image: text chunk of 100 MB": (_text_bomb, "is truncated or damaged"),
    "image: 200 frames": (_frames, None),
    "image: broken EXIF": (_jpeg_with_bad_exif, None),
    "image: empty": (_bytes(b""), "is empty (0 bytes)"),
    "image: text": (_bytes(b"hello" * 100), "is not a readable image"),
    "image: SVG with a script": (
        _bytes(b"<svg xmlns='x'><script>alert(1)</script></svg>"),
        "is not a readable image",
    ),
    "image: a pickle": (_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR."), "is not a readable image"),
    "image: cut off": (lambda d: d.image.write_bytes(d.image.read_bytes()[:50]), "is truncated or damaged"),
    "image: not there": (lambda d: d.image.unlink(), "are not in photos"),
    "image: a folder": (_folder, "are not in photos"),
    "image: a pipe": (_pipe, "are not in photos"),
    "image: a link to itself": (_loop, "are not in photos"),
    "image: a link out of the folder": (_link_outside, "links that lead out of photos"),
    "image: below a link out of the folder": (_folder_link, "links that lead out of photos"),
    "name: ../": (_row(image="../2.png"), "no plain path"),
    "name: absolute": (_row(image="/etc/passwd"), "no plain path"),
    "name: backslashes": (_row(image="..\\2.png"), "no plain path"),
    "name: NUL": (_row(image="2.png\0.txt"), "no plain path"),
    "name: 10,000 characters": (_row(image="x" * 10_000), "are not in photos"),
    "name: a number": (_row(image=2), "expected the name of an image file"),
    "name: listed twice": (_row(image="1.png"), "listed a second time"),
    "caption: 10 MB": (_caption(_LONG), "has 9999999 characters"),
    "caption: control characters": (_caption("a\x00b\x1b[31m"), "holds the control character '\\x00'"),
    "caption: half a character": (_caption("a \ud800 b"), "holds the control character '\\ud800'"),
    "caption: blank": (_caption(" \t "), "a caption is empty"),
    "caption: a number": (_caption(7), "a caption is 7, expected text"),
    "caption: HTML": (_caption(MARKUP), None),
    "caption: right to left": (_caption("\u202eabc\u200f \u0645\u0631\u062d\u0628\u0627"), None),
    "caption: a template": (_caption("{{ 7 * 7 }} {% raw %} ${x} %s"), None),
    "captions: text instead of a list": (_row(captions="A picture."), "expected a list of text"),
    "captions: none": (_row(captions=[]), "the image has no caption"),
    "split: unknown": (_row(split="validation"), "the split is 'validation'"),
    "split: all the same": (_all_in_one_split, "has no image in the split dev"),
    "line: nested 100,000 deep": (_line("[" * 100_000), "nested too deep"),
    "line: a number of 100,000 digits": (_line('{"image": ' + "9" * 100_000 + "}"), "is not usable JSON"),
    "line: not UTF-8": (
        lambda d: (d.root / "captions.jsonl").write_bytes(b'{"image": "\xff"}\n'),
        "is not UTF-8",
    ),
    "line: NaN": (_line("NaN"), "holds nan"),
    "list: empty": (lambda d: d.write(""), "has no image in the split train"),
}


def hostile(lab: Lab, kind: str) -> Tally:
    """Run prepare on a spoilt dataset; where it is taken, the report that shows it must be free of markup."""
    spoil, reason = KINDS[kind]
    tally = Tally(kind)
    with lab.project("prepare") as folder:
        dataset = make_dataset(folder / "photos")
        spoil(dataset)
        data = replace(lab.params.data, source="jsonl", root="photos", max_megapixels=1.0)
        write_params(folder / "params.yaml", replace(lab.params, data=data))
        ended = child.run(folder, "prepare")
        kept = lab.made(folder, "prepare")["data/captions.jsonl"] == b"old\n"
        good = ended.code == 0 if reason is None else ended.refused and kept and reason in ended.printed
        tally.check(good, f"exit {ended.code}: {ended.last_line:.200}")
    return tally


def markup_in_the_report(lab: Lab, times: int, seed: int) -> Tally:
    """Captions, predictions and requests hold markup: the page shows it as text."""
    tally = Tally("report: HTML in captions, predictions and requests")
    rng = random.Random(seed)
    for _ in range(times):
        with lab.project() as folder:
            files = [folder / "data/captions.jsonl", folder / "data/regions/regions.jsonl"]
            files += (folder / "data/predictions").glob("*.jsonl")
            for path in files:
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                for row in rows:
                    for key in ("captions", "caption", "request", "region"):
                        if key in row:
                            text = f"{MARKUP} {rng.random()}"
                            row[key] = [text] if key == "captions" else text
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            ended = child.run(folder, "report")
            page = (folder / "report/index.html").read_text()
            escaped = "<script>alert" not in page and "<img src=x" not in page and "alert(1)" in page
            tally.check(ended.code == 0 and escaped, f"exit {ended.code}: {ended.last_line}")
    return tally
