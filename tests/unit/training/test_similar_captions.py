"""Training with similar images' captions in the prompt: drawn by the seed, resumable, and a fact of the run.

Run: .venv/bin/python -m pytest tests/unit/training/test_similar_captions.py
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pipeline.model.checkpoints import load_checkpoint
from pipeline.params.schema import Params
from pipeline.retrieval.neighbors import Neighbors
from tests.params_files import with_changes
from tests.refusals import refusal
from tests.unit.project import restored
from tests.unit.training.builders import STEPS, Lab, checkpoint, interrupted_after, make_lab, outputs


@pytest.fixture(scope="module")
def similar(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Lab:
    params = with_changes(tiny_params, prompt={"similar_captions": 2})
    return make_lab(tmp_path_factory.mktemp("similar"), params)


@pytest.fixture(scope="module")
def whole(similar: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    similar.train(folder, epochs=2)
    return folder


def test_the_prompt_has_captions_of_neighbors_drawn_in_each_epoch(similar: Lab) -> None:
    neighbors = Neighbors.read(similar.neighbors)
    with similar.data() as data:
        tokens = data.tokens
        drawn = [[data.context(image, (0, epoch)) for image in range(8)] for epoch in (1, 2, 3, 1)]
        assert drawn[0] == drawn[3]
        assert len({str(contexts) for contexts in drawn}) == 3
        for contexts in drawn:
            for rows, context in zip(neighbors.lookup(tokens.image_ids), contexts, strict=True):
                first, second = ([ids.tolist() for ids in tokens.captions[row]] for row in rows[:2])
                assert context
                assert context in [tokens.prompt.context(pair) for pair in product(first, second)]


def test_similar_captions_change_what_is_learned(similar: Lab, lab: Lab, whole: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=2)
    assert outputs(tmp_path)["training.csv"] != outputs(whole)["training.csv"]
    memory = Neighbors.read(similar.neighbors).memory
    assert load_checkpoint(checkpoint(whole)).info.memory == memory
    assert load_checkpoint(checkpoint(tmp_path)).info.memory is None


def test_an_interrupted_run_continues_to_the_same_bytes(similar: Lab, whole: Path, tmp_path: Path) -> None:
    with interrupted_after(STEPS + 1):
        similar.train(tmp_path, epochs=2)
    assert similar.train(tmp_path, epochs=2).trained_steps == 2 * STEPS - (STEPS + 1)
    assert outputs(tmp_path) == outputs(whole)


def test_other_neighbors_start_again_and_those_of_others_are_refused(similar: Lab, tmp_path: Path) -> None:
    similar.train(tmp_path, epochs=1)
    before = Neighbors.read(similar.neighbors)
    with restored(similar.neighbors):
        replace(before, rows=np.roll(before.rows, 1, axis=1)).write(similar.neighbors)
        assert similar.train(tmp_path, epochs=1).trained_steps == STEPS
        # Neighbors beyond those that are shown change nothing.
        replace(before, rows=np.hstack([before.rows, before.rows[:, :1]])).write(similar.neighbors)
        assert similar.train(tmp_path, epochs=1).trained_steps == 0
        replace(before, train="other").write(similar.neighbors)
        refusal(similar.train, tmp_path, epochs=1, match="are not the 8 train images of the tokens")
