"""A model whose prompt shows similar captions: evaluated, and used with the memory next to its checkpoint.

Run: .venv/bin/python -m pytest tests/unit/retrieval/test_in_use.py
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline import Captioner
from pipeline.files.json_files import write_jsonl
from pipeline.images.images import crop, open_image
from pipeline.model.checkpoints import load_checkpoint, load_tensors, save_scored, save_tensors
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_candidates
from pipeline.params.schema import GenerateParams
from pipeline.retrieval.memory import Memory
from pipeline.retrieval.neighbors import Neighbors
from pipeline.text.prompt import CaptionTokenizer
from tests.params_files import write_params
from tests.refusals import refusal
from tests.unit.project import Project, refuse_to_load, restored
from tests.vlm_command import run_vlm

load = partial(Captioner.load, device="cpu")


@pytest.fixture(scope="module")
def similar(make_project: Callable[..., Project]) -> Project:
    return make_project(similar_captions=2)


@pytest.fixture(scope="module")
def paths(project: Project) -> list[str]:
    return [image.path for image in project.test_images]


@pytest.fixture
def best(similar: Project, tmp_path: Path) -> Path:
    """A copy of the checkpoint, next to a copy of its memory."""
    shutil.copy(similar.data / "memory.h5", tmp_path)
    return Path(shutil.copy(similar.best, tmp_path))


def consensus(project: Project, weight: float) -> GenerateParams:
    """Beams whose captions are weighed by agreement with captions of similar images, too."""
    return replace(project.params.generate, beams=3, max_new_tokens=60, consensus=weight)


def save_silent(project: Project, path: Path) -> Path:
    """A checkpoint whose prompt shows no captions, and whose search compares with none."""
    save_scored(path, load_checkpoint(project.best), consensus(project, 0.0))
    return path


def write_memory(path: Path, memory: Memory, captions: list[list[str]]) -> None:
    """Write a memory of the same images with other captions of each."""
    texts = [json.dumps([memory.record(row)[0], said]).encode() for row, said in enumerate(captions)]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    replace(memory, records=np.frombuffer(b"".join(texts), np.uint8), offsets=offsets).write(path)


def other_memory(path: Path) -> Memory:
    """A memory of the same images whose captions are others."""
    memory = Memory.read(path)
    records = np.frombuffer(memory.records.tobytes().replace(b"circle", b"zigzag"), np.uint8)
    return replace(memory, records=records)


def test_the_captioner_says_what_the_evaluation_said(similar: Project) -> None:
    """With neighbors found for the image file, as if it were a stranger's."""
    captioner = load(similar.best)
    said = {image.image_id: captioner.caption(image.path).text for image in similar.test_images}
    assert said == similar.predictions("test")
    memory = Memory.read(similar.data / "memory.h5")
    assert load_checkpoint(similar.best).info.memory == memory.digest


def test_a_region_is_captioned_as_its_crop_with_neighbors_of_its_own(similar: Project, best: Path) -> None:
    captioner = load(best)
    path = Path(similar.test_images[0].path)
    box = (0.0, 0.0, 0.5, 0.5)
    piece = crop(open_image(path, max_megapixels=1), box)
    assert captioner.caption(path, box).text == captioner.caption(piece).text


def test_the_memory_of_an_epochs_checkpoint_lies_next_to_their_folder(similar: Project) -> None:
    path = similar.test_images[0].path
    assert load(similar.data / "checkpoints" / "epoch_002").caption(path).text


