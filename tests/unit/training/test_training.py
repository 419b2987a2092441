"""Training: only the projector learns, the loss falls, and equal runs give equal bytes.

Run: .venv/bin/python -m pytest tests/unit/training/test_training.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pipeline.training.kept_checkpoints import KeptCheckpoints

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement
from pipeline.hardware.processes import ONE_PROCESS, Processes
from pipeline.model.checkpoints import CheckpointInfo, load_checkpoint, tensor_digest
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import Params, TrainParams
from pipeline.text.token_store import read_tokens
from pipeline.training.batches import StepDataset, plan_epoch
from pipeline.training.trainer import Trainer, learning_rate
from tests.tiny_models import save_llama
from tests.training_lab import (
    SPEC,
    STEPS,
    WIDTH,
    Lab,
    interrupted_after,
    losses,
    make_lab,
    outputs,
    save_features,
)


def test_a_checkpoint_for_each_epoch_and_a_curve_of_all_steps_are_left(finished: Path) -> None:
    assert outputs(finished).keys() == {
        "epoch_001.safetensors",
        "epoch_002.safetensors",
        "epoch_003.safetensors",
        "train.json",
        "training.csv",
    }
    assert len(losses(finished)) == 3 * STEPS
    metrics = json.loads((finished / "train.json").read_text())
    assert (metrics["epochs"], metrics["steps"], metrics["images"], metrics["captions"]) == (3, 6, 8, 15)
    assert metrics["loss"] == pytest.approx(sum(losses(finished)[-STEPS:]) / STEPS, abs=1e-5)
    for epoch in (1, 2, 3):
        info = load_checkpoint(finished / "checkpoints" / f"epoch_{epoch:03d}.safetensors").info
        assert (info.epoch, info.encoder) == (epoch, SPEC)


def test_a_checkpoint_knows_the_longest_caption_with_its_end(lab: Lab, finished: Path) -> None:
    longest = max(len(ids) for of in read_tokens(lab.tokens, "train").captions for ids in of)
    info = load_checkpoint(finished / "checkpoints" / "epoch_001.safetensors").info
    assert info.longest_caption == longest + 1


def test_nothing_but_the_projector_is_trained(lab: Lab, tmp_path: Path) -> None:
    """Not even a packed 4-bit weight or a quantization scale of the language model changes."""
    placement = choose_placement("cpu")
    tokens = read_tokens(lab.tokens, "train")
    language_model = load_language_model(lab.params.language_model, placement)
    model = VisionLanguageModel(Projector(WIDTH, 16, language_model.width), language_model, tokens.prompt)
    runtime = replace(lab.params.runtime, save_every_seconds=1e9)
    features = lab.open_features("memory")

    frozen = language_model.state_dict()
    assert any(value.dtype == torch.uint8 for value in frozen.values())
    frozen_before, projector_before = tensor_digest(frozen), tensor_digest(model.projector.state_dict())
    facts = CheckpointInfo(1, SPEC, {}, {}, 16, language_model.width, {}, "", "", "", 9)
    checkpoints = KeptCheckpoints(tmp_path, tmp_path / "none", lambda epoch: replace(facts, epoch=epoch))
    trainer = Trainer(model, features, tokens, lab.params.train, runtime, placement, checkpoints, ONE_PROCESS)
    assert trainer.run() == 2 * STEPS
    assert tensor_digest(language_model.state_dict()) == frozen_before
    assert tensor_digest(model.projector.state_dict()) != projector_before

    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in model.projector.parameters()}
    assert optimized == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(p.grad is None for p in language_model.parameters())


@pytest.mark.parametrize("match_embedding_norm", [True, False])
def test_the_last_layer_starts_scaled_or_as_torch_initialises_it(
    lab: Lab, tmp_path: Path, match_embedding_norm: bool
) -> None:
    lab.train(tmp_path, epochs=1, learning_rate=1e-12, match_embedding_norm=match_embedding_norm)
    trained = load_checkpoint(tmp_path / "checkpoints" / "epoch_001.safetensors").projector.output
    torch.manual_seed(lab.params.train.seed)
    fresh = Projector(WIDTH, 16, trained.out_features).output
    factor = float(trained.weight.detach().norm() / fresh.weight.detach().norm())
    assert torch.allclose(trained.weight, factor * fresh.weight, atol=1e-6)
    assert torch.allclose(trained.bias, factor * fresh.bias, atol=1e-6)
    assert (factor == pytest.approx(1, rel=1e-6)) is not match_embedding_norm


def test_the_loss_falls_on_a_few_images(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=25, learning_rate=0.02, save_every_seconds=1e9)
    curve = losses(tmp_path)
    assert np.mean(curve[-4:]) < 0.6 * np.mean(curve[:2])


def test_equal_runs_give_equal_bytes(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=3)
    assert outputs(tmp_path) == outputs(finished)


def test_accumulated_micro_batches_are_one_batch(tmp_path: Path, params: Params) -> None:
    """Four images are one step, whether in one batch of four or in two of two."""
    small = make_lab(tmp_path, params, images=4)
    small.train(tmp_path / "one", epochs=4, batch_size=4)
    small.train(tmp_path / "two", epochs=4, batch_size=2, gradient_accumulation_steps=2)
    assert len(losses(tmp_path / "one")) == 4
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_a_run_that_diverges_says_where_and_what_to_do(lab: Lab, tmp_path: Path) -> None:
    spoilt = replace(lab, features=tmp_path / "features.h5")
    save_features(spoilt.features, 8, fill=np.nan)
    with pytest.raises(PipelineError) as caught:
        spoilt.train(tmp_path, learning_rate=0.5, warmup_steps=0)
    message = str(caught.value)
    assert message.startswith("training diverged at epoch 1, step 1: loss nan")
    assert "learning rate 0.5" in message
    assert "lower train.learning_rate" in message
    assert not (tmp_path / "checkpoints").exists()


def test_features_that_lack_images_are_refused(lab: Lab, tmp_path: Path) -> None:
    few = replace(lab, features=tmp_path / "features.h5")
    save_features(few.features, 6)
    with pytest.raises(PipelineError, match=r"features\.h5 .*6\.png.*; run `dvc repro encode`"):
        few.train(tmp_path)


def test_tokens_of_another_language_model_are_refused(lab: Lab, tmp_path: Path) -> None:
    other = save_llama(tmp_path / "other", seed=1)
    with pytest.raises(PipelineError, match=r"tokens were made .*name '.*tiny-llama'.*tokenize`"):
        lab.train(tmp_path, language_model=str(other))


def test_tokens_of_a_tokenizer_that_has_changed_since_are_refused(
    lab: Lab, tiny_llama: Path, tmp_path: Path
) -> None:
    path = tiny_llama / "tokenizer.json"
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    try:
        with pytest.raises(PipelineError, match=r"tokens were made with tokenizer digest .*tokenize`"):
            lab.train(tmp_path)
    finally:
        path.write_bytes(content)


PARAMS = TrainParams(
    epochs=2,
    batch_size=3,
    captions_per_pass="all",
    gradient_accumulation_steps=2,
    gradient_checkpointing=False,
    learning_rate=0.1,
    weight_decay=0.0,
    schedule="constant",
    warmup_steps=4,
    clip_norm=1.0,
    ema_decay=0.0,
    supervise_eos=True,
    seed=0,
)


def test_the_rate_warms_up_and_stays() -> None:
    rates = [learning_rate(PARAMS, step, total=10) for step in range(10)]
    assert rates == pytest.approx([0.025, 0.05, 0.075] + [0.1] * 7)


def test_a_cosine_falls_from_the_rate_to_nothing() -> None:
    params = replace(PARAMS, schedule="cosine")
    rates = [learning_rate(params, step, total=10) for step in range(4, 11)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[3] == pytest.approx(0.05)
    assert rates[6] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def test_gradient_checkpointing_changes_no_result(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=3, save_every_seconds=1e9, gradient_checkpointing=True)
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize("features", ["memory", "disk"])
def test_features_are_the_same_from_memory_and_from_disk(
    lab: Lab, finished: Path, tmp_path: Path, features: Literal["memory", "disk"]
) -> None:
    lab.train(tmp_path, epochs=3, save_every_seconds=1e9, features=features)
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_features_can_be_read_in_any_order_and_again(lab: Lab, where: Literal["memory", "disk"]) -> None:
    features = lab.open_features(where)
    read = features.read([5, 0, 5])
    assert torch.equal(read, features.read([5, 0, 5]))
    assert torch.equal(read[0], read[2])
    assert not torch.equal(read[0], read[1])


@given(count=st.integers(1, 6), batch_size=st.integers(1, 5))
def test_processes_share_each_step_and_agree_on_its_labels(lab: Lab, count: int, batch_size: int) -> None:
    tokens = read_tokens(lab.tokens, "train")
    params = replace(lab.params.train, batch_size=batch_size)
    plan = plan_epoch([[len(c) + 1 for c in captions] for captions in tokens.captions], params, epoch=1)
    features = lab.open_features("memory")
    shares = [StepDataset(features, tokens, plan, 9, True, Processes(rank, count)) for rank in range(count)]
    for index in range(len(plan)):
        parts = [share[index] for share in shares]
        labels = [sum(len(batch.labels) for _, batch in part.batches) for part in parts]
        assert {part.labels for part in parts} == {sum(labels)}
        assert sum(len(f) for part in parts for f, _ in part.batches) == sum(map(len, plan[index]))


def cost_of(folder: Path) -> dict[str, Any]:
    cost: dict[str, Any] = json.loads((folder / "cost.json").read_text())
    return cost


def test_the_cost_is_that_of_the_run_that_trained(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=1)
    cost = cost_of(tmp_path)
    assert cost["captions"] == json.loads((tmp_path / "train.json").read_text())["captions"]
    assert cost["seconds"] >= cost["warm_up_seconds"] > 0
    assert cost["peak_memory_mb"] > 50  # the interpreter and torch alone
    assert (cost["device"], cost["precision"], cost["sessions"]) == ("cpu", "float32", 1)

    (tmp_path / "cost.json").unlink()
    lab.train(tmp_path, epochs=1)
    assert cost_of(tmp_path) == cost


def test_the_cost_of_an_interrupted_run_is_that_of_all_its_sessions(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with interrupted_after(monkeypatch, 1):
            lab.train(tmp_path, epochs=2)
    lab.train(tmp_path, epochs=2)
    cost = cost_of(tmp_path)
    assert cost["sessions"] == 3
    assert cost["captions"] == 2 * json.loads((tmp_path / "train.json").read_text())["captions"]
    lab.train(tmp_path, epochs=3)
    assert cost_of(tmp_path)["sessions"] == 4
    assert cost_of(tmp_path)["seconds"] > cost["seconds"]


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_features_exchanged_while_they_are_read_change_nothing(
    lab: Lab, tmp_path: Path, where: Literal["memory", "disk"]
) -> None:
    exchanged = replace(lab, features=tmp_path / "features.h5")
    save_features(exchanged.features, 8)
    features = exchanged.open_features(where)
    before = features.read([0, 5])
    save_features(exchanged.features, 8, spec={**SPEC, "name": "other"}, seed=1)
    assert torch.equal(features.read([0, 5]), before)
    with pytest.raises(PipelineError, match="made with encoder name 'other', but the training run needs"):
        exchanged.open_features(where)


def test_a_gradient_that_no_scale_makes_finite_ends_the_run(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fp16 an overflowing step is skipped and the scale halved: for ever, if nobody looked at it."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    scales = iter([65536.0, 1.0, 0.5])
    monkeypatch.setattr(torch.amp.GradScaler, "is_enabled", lambda _: True)
    monkeypatch.setattr(torch.amp.GradScaler, "get_scale", lambda _: next(scales))
    with pytest.raises(
        PipelineError, match=r"diverged at epoch 2, step 1: .* gradient norm inf, learning rate"
    ):
        lab.train(tmp_path, epochs=3)
