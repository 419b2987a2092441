"""An export's folder: written whole or not at all, readable, with licences, without this machine's paths.

Run: .venv/bin/python -m pytest tests/unit/export/test_export_files.py
"""

import shutil
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.export.llava import export_llava
from pipeline.export.projector import export_projector
from tests.export_lab import Train, Trained


def test_no_file_says_where_this_machine_keeps_its_models(
    exported: Path, trained: Trained, tiny_clip: Path, tmp_path: Path
) -> None:
    export_projector(trained.checkpoint, tmp_path / "projector")
    for path in [*exported.rglob("*"), *(tmp_path / "projector").iterdir()]:
        assert str(tiny_clip.parent.parent).encode() not in path.read_bytes(), path


def test_nothing_is_pickled_and_everything_is_readable(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1


def test_licence_files_of_the_parts_are_handed_on(train: Train, tiny_llama: Path, tmp_path: Path) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    (llama / "LICENSE.txt").write_text("terms")
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    assert (folder / "licences" / "language-model" / "LICENSE.txt").read_text() == "terms"


def test_a_folder_of_licences_is_no_licence_file(train: Train, tiny_llama: Path, tmp_path: Path) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    (llama / "LICENSES").mkdir()
    (llama / "NOTICE").write_text("notice")
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    assert [path.name for path in (folder / "licences" / "language-model").iterdir()] == ["NOTICE"]


def test_an_empty_folder_is_filled_and_a_full_one_refused(trained: Trained, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    export_projector(trained.checkpoint, empty)
    assert (empty / "README.md").exists()
    before = {path: path.read_bytes() for path in empty.iterdir()}
    for export in (export_projector, export_llava):
        with pytest.raises(PipelineError, match="is not empty; give the name of a new or empty folder"):
            export(trained.checkpoint, empty)
    assert {path: path.read_bytes() for path in empty.iterdir()} == before


def test_a_file_is_not_overwritten(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PipelineError, match="is a file"):
        export_projector(trained.checkpoint, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_export_leaves_nothing_but_its_lock(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.export.folder.save_file", full_disk)
    with pytest.raises(PipelineError, match=r"cannot write .*model: No space left on device"):
        export_llava(trained.checkpoint, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_file_that_cannot_be_read_is_not_called_unwritable(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        (tmp_path / "nowhere" / "config.json").read_bytes()

    monkeypatch.setattr("pipeline.export.llava.load_parts", refuse)
    with pytest.raises(PipelineError, match=r"cannot read .*nowhere/config\.json: No such file"):
        export_llava(trained.checkpoint, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
