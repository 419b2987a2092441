"""Questions of every format become conversations of the same table.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_questions.py
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.captions import CaptionRecord, Turn
from tests.dataset_makers import NAMES, edit, make_images, make_jsonl, read, said
from tests.refusals import refusal

WHY = Turn("Why does the dog run?", "It sees a cat.")
COUNT = Turn("How many dogs?", "2", "number")


def records(source: str, root: Path) -> dict[str, CaptionRecord]:
    return {record.image_id: record for record, _ in read(source, root)}


# --- one's own files --------------------------------------------------------------------------------


def test_turns_of_jsonl_are_questions_of_their_own_next_to_captions_or_alone(tmp_path: Path) -> None:
    make_jsonl(tmp_path)
    turns = '[{"question": " Why does the dog\\nrun?", "answer": "It sees a cat."}, '
    turns += '{"question": "How many dogs?", "answer": "2", "kind": "number"}]'
    edit(tmp_path / "captions.jsonl", '"split": "dev"', f'"split": "dev", "turns": {turns}')
    captions = '"captions": ["Caption 0 of a.jpg .", "Caption 1 of a.jpg ."]'
    edit(tmp_path / "captions.jsonl", captions, f'"turns": {turns}')
    found = records("jsonl", tmp_path)
    for name, count in (("a.jpg", 0), ("b.jpg", 2), ("c.jpg", 2)):
        assert len(found[name].captions) == count
        assert found[name].conversations == (() if name == "b.jpg" else ((WHY,), (COUNT,)))
    # What the model's text is compared with.
    assert (found["a.jpg"].question, found["a.jpg"].texts) == (WHY.question, (WHY.answer,))
    assert (found["c.jpg"].question, found["c.jpg"].texts) == (None, found["c.jpg"].captions)


def test_an_image_with_neither_captions_nor_turns_is_refused(tmp_path: Path) -> None:
    captions = '"captions": ["Caption 0 of b.jpg .", "Caption 1 of b.jpg ."]'
    edit(make_jsonl(tmp_path) / "captions.jsonl", captions, '"turns": []')
    refusal(read, "jsonl", tmp_path, match="has no caption for 1 of 4 images")


# --- LLaVA ------------------------------------------------------------------------------------------


def make_llava(root: Path, *more: dict[str, Any]) -> Path:
    make_images(root / "images")
    entries = [
        {"id": n, "image": n, "split": split, "conversations": said(f"{WHY.question}\n<image>", WHY.answer)}
        for n, split in NAMES.items()
    ]
    (root / "instruct.json").write_text(json.dumps([*entries, *more]))
    (root / "instruct_meta.json").write_text("of LLaVA-Pretrain, not read")
    return root


def test_a_conversation_of_llava_is_one_branch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = {"image": "a.jpg", "split": "train"}
    make_llava(
        tmp_path,
        {**train, "conversations": said("<image>\nHow many dogs?", "2", "What color?", "Brown.")},
        {
            **train,
            "conversations": said("Render a clear and concise summary of the photo.\n<image>", "a dog"),
        },
        {**train, "conversations": said("<image>", "a brown dog")},
        {"id": "text", "conversations": said("Who are you?", "Vicuna.")},
    )
    found = records("llava", tmp_path)
    talk = (Turn("How many dogs?", "2"), Turn("What color?", "Brown."))
    assert found["a.jpg"].conversations == ((WHY,), talk)
    assert found["a.jpg"].captions == ("a dog", "a brown dog")
    assert found["b.jpg"] == CaptionRecord("b.jpg", "train", (), conversations=((WHY,),))
    assert "1 entries without an image are left out" in caplog.text


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        (None, "expected a list of objects"),
        ([], "expected human, gpt"),
        (said("Why?"), "expected human, gpt"),
        (said("Why?", "So.")[::-1], "expected human, gpt"),
        (["Why?"], r"conversations\[0\] is 'Why\?', expected an object"),
        (said(*["Why?", "So."] * 101), "has 101 turns; 1 to 100 are allowed"),
        (said("Why?", " "), "an answer is empty"),
        ([{"from": "human", "value": None}, *said("Why?", "So.")[1:]], "a question is None, expected text"),
        (said("Why?", "x" * 10_001), "10001 characters; at most 10000"),
    ],
)
def test_malformed_conversations_are_refused(tmp_path: Path, conversation: Any, message: str) -> None:
    make_llava(tmp_path, {"image": "a.jpg", "split": "train", "conversations": conversation})
    refusal(read, "llava", tmp_path, match=rf"instruct\.json: \[4\].*{message}")


def test_a_folder_with_several_files_of_llava_is_refused(tmp_path: Path) -> None:
    make_llava(tmp_path)
    (tmp_path / "other.json").write_text("[]")
    refusal(read, "llava", tmp_path, match=r"it holds instruct\.json, other\.json")


# --- VQA v2 -----------------------------------------------------------------------------------------


def make_vqa(root: Path, counts: dict[str, int]) -> Path:
    """Two questions about each image; people answered the second in different ways."""
    for subtype, count in counts.items():
        make_images(root, [f"{subtype}/COCO_{subtype}_{n:012}.jpg" for n in range(count)])
        questions, annotations = [], []
        for n in range(count):
            questions += [
                {"image_id": n, "question_id": 10 * n, "question": WHY.question},
                {"image_id": n, "question_id": 10 * n + 1, "question": COUNT.question},
            ]
            answers = [{"answer": answer} for answer in ("2", "3", "2")]
            annotations += [
                {"question_id": 10 * n, "answer_type": "other", "multiple_choice_answer": "cat"},
                {"question_id": 10 * n + 1, "answer_type": "number", "answers": answers},
            ]
        parts = {"OpenEnded_mscoco_{}_questions": {"data_subtype": subtype, "questions": questions}}
        parts["mscoco_{}_annotations"] = {"data_subtype": subtype, "annotations": annotations}
        for name, content in parts.items():
            (root / f"v2_{name.format(subtype)}.json").write_text(json.dumps(content))
    return root


def test_vqa_has_the_most_frequent_answer_and_halves_the_validation_images(tmp_path: Path) -> None:
    found = records("vqa", make_vqa(tmp_path, {"train2014": 3, "val2014": 20}))
    splits = {name: record.split for name, record in found.items()}
    assert {name for name, split in splits.items() if split == "train"} == {
        f"train2014/COCO_train2014_{n:012}.jpg" for n in range(3)
    }
    assert 5 < sum(split == "dev" for split in splits.values()) < 15
    for record in found.values():
        assert record.conversations == ((Turn(WHY.question, "cat", "other"),), (COUNT,))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"question_id": 1, "answer', '"question_id": 7, "answer', r"questions\[1\] has no image_id"),
        ('"question_id": 1, "answer', '"question_id": [1], "answer', r"question_id is \[1\]"),
        ('"annotations": [', '"annotations": 7, "x": [', "expected a list of objects"),
        ('"multiple_choice_answer": "cat"', '"answers": []', "an answer is None"),
    ],
)
def test_malformed_annotations_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    make_vqa(tmp_path, {"train2014": 3})
    edit(tmp_path / "v2_mscoco_train2014_annotations.json", old, new)
    refusal(read, "vqa", tmp_path, match=message)


def test_questions_without_annotations_are_refused(tmp_path: Path) -> None:
    make_vqa(tmp_path, {"train2014": 3})
    (tmp_path / "v2_mscoco_train2014_annotations.json").unlink()
    refusal(read, "vqa", tmp_path, match=r"needs a \*_annotations\.json for each")
