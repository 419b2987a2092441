"""An export's folder: written whole or not at all, readable, with licenses, without this machine's paths."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.export.folder import new_folder
from pipeline.export.llava import export_llava
from tests.unit.export.trained import Train, Trained


def test_everything_is_readable_and_nothing_is_pickled_or_says_where_models_lie(
    exported: Path, tiny_clip: Path
) -> None:
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
    for path in exported.iterdir():
        assert str(tiny_clip.parent.parent).encode() not in path.read_bytes(), path


def test_license_files_of_the_parts_are_passed_on(train: Train, llama: Path, tmp_path: Path) -> None:
    (llama / "LICENSE.txt").write_text("terms")
    (llama / "NOTICE").write_text("notice")
    (llama / "LICENSES").mkdir()  # a folder is not a license file
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    licenses = {path.name: path.read_text() for path in (folder / "licenses" / "language-model").iterdir()}
    assert licenses == {"LICENSE.txt": "terms", "NOTICE": "notice"}


def test_an_empty_folder_is_filled_and_others_are_left_alone(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    out.mkdir()
    file.write_text("mine")
    with new_folder(out) as folder:
        (folder / "README.md").write_text("card")
    for taken, why in ((out, "out is not empty"), (file, "file is a file")):
        with pytest.raises(PipelineError, match=why), new_folder(taken):
            pass
    assert (out / "README.md").read_text() == "card"
    assert file.read_text() == "mine"


def test_a_failed_export_leaves_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.export.llava.save_torch_state_dict", full_disk)
    with pytest.raises(PipelineError, match=r"cannot write .*model: No space left on device"):
        export_llava(trained.checkpoint, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_not_called_unwritable(tmp_path: Path) -> None:
    unreadable = pytest.raises(PipelineError, match=r"(?i)cannot read .*nowhere/config\.json: No such file")
    with unreadable, new_folder(tmp_path / "model"):
        (tmp_path / "nowhere" / "config.json").read_bytes()
    assert list(tmp_path.iterdir()) == []
