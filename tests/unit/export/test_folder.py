"""An export's folder: written whole or not at all, readable, with licenses, without this machine's paths.

What cannot be exported to the same captions is refused, with what to do instead.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.export.folder import new_folder
from pipeline.export.llava import export_llava
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from tests.refusals import refusal
from tests.tiny_models import save_llama
from tests.unit.export.conftest import Train, Trained


def require_refusal(checkpoint: Path, folder: Path, sentence: str) -> None:
    """Require that an export ends in a sentence and leaves nothing."""
    refusal(export_llava, checkpoint, folder / "model", match=sentence)
    assert list(folder.glob("*model*")) == []


def test_nothing_is_pickled_or_says_where_models_lie(exported: Path, tiny_clip: Path) -> None:
    assert {path.suffix for path in exported.iterdir()} == {".md", ".jinja", ".json", ".safetensors"}
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1
    for path in exported.iterdir():
        assert str(tiny_clip.parent.parent).encode() not in path.read_bytes(), path


def test_license_files_of_the_parts_are_passed_on(train: Train, llama: Path, tmp_path: Path) -> None:
    for name in ("LICENSE.txt", "NOTICE"):
        (llama / name).write_text(name)
    (llama / "LICENSES").mkdir()  # a folder is not a license file
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    licenses = [path.name for path in (folder / "licenses" / "language-model").iterdir()]
    assert sorted(licenses) == ["LICENSE.txt", "NOTICE"]


def test_an_empty_folder_is_filled_and_others_are_left_alone(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    out.mkdir()
    file.write_text("mine")
    with new_folder(out) as folder:
        (folder / "README.md").write_text("card")
    for taken, why in ((out, "out is not empty"), (file, "file is a file")):
        refusal(new_folder(taken).__enter__, match=why)
    assert (out / "README.md").read_text() == "card"
    assert file.read_text() == "mine"


def test_a_failure_leaves_nothing(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("pipeline.export.llava.save_torch_state_dict", full_disk)
    require_refusal(trained.checkpoint, tmp_path, r"cannot write .*model: No space left on device")


# --- what cannot be exported to the same captions -------------------------------------------------

INSTEAD = r".*LLaVA's format takes a CLIP encoder.* plain safetensors"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tokens": "cls"}, "encoder.tokens cls"),
        ({"grid": 2}, "encoder.grid 2"),
        ({"hidden_size": 65}, "projector.hidden_size is 65"),
    ],
)
def test_settings_that_llava_does_not_know_are_refused(
    train: Train, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    require_refusal(train(**settings).checkpoint, tmp_path, named + INSTEAD)


def test_other_encoders_are_refused(trained: Trained, llama: Path, tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_clip / "preprocessor_config.json", llama)
    checkpoint = load_checkpoint(trained.checkpoint)
    other = tmp_path / "other.safetensors"
    for name in ("wheel:efficientnet-lite0", str(llama)):
        info = replace(checkpoint.info, encoder={**checkpoint.info.encoder, "name": name})
        save_checkpoint(other, checkpoint.projector.state_dict(), info)
        require_refusal(other, tmp_path, f"{Path(name).name} is not a CLIP model{INSTEAD}")


def test_a_tokenizer_of_whole_texts_is_refused(train: Train, llama: Path, tmp_path: Path) -> None:
    text = json.loads(AutoTokenizer.from_pretrained(llama).backend_tokenizer.to_str())
    # As SentencePiece does: a blank before the text, but not before a part of it.
    pieces = {"type": "Metaspace", "replacement": "Ġ", "prepend_scheme": "first", "split": False}
    (llama / "tokenizer.json").write_text(json.dumps({**text, "normalizer": None, "pre_tokenizer": pieces}))
    sentence = "USER: <image>.* has other token ids" + INSTEAD
    require_refusal(train(llama=llama).checkpoint, tmp_path, sentence)


def test_a_tokenizer_that_has_an_image_token_is_refused(train: Train, llama: Path, tmp_path: Path) -> None:
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(llama)
    require_refusal(train(llama=llama).checkpoint, tmp_path, "has a token <image> already" + INSTEAD)


def test_a_language_model_that_changed_is_refused(train: Train, llama: Path, tmp_path: Path) -> None:
    trained = train(llama=llama)
    save_llama(llama, seed=5)
    require_refusal(trained.checkpoint, tmp_path, r"weights of .* changed since")
