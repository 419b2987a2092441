"""A model whose prompt shows similar captions: evaluated, and used with the memory next to its checkpoint.

Run: .venv/bin/python -m pytest tests/unit/retrieval/test_in_use.py
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline import Captioner
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.images.images import crop, open_image
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_candidates
from pipeline.params.schema import GenerateParams
from pipeline.retrieval.memory import Memory
from pipeline.retrieval.neighbors import Neighbors
from pipeline.text.prompt import CaptionTokenizer
from tests.params_files import write_params
from tests.unit.project import CPU, Project, refuse_to_load
from vlm.main import main


@pytest.fixture(scope="module")
def similar(make_project: Callable[..., Project]) -> Project:
    return make_project(similar_captions=2)


@pytest.fixture(scope="module")
def plain(make_project: Callable[..., Project]) -> Project:
    return make_project()


@pytest.fixture(scope="module")
def captioner(plain: Project) -> Captioner:
    return Captioner.load(plain.best, device="cpu")


@pytest.fixture(scope="module")
def paths(plain: Project) -> list[str]:
    return [image.path for image in plain.test_images]


@pytest.fixture
def best(similar: Project, tmp_path: Path) -> Path:
    """A copy of the checkpoint, next to a copy of its memory."""
    shutil.copy(similar.data / "memory.h5", tmp_path)
    return Path(shutil.copy(similar.best, tmp_path))


def other_memory(path: Path) -> Memory:
    """A memory of the same images whose captions are others."""
    memory = Memory.read(path)
    records = np.frombuffer(memory.records.tobytes().replace(b"circle", b"zigzag"), np.uint8)
    return replace(memory, records=records)


def test_the_captioner_says_what_the_evaluation_said(similar: Project) -> None:
    """With neighbors found for the image file, as if it were a stranger's."""
    captioner = Captioner.load(similar.best, device="cpu")
    said = {
        image.image_id: captioner.caption(image.path, generate=similar.params.generate).text
        for image in similar.test_images
    }
    assert said == similar.predictions("test")
    memory = Memory.read(similar.data / "memory.h5")
    assert load_checkpoint(similar.best).info.memory == memory.digest


def test_a_region_is_captioned_as_its_crop_with_neighbors_of_its_own(similar: Project, best: Path) -> None:
    captioner = Captioner.load(best, device="cpu")
    path = Path(similar.test_images[0].path)
    box = (0.0, 0.0, 0.5, 0.5)
    piece = crop(open_image(path, max_megapixels=1), box)
    assert captioner.caption(path, box).text == captioner.caption(piece).text


def test_the_memory_of_an_epochs_checkpoint_lies_next_to_their_folder(similar: Project) -> None:
    path = similar.test_images[0].path
    assert Captioner.load(similar.data / "checkpoints" / "epoch_002", device="cpu").caption(path).text