def test_only_other_neighbors_are_captioned_again(similar: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = similar.data / "neighbors.h5"
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    similar.evaluate()
    found = Neighbors.read(path)
    with restored(path):
        replace(found, rows=found.rows[:, ::-1]).write(path)
        with pytest.raises(AssertionError, match="the language model was loaded"):
            similar.evaluate()


def test_a_memory_that_is_missing_or_another_is_an_error_with_its_fix(similar: Project, best: Path) -> None:
    memory = best.with_name("memory.h5")
    other_memory(memory).write(memory)
    refusal(load, best, match=r"not the memory of captions .* trained with. Fix: put that")
    memory.unlink()
    refusal(load, best, match=r"memory\.h5 does not exist. Fix: put the memory\.h5 of its")
    path = similar.data / "memory.h5"
    with restored(path):
        other_memory(path).write(path)
        refusal(similar.evaluate, match=r"epoch_001\.safetensors was trained with")


def test_another_memory_is_used_where_it_is_asked_for(similar: Project, best: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    memory = other_memory(best.with_name("memory.h5"))
    memory.write(other)
    paths = [image.path for image in similar.test_images]
    said = [one.text for one in load(best).caption(paths)]
    assert [one.text for one in load(best, memory=other).caption(paths)] != said
    replace(memory, spec={**memory.spec, "name": "another"}).write(other)
    refusal(Captioner.load, best, device="cpu", memory=other, match="made with encoder name 'another'")


def test_another_memory_that_nothing_would_read_is_refused(project: Project, tmp_path: Path) -> None:
    silent, memory = save_silent(project, tmp_path / "silent.safetensors"), project.data / "memory.h5"
    refusal(Captioner.load, silent, device="cpu", memory=memory, match="`generate.consensus` is 0")
    page = run_vlm("app", "--checkpoint", silent, "--memory", memory, "--port", "0", code=1)
    assert "`generate.consensus` is 0" in page.stderr


@pytest.mark.parametrize("wrong", [{"beams": 10**400}, {"\x1b[31m": 1}, {}])
def test_a_wrong_search_in_a_checkpoint_is_one_sentence(
    project: Project, tmp_path: Path, wrong: dict[str, int]
) -> None:
    path, (tensors, metadata) = tmp_path / "best.safetensors", load_tensors(project.best)
    save_tensors(path, tensors, {**metadata, "generate": {**metadata["generate"], **wrong} if wrong else {}})
    result = run_vlm("caption", project.test_images[0].path, "--checkpoint", path, "--device", "cpu", code=1)
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert "settings `generate` in the checkpoint" in sentence
    assert "\x1b" not in result.stderr


def test_it_says_whether_captions_of_similar_images_are_used_and_from_which_file(
    project: Project, best: Path, tmp_path: Path
) -> None:
    of_similar, both = "Captions of similar images, from", "are in its prompt and help to choose the caption"
    memory, other = best.with_name("memory.h5"), tmp_path / "other.h5"
    shutil.copy(memory, other)
    silent = save_silent(project, tmp_path / "silent.safetensors")
    alone = tmp_path / "no" / "memory" / "best.safetensors"
    alone.parent.mkdir(parents=True)
    shutil.copy(project.best, alone)
    for checkpoint, words, end in (
        (best, (), f" {of_similar} {memory}, {both}.\n"),
        (best, ("--memory", other), f" {of_similar} {other}, {both}.\n"),
        (project.best, (), f" {of_similar} {project.data / 'memory.h5'}, help to choose the caption.\n"),
        (silent, (), "photographs are outside what it knows.\n"),  # next to a memory
        (alone, (), "photographs are outside what it knows.\n"),
    ):
        image = project.test_images[0].path
        assert end in run_vlm("caption", image, "--checkpoint", checkpoint, *words, "--device", "cpu").stderr


def test_a_memory_is_built_for_the_encoder_of_a_checkpoint_and_goes_on_where_it_was_interrupted(
    similar: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    photos = [Path(shutil.copy(image.path, dataset)) for image in similar.test_images[:5]]
    splits = zip(photos, ("train", "train", "dev", "test", "test"), strict=True)
    rows = [{"image": path.name, "split": split, "captions": ["a zigzag"]} for path, split in splits]
    write_jsonl(dataset / "captions.jsonl", rows)
    write_params(tmp_path / "params.yaml", similar.params)
    monkeypatch.chdir(tmp_path)
    command = ("memory", "build", "dataset", "other.h5", "--checkpoint", similar.best)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.retrieval.retrieve.retrieve", Mock(side_effect=KeyboardInterrupt))
        run_vlm(*command, code=1)
    kept = Path(".scratch/memory")
    assert len((kept / "images.jsonl").read_text().splitlines()) == 4  # one test image is enough
    assert "the captions of 2 train images" in run_vlm(*command).output
    assert not kept.exists()
    other = Memory.read(Path("other.h5"))
    assert [other.captions(row) for row in range(len(other))] == [["a zigzag"]] * 2
    assert load(similar.best, memory="other.h5").caption(photos[0]).text
    # A folder without splits has none that would be left out.
    write_jsonl(dataset / "captions.jsonl", [{k: v for k, v in row.items() if k != "split"} for row in rows])
    assert "the captions of 5 images." in run_vlm(*command).output
    assert len(Memory.read(Path("other.h5"))) == 5


# --- the search's captions, weighed by likelihood and by agreement with captions of similar images -------


def test_of_the_captions_of_a_search_the_one_wins_that_similar_images_agree_with(
    project: Project, paths: list[str], tmp_path: Path
) -> None:
    model, info = project.captioner.model, project.captioner.info
    features = project.features(project.test_images[0].image_id)
    params = replace(consensus(project, 0.0), max_new_tokens=6)
    (found,) = generate_candidates(model, features, params, 12)
    tokenizer = CaptionTokenizer(info.prompt_params(), info.language_model_params())
    likeliest, *others = (tokenizer.decode_caption(caption.ids) for caption in found)
    best = Path(shutil.copy(project.best, tmp_path))
    memory = Memory.read(project.data / "memory.h5")
    # Another caption, which gives words an idf.
    captions = [["another caption"], *[[others[-1]]] * (len(memory) - 1)]
    write_memory(best.with_name("memory.h5"), memory, captions)
    captioner = load(best)
    for weight, expected in ((0.0, likeliest), (1e-9, likeliest), (100.0, others[-1])):
        said = captioner.caption(paths[0], generate=replace(params, consensus=weight))
        assert said.text == expected


def test_captions_of_similar_images_are_candidates_and_score_as_if_the_model_had_written_them(
    project: Project, captioner: Captioner, paths: list[str]
) -> None:
    """The score is minus the loss of that caption alone."""
    model = project.captioner
    memory = Memory.read(project.data / "memory.h5")
    captions = chain.from_iterable(memory.captions(row) for row in range(len(memory)))
    train = {caption.lower().rstrip(".") for caption in captions}
    said = captioner.caption(paths, generate=consensus(project, 100.0))
    for caption, image in zip(said, project.test_images, strict=True):
        assert caption.text in train
        loss = model.loss([(project.features(image.image_id), [[caption.text]], None, [None])])
        assert caption.score == pytest.approx(-loss, rel=1e-3)


def test_a_candidate_keeps_to_the_limits_of_a_caption(
    project: Project, captioner: Captioner, paths: list[str]
) -> None:
    short = replace(consensus(project, 100.0), max_new_tokens=2)
    off = [caption.text for caption in captioner.caption(paths, generate=replace(short, consensus=0.0))]
    said = captioner.caption(paths, generate=short)
    assert max(len(caption.text) for caption in said) <= max(map(len, off))


@pytest.mark.parametrize("has_memory", [True, False])
def test_without_captions_the_search_alone_decides(
    project: Project, captioner: Captioner, paths: list[str], tmp_path: Path, has_memory: bool
) -> None:
    """There is no memory, or its images have only questions."""
    best = Path(shutil.copy(project.best, tmp_path))
    if has_memory:
        memory = Memory.read(project.data / "memory.h5")
        write_memory(best.with_name("memory.h5"), memory, [[]] * len(memory))
    alone = load(best).caption(paths, generate=consensus(project, 100.0))
    said = captioner.caption(paths, generate=consensus(project, 0.0))
    assert [caption.text for caption in alone] == [caption.text for caption in said]
