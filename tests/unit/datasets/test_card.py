"""The dataset card: counts, lengths, duplicates, licence; equal for equal data.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_card.py
"""

from pipeline.captions import CaptionRecord, ImageRecord
from pipeline.datasets.card import dataset_card

IMAGES = [
    ImageRecord("a.jpg", "x/a.jpg", "1" * 64, 30, 20),
    ImageRecord("b.jpg", "x/b.jpg", "2" * 64, 50, 20),
    ImageRecord("c.jpg", "x/c.jpg", "1" * 64, 40, 20),
    ImageRecord("d.jpg", "x/d.jpg", "3" * 64, 40, 60),
    ImageRecord("e.jpg", "x/e.jpg", "3" * 64, 40, 60),
]
CAPTIONS = [
    CaptionRecord("a.jpg", "train", ("a dog", "a dog", "a small dog runs")),
    CaptionRecord("b.jpg", "train", ("a cat",)),
    CaptionRecord("c.jpg", "dev", ("a dog",)),
    CaptionRecord("d.jpg", "test", ("one", "two")),
    CaptionRecord("e.jpg", "test", ("one two", "three")),
]


def card(source: str = "jsonl", licence: str | None = None) -> str:
    return dataset_card(source, "`photos`.", IMAGES, CAPTIONS, licence)


def test_it_counts_images_and_captions_of_each_split() -> None:
    text = card()
    assert "| train | 2 | 4 | 1 to 3 | 2.5 |" in text
    assert "| dev | 1 | 1 | 1 | 2.0 |" in text
    assert "| test | 2 | 4 | 2 | 1.2 |" in text
    assert "| all | 5 | 9 | 1 to 3 | 1.9 |" in text


def test_it_tells_lengths_and_sizes() -> None:
    text = card()
    assert "Words of a caption: 1 to 4, median 2, mean 1.9." in text
    assert "Characters of a caption: 3 to 16, median 5, mean 6.0." in text
    assert "Width of an image: 30 to 50, median 40, mean 40.0 pixels." in text


def test_it_finds_what_is_there_twice() -> None:
    text = card()
    assert "equal bytes: 2 groups (a.jpg = c.jpg; d.jpg = e.jpg); in different splits: 1 groups" in text
    assert "in different splits: 1 groups (a.jpg = c.jpg)." in text
    assert "Captions that an image has more than once: 1." in text
    assert "Captions that several images have: 1." in text


def test_it_says_that_nothing_is_there_twice() -> None:
    text = dataset_card("jsonl", "`photos`.", IMAGES[1:4], CAPTIONS[1:4])
    assert "equal bytes: none; in different splits: none." in text


def test_it_notes_the_licence() -> None:
    assert "`flickr8k`: `photos`." in card("flickr8k")
    assert "non-commercial research and education" in card("flickr8k")
    assert "under its licence" in card("scenes")
    assert "Not known to this project" in card()
    assert card(licence="Do as you please.").endswith("## Licence\n\nDo as you please.\n")
