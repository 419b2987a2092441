"""An export's folder: written whole or not at all, readable, with licences, without this machine's paths."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.export.folder import new_folder
from pipeline.export.llava import export_llava
from tests.unit.export.trained import Train, Trained


def test_nothing_is_pickled_and_everything_is_readable(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
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


def test_no_file_says_where_this_machine_keeps_its_models(exported: Path, tiny_clip: Path) -> None:
    for path in exported.rglob("*"):
        assert str(tiny_clip.parent.parent).encode() not in path.read_bytes(), path


def test_licence_files_of_the_parts_are_handed_on(train: Train, llama: Path, tmp_path: Path) -> None:
    (llama / "LICENSE.txt").write_text("terms")
    (llama / "NOTICE").write_text("notice")
    (llama / "LICENSES").mkdir()  # a folder is not a licence file
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    found = {path.name: path.read_text() for path in (folder / "licences" / "language-model").iterdir()}
    assert found == {"LICENSE.txt": "terms", "NOTICE": "notice"}


def test_an_empty_folder_is_filled_and_what_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with new_folder(out) as folder:
        (folder / "README.md").write_text("card")
    with pytest.raises(PipelineError, match="out is not empty"), new_folder(out):
        pass
    assert (out / "README.md").read_text() == "card"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PipelineError, match="file is a file"), new_folder(tmp_path / "file"):
        pass
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


def test_a_file_that_cannot_be_read_is_not_called_unwritable(tmp_path: Path) -> None:
    unreadable = pytest.raises(PipelineError, match=r"cannot read .*nowhere/config\.json: No such file")
    with unreadable, new_folder(tmp_path / "model"):
        (tmp_path / "nowhere" / "config.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