def test_equal_runs_give_equal_bytes_and_what_is_known_is_not_captioned_again(
    similar: Project, make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = similar.outputs()
    assert make_project(similar_captions=2).outputs() == before
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    similar.evaluate()
    assert similar.outputs() == before


def test_other_neighbors_are_captioned_again(similar: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = similar.data / "neighbors.h5"
    content, found = path.read_bytes(), Neighbors.read(path)
    monkeypatch.setattr(FeatureCaptioner, "load", refuse_to_load)
    try:
        replace(found, rows=found.rows[:, ::-1]).write(path)
        with pytest.raises(AssertionError, match="the language model was loaded"):
            similar.evaluate()
    finally:
        path.write_bytes(content)


def test_a_memory_that_is_missing_or_another_is_an_error_with_its_fix(similar: Project, best: Path) -> None:
    memory = best.with_name("memory.h5")
    other_memory(memory).write(memory)
    with pytest.raises(PipelineError, match=r"not the memory of captions .* trained with. Fix: put that"):
        Captioner.load(best, device="cpu")
    memory.unlink()
    with pytest.raises(PipelineError, match=r"memory\.h5 does not exist. Fix: put the memory\.h5 of its"):
        Captioner.load(best, device="cpu")
    path = similar.data / "memory.h5"
    content = path.read_bytes()
    try:
        other_memory(path).write(path)
        with pytest.raises(PipelineError, match=r"epoch_001\.safetensors was trained with"):
            similar.evaluate()
    finally:
        path.write_bytes(content)


def test_another_memory_changes_what_is_said_where_it_is_asked_for(
    similar: Project, best: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.h5"
    memory = other_memory(best.with_name("memory.h5"))
    memory.write(other)
    paths = [image.path for image in similar.test_images]
    said = [one.text for one in Captioner.load(best, device="cpu").caption(paths)]
    assert [one.text for one in Captioner.load(best, device="cpu", memory=other).caption(paths)] != said
    replace(memory, spec={**memory.spec, "name": "another"}).write(other)
    with pytest.raises(PipelineError, match="made with encoder name 'another'"):
        Captioner.load(best, device="cpu", memory=other)


def test_a_memory_is_built_for_the_encoder_of_a_checkpoint_and_goes_on_where_it_was_interrupted(
    similar: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    photos = [Path(shutil.copy(image.path, dataset)) for image in similar.test_images[:5]]
    splits = zip(photos, ("train", "train", "dev", "test", "test"), strict=True)
    lines = [{"image": path.name, "split": split, "captions": ["a zigzag"]} for path, split in splits]
    (dataset / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_params(tmp_path / "params.yaml", similar.params)
    monkeypatch.chdir(tmp_path)
    command = ["memory", "build", "dataset", "other.h5", "--checkpoint", str(similar.best)]
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.retrieval.retrieve.retrieve", Mock(side_effect=KeyboardInterrupt))
        assert CliRunner().invoke(main, command).exit_code == 1
    kept = Path(".scratch/memory")
    assert len((kept / "images.jsonl").read_text().splitlines()) == 4  # one test image is enough
    result = CliRunner().invoke(main, command)
    assert "the captions of 2 images" in result.output
    assert not kept.exists()
    other = Memory.read(Path("other.h5"))
    assert [other.captions(row) for row in range(len(other))] == [["a zigzag"]] * 2
    assert Captioner.load(similar.best, device="cpu", memory="other.h5").caption(photos[0]).text


def test_a_model_without_similar_captions_needs_no_memory(plain: Project, tmp_path: Path) -> None:
    best = Path(shutil.copy(plain.best, tmp_path))
    assert Captioner.load(best, device="cpu").caption(plain.test_images[0].path).text


class TestConsensus:
    """The search's captions, weighed by likelihood and by agreement with captions of similar images."""

    def generate(self, plain: Project, weight: float) -> GenerateParams:
        return replace(plain.params.generate, beams=3, max_new_tokens=60, consensus=weight)

    def test_of_the_captions_of_a_search_the_one_wins_that_similar_images_agree_with(
        self, plain: Project, paths: list[str], tmp_path: Path
    ) -> None:
        checkpoint = load_checkpoint(plain.best)
        info, model = checkpoint.info, FeatureCaptioner.load(checkpoint, CPU, None).model
        with FeatureStore(plain.data / "features.h5") as store:
            features = torch.from_numpy(store.read([plain.test_images[0].image_id]))
        params = replace(self.generate(plain, 0.0), max_new_tokens=6)
        (found,) = generate_candidates(model, features, params, 12)
        tokenizer = CaptionTokenizer(info.prompt_params(), info.language_model_params())
        likeliest, *others = (tokenizer.decode_caption(caption.ids) for caption in found)
        best = Path(shutil.copy(plain.best, tmp_path))
        memory = Memory.read(plain.data / "memory.h5")
        texts = [json.dumps([memory.image_id(row), [others[-1]]]).encode() for row in range(len(memory))]
        texts[0] = json.dumps([memory.image_id(0), ["another caption"]]).encode()  # gives words an idf
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        records = np.frombuffer(b"".join(texts), np.uint8)
        replace(memory, records=records, offsets=offsets).write(best.with_name("memory.h5"))
        captioner = Captioner.load(best, device="cpu")
        for weight, expected in ((0.0, likeliest), (1e-9, likeliest), (100.0, others[-1])):
            said = captioner.caption(paths[0], generate=replace(params, consensus=weight))
            assert said.text == expected

    def test_evaluation_says_what_the_captioner_says_of_each_file(
        self, plain: Project, captioner: Captioner, paths: list[str], tmp_path: Path
    ) -> None:
        generate = self.generate(plain, 1.0)
        folder = Path(shutil.copytree(plain.folder, tmp_path / "copy"))
        project = Project(folder, replace(plain.params, generate=generate))
        project.evaluate("consensus")
        said = [caption.text for caption in captioner.caption(paths, generate=generate)]
        assert [project.predictions("test")[image.image_id] for image in plain.test_images] == said

    def test_captions_of_similar_images_are_candidates_and_score_as_if_the_model_had_written_them(
        self, plain: Project, captioner: Captioner, paths: list[str]
    ) -> None:
        """The score is minus the loss of that caption alone."""
        model = FeatureCaptioner.load(load_checkpoint(plain.best), CPU, None)
        memory = Memory.read(plain.data / "memory.h5")
        train = {
            caption.lower().rstrip(".") for row in range(len(memory)) for caption in memory.captions(row)
        }
        said = captioner.caption(paths, generate=self.generate(plain, 100.0))
        with FeatureStore(plain.data / "features.h5") as store:
            for caption, image in zip(said, plain.test_images, strict=True):
                assert caption.text in train
                features = torch.from_numpy(store.read([image.image_id]))
                loss = model.loss([(features, [[caption.text]], None, [None])])
                assert caption.score == pytest.approx(-loss, rel=1e-3)

    def test_a_candidate_keeps_to_the_limits_of_a_caption(
        self, plain: Project, captioner: Captioner, paths: list[str]
    ) -> None:
        short = replace(self.generate(plain, 100.0), max_new_tokens=2)
        off = [caption.text for caption in captioner.caption(paths, generate=replace(short, consensus=0.0))]
        said = captioner.caption(paths, generate=short)
        assert max(len(caption.text) for caption in said) <= max(map(len, off))

    def test_images_of_questions_alone_leave_the_search_to_decide(
        self, plain: Project, paths: list[str], tmp_path: Path
    ) -> None:
        best = Path(shutil.copy(plain.best, tmp_path))
        memory = Memory.read(plain.data / "memory.h5")
        texts = [json.dumps([memory.image_id(row), []]).encode() for row in range(len(memory))]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        replace(memory, records=np.frombuffer(b"".join(texts), np.uint8), offsets=offsets).write(
            best.with_name("memory.h5")
        )
        off, on = self.generate(plain, 0.0), self.generate(plain, 100.0)
        alone = Captioner.load(best, device="cpu")
        assert alone.caption(paths[0], generate=on).text == alone.caption(paths[0], generate=off).text

    def test_without_a_memory_the_search_alone_decides(
        self, plain: Project, captioner: Captioner, paths: list[str], tmp_path: Path
    ) -> None:
        alone = Captioner.load(shutil.copy(plain.best, tmp_path), device="cpu")
        off, on = self.generate(plain, 0.0), self.generate(plain, 100.0)
        said = [caption.text for caption in captioner.caption(paths, generate=off)]
        assert [caption.text for caption in alone.caption(paths, generate=on)] == said
