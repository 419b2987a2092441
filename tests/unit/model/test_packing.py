"""Packing: several captions after one image give what separate sequences give."""

from pathlib import Path

import pytest
import torch

from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.packing import pack
from pipeline.params.schema import Params
from pipeline.text.prompt import CaptionTokenizer
from tests.params_files import with_changes
from tests.tiny_captioner import save_captioner


@pytest.mark.parametrize("limit", [3, 48], ids=["cut", "whole"])
def test_the_loss_on_dev_expects_no_end_after_a_cut(tiny_params: Params, tmp_path: Path, limit: int) -> None:
    params = with_changes(tiny_params, prompt={"max_caption_tokens": limit})
    checkpoint = save_captioner(tmp_path / "checkpoint.safetensors", params)
    captioner = FeatureCaptioner.load(load_checkpoint(checkpoint), choose_placement("cpu"), None)
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    caption = "a dog runs over the grass"
    ids = tokenizer.encode_caption(caption)
    labels = ids[:limit] if limit == 3 else [*ids, tokenizer.prompt.eos]

    encoder = captioner.info.encoder
    features = torch.randn(1, encoder["num_tokens"], encoder["width"], generator=torch.manual_seed(0))
    batch = pack([[labels]], tokenizer.prompt.prefix_length(encoder["num_tokens"]))
    expected = float(captioner.model.loss(features, batch).detach()) / len(labels)
    assert captioner.loss([(features, [[caption]], None, [None])]) == pytest.approx(expected, rel=1e-5)


def test_a_caption_attends_only_to_the_prefix_and_to_its_own_past() -> None:
    batch = pack([[[10, 11, 1], [12, 13, 14, 1]], [[15]]], prefix_length=3)
    # Prefix 0-2, first caption 3-5, second caption 6-9.
    mask = batch.mask[0, 0]
    assert mask[4].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    assert mask[7].nonzero().flatten().tolist() == [0, 1, 2, 6, 7]
    assert batch.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]
    # A row of the mask without any true entry, even where padded, would make softmax return NaN.
    assert batch.mask.diagonal(dim1=2, dim2=3).all()
