"""Questions behind an image: loss and gradient of mixed branches, and answers, are those of transformers.

Run: .venv/bin/python -m pytest tests/unit/model/test_questions.py
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.captions import CaptionRecord, Turn
from pipeline.hardware.processes import ONE_PROCESS
from pipeline.model.language_model import load_language_model
from pipeline.params.schema import Params
from pipeline.text.prompt import CaptionTokenizer
from pipeline.training.batches import StepDataset, TrainingData, plan_epoch
from tests.params_files import with_changes
from tests.tiny_llama import CPU, assert_same_loss, loss_alone, make_model
from tests.unit.training.builders import make_lab

TALK = (Turn("How many dogs are there?", "two dogs"), Turn("And cats?", "none"))
WHERE = (Turn("Where is it?", "in the grass"),)
RECORDS = [
    CaptionRecord("00.png", "train", ("A red circle.", "One circle"), conversations=(TALK, WHERE)),
    CaptionRecord("01.png", "train", ("A green square",)),
    CaptionRecord("02.png", "train", (), conversations=(WHERE,)),
]


@pytest.fixture(params=[0, 2], ids=["plain", "with similar captions"])
def data(request: pytest.FixtureRequest, tmp_path: Path, tiny_params: Params) -> Iterator[TrainingData]:
    params = with_changes(tiny_params, prompt={"similar_captions": request.param})
    with make_lab(tmp_path, params, records=RECORDS).data() as data:
        yield data


def expected_branches(tokenizer: CaptionTokenizer) -> list[list[tuple[list[int], list[int]]]]:
    """For each image, the ids behind the image of each branch, and -100 or the labels."""
    eos = tokenizer.prompt.eos
    images = []
    for record in RECORDS:
        turns = [[(tokenizer.params.instruction, caption)] for caption in record.captions]
        turns += [[(turn.question, turn.answer) for turn in talk] for talk in record.conversations]
        branches = []
        for talk in turns:
            ids, labels = [], []
            for number, (question, answer) in enumerate(talk):
                asked = tokenizer.encode_question(question, follows=number > 0)
                said = [*tokenizer.encode_caption(answer), eos]
                ids += [*asked, *said]
                labels += [*[-100] * len(asked), *said]
            branches.append((ids, labels))
        images.append(branches)
    return images


def test_the_prompt_of_a_conversation_is_the_chat_of_the_field(tiny_params: Params) -> None:
    tokenizer = CaptionTokenizer(tiny_params.prompt, tiny_params.language_model)
    instruction = tokenizer.encode_question(tiny_params.prompt.instruction)
    assert tuple(instruction) == tokenizer.prompt.after
    first, second = (tokenizer.encode_question(" Why\nnot? ", follows) for follows in (False, True))
    assert tokenizer.decode_caption(first) == "Why not? ASSISTANT:"
    assert tokenizer.decode_caption(second) == "USER: Why not? ASSISTANT:"


def test_loss_and_gradient_are_those_of_separate_sequences(data: TrainingData, tiny_params: Params) -> None:
    tokenizer = CaptionTokenizer(tiny_params.prompt, tiny_params.language_model)
    model = make_model(load_language_model(tiny_params.language_model, CPU), data.prompt)
    params = replace(tiny_params.train, batch_size=4)
    plan = plan_epoch(data.lengths, params, 1, data.caption_counts)
    step = StepDataset(data, plan, params, 1, ONE_PROCESS)[0]
    ((features, batch),) = step.batches
    assert len(features) == 4  # captions and conversations of an image are two rows

    alone, labels = torch.zeros(()), 0
    for image, branches in enumerate(expected_branches(tokenizer)):
        row = data.features.read([image]).float()
        context = data.context(image, (params.seed, 1))
        for ids, wanted in branches:
            alone = alone + loss_alone(model, row, [*context, *ids], wanted)
            labels += sum(label != -100 for label in wanted)
    assert len(batch.labels) == step.labels == labels
    assert_same_loss(model, model.loss(features, batch), alone)


def test_without_supervised_ends_no_answer_has_one(data: TrainingData) -> None:
    eos = data.tokens.prompt.eos
    for image, lengths in enumerate(data.lengths):
        for branch, length in enumerate(lengths):
            ids, labeled = data.branch(image, branch, eos)
            assert len(ids) == length
            assert [i for i, known in zip(ids, labeled, strict=True) if known][-1] == eos
            ids, labeled = data.branch(image, branch, None)
            assert eos not in [i for i, known in zip(ids, labeled, strict=True) if known]


def test_the_longest_answer_counts_its_end(data: TrainingData, tiny_params: Params) -> None:
    tokenizer = CaptionTokenizer(tiny_params.prompt, tiny_params.language_model)
    lengths = [len(tokenizer.encode_caption(turn.answer)) + 1 for turn in (*TALK, *WHERE)]
    assert data.longest_answer == max(lengths)
