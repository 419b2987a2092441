"""Training: only projector and adapters learn, the loss falls, and equal runs give equal bytes.

Run: .venv/bin/python -m pytest tests/unit/training/test_training.py
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from pipeline.files.json_files import read_json
from pipeline.hardware import progress
from pipeline.hardware.processes import ONE_PROCESS
from pipeline.model.adapters import adapter_spec, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo, load_checkpoint, tensor_digest
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import LoraParams, Params
from pipeline.training import train as train_module
from pipeline.training.batches import StepDataset, plan_epoch
from pipeline.training.optimizer import learning_rate
from pipeline.training.run_folder import RunFolder
from pipeline.training.trainer import Trainer
from tests.params_files import with_changes
from tests.refusals import call_before, refusal
from tests.tiny_llama import WIDTH
from tests.unit.project import restored
from tests.unit.training.builders import (
    LORA,
    OFF,
    PROJECTOR,
    SHAPES,
    SPEC,
    STEPS,
    Lab,
    checkpoint,
    interrupted_after,
    losses,
    make_lab,
    outputs,
    save_features,
)


def test_outputs_are_a_checkpoint_for_each_epoch_and_a_curve_of_all_steps(lab: Lab, finished: Path) -> None:
    with lab.data() as data:
        longest = max(map(max, data.lengths))
    for epoch in (1, 2, 3):
        info = load_checkpoint(checkpoint(finished, epoch)).info
        assert (info.epoch, info.encoder, info.longest_caption) == (epoch, SPEC, longest)
    assert len(outputs(finished)) == 3 + 2
    assert len(losses(finished)) == 3 * STEPS
    metrics = read_json(finished / "train.json")
    assert (metrics["epochs"], metrics["steps"], metrics["images"], metrics["captions"]) == (3, 6, 8, 15)
    assert metrics["loss"] == pytest.approx(sum(losses(finished)[-STEPS:]) / STEPS, abs=1e-5)


@pytest.mark.parametrize("lora", [OFF, LORA], ids=["projector", "adapters"])
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_only_projector_and_adapters_are_trained(
    lab: Lab, tmp_path: Path, quantization: Literal["nf4", "none"], lora: LoraParams
) -> None:
    """Not even a packed 4-bit weight or a quantization scale of the language model changes."""
    params = replace(lab.params.language_model, quantization=quantization)
    language_model = load_language_model(params, lab.placement)

    def frozen_digest() -> str:
        state = language_model.state_dict().items()
        return tensor_digest({key: value.float() for key, value in state if "lora_" not in key})

    adapters = inject_adapters(language_model, lora)
    projector = Projector(WIDTH, 16, language_model.width)
    before = frozen_digest()
    info = CheckpointInfo(1, SPEC, {}, {}, 16, language_model.width, {}, "", "", "", 9, adapter_spec(lora))
    with lab.data() as data:
        model = VisionLanguageModel(projector, language_model, data.tokens.prompt, adapters)
        fresh = {name: value.clone() for name, value in model.trainable_state().items()}
        folder = RunFolder(tmp_path, tmp_path / "none", info)
        decaying = replace(lab.params.train, weight_decay=0.1)
        trainer = Trainer(model, data, decaying, lab.execution(tmp_path), folder)
        assert trainer.run(lambda _: None) == 2 * STEPS

    assert frozen_digest() == before
    changed = {name for name, value in model.trainable_state().items() if not value.equal(fresh[name])}
    assert changed == (SHAPES.keys() if lora.rank else set()) | PROJECTOR - {"mean", "scale"}
    (group,) = trainer.optimizer.optimizer.param_groups
    assert group["weight_decay"] == 0.1
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(p.grad is None for p in language_model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("matched", [True, False])
def test_the_last_layer_starts_scaled_or_as_torch_makes_it(lab: Lab, tmp_path: Path, matched: bool) -> None:
    lab.train(tmp_path, epochs=1, learning_rate=1e-12, match_embedding_norm=matched)
    trained = load_checkpoint(checkpoint(tmp_path)).projector.output.weight
    torch.manual_seed(lab.params.train.seed)
    fresh = Projector(WIDTH, 16, len(trained)).output.weight
    factor = trained.detach().norm() / fresh.detach().norm()
    torch.testing.assert_close(trained, factor * fresh, rtol=0, atol=1e-6)
    assert (abs(factor - 1) < 1e-6) == (not matched)


def test_the_projector_is_scaled_by_images_that_the_seed_draws(tmp_path: Path, tiny_params: Params) -> None:
    """64 of 65 images, of which the last is like no other: a folder that is sorted by class."""
    large = make_lab(tmp_path, tiny_params, images=65)
    save_features(large.features, 65, fill=1000)
    means = []
    for seed in (0, 1):
        large.train(tmp_path / str(seed), epochs=1, batch_size=64, learning_rate=1e-12, seed=seed)
        means.append(load_checkpoint(checkpoint(tmp_path / str(seed))).projector.get_buffer("mean"))
    assert all(mean.min() > 10 for mean in means)
    assert not torch.equal(means[0], means[1])


def test_the_loss_falls_on_a_few_images(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=25, learning_rate=0.02, runtime={"save_every_seconds": 1e9})
    curve = losses(tmp_path)
    assert np.mean(curve[-4:]) < 0.6 * np.mean(curve[:2])


def test_gradient_checkpointing_changes_no_byte(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=3, gradient_checkpointing=True)
    assert outputs(tmp_path) == outputs(finished)


def test_accumulated_micro_batches_are_one_batch(tmp_path: Path, tiny_params: Params) -> None:
    """Four images are one step, whether in one batch of four or in two of two."""
    small = make_lab(tmp_path, tiny_params, images=4)
    small.train(tmp_path / "one", epochs=4, batch_size=4)
    small.train(tmp_path / "two", epochs=4, batch_size=2, gradient_accumulation_steps=2)
    assert len(losses(tmp_path / "one")) == 4
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_the_curve_can_be_watched_while_a_run_trains(lab: Lab, finished: Path, tmp_path: Path) -> None:
    """The extension of DVC in editors draws it; a run that was stopped leaves the part so far."""
    whole = losses(finished)
    with interrupted_after(1):
        lab.train(tmp_path, epochs=3)
    assert losses(tmp_path) == whole[:1]
    (tmp_path / "training.csv").unlink()  # as DVC does before it runs a stage
    with interrupted_after(2):
        lab.train(tmp_path, epochs=3)
    assert losses(tmp_path) == whole[:3]
    with interrupted_after(0):
        (tmp_path / "training.csv").unlink()
        lab.train(tmp_path, epochs=3)
    assert losses(tmp_path) == whole[:3]
    lab.train(tmp_path, epochs=3)
    assert outputs(tmp_path) == outputs(finished)


def test_an_endless_overflow_ends_the_run(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fp16 an overflowing step is skipped and the scale halved: without a limit, for ever."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    scales = iter([65536.0, 1.0, 0.5])
    monkeypatch.setattr(torch.amp.GradScaler, "is_enabled", lambda _: True)
    monkeypatch.setattr(torch.amp.GradScaler, "get_scale", lambda _: next(scales))
    refusal(lab.train, tmp_path, epochs=3, match=r"epoch 2, step 1 .* norm inf")


def test_inputs_that_do_not_belong_together_are_refused(lab: Lab, tiny_llama: Path, tmp_path: Path) -> None:
    few = replace(lab, features=tmp_path / "features.h5")
    save_features(few.features, 6)
    refusal(few.train, tmp_path, match=r"features\.h5 .*6\.png.*`dvc repro encode`")
    file = tiny_llama / "tokenizer.json"
    with restored(file) as content:
        file.write_bytes(content + b"\n")
        refusal(lab.train, tmp_path, match="tokenizer's files changed")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.025, 0.05, 0.075] + [0.1] * 8),
        ("cosine", [0.025, 0.05, 0.075, 0.1, 0.1, 0.0933, 0.075, 0.05, 0.025, 0.0067, 0]),
    ],
)
def test_the_rate_warms_up(lab: Lab, schedule: Literal["constant", "cosine"], expected: list[float]) -> None:
    params = replace(lab.params.train, learning_rate=0.1, warmup_steps=4, schedule=schedule)
    rates = [learning_rate(params, step, total=10) for step in range(11)]
    assert rates == pytest.approx(expected, abs=1e-4)


def test_labels_are_tokens_and_the_ends_of_captions_not_cut(tmp_path: Path, tiny_params: Params) -> None:
    cut = make_lab(tmp_path, with_changes(tiny_params, prompt={"max_caption_tokens": 6}))
    with cut.data() as data:
        plan = plan_epoch(data.lengths, cut.params.train, epoch=1)
        dataset = StepDataset(data, plan, cut.params.train, 1, ONE_PROCESS)
        steps = [dataset[index] for index in range(STEPS)]
    labels = torch.cat([batch.labels for step in steps for _, batch in step.batches])
    truncated = [is_cut for cuts in data.tokens.truncated for is_cut in cuts]
    tokens = sum(len(ids) for captions in data.tokens.captions for ids in captions)
    ends = int((labels == data.tokens.prompt.eos).sum())
    assert 0 < ends == truncated.count(False) < len(truncated)
    assert sum(step.labels for step in steps) == len(labels) == tokens + ends


def test_the_cost_is_that_of_all_sessions_that_trained(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with interrupted_after(1):
            lab.train(tmp_path, epochs=2)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e-9)
    lab.train(tmp_path, epochs=2)
    assert re.search(r"epoch 2: 15 of 15, [\d.]+ texts/s", log.text)
    cost = read_json(tmp_path / "cost.json")
    assert (cost["device"], cost["precision"], cost["sessions"]) == ("cpu", "float32", 3)
    assert cost["texts"] == 2 * read_json(tmp_path / "train.json")["captions"]
    assert cost["seconds"] >= cost["warm_up_seconds"] > 0
    assert cost["peak_memory_mb"] > 50  # the interpreter and torch alone
    # A session without a step costs nothing.
    lab.train(tmp_path, epochs=2)
    assert read_json(tmp_path / "cost.json") == cost


@pytest.mark.parametrize("loading", ["memory", "disk"])
def test_a_store_replaced_during_training_changes_nothing(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loading: str
) -> None:
    """Another store takes the file's place after the digest was computed, before the first step."""
    replaced = replace(lab, features=tmp_path / "features.h5")
    save_features(replaced.features, 8)
    store = replaced.features
    call_before(monkeypatch, train_module, "load_language_model", lambda *_: save_features(store, 8, seed=1))
    replaced.train(tmp_path, epochs=3, runtime={"feature_loading": loading})
    assert outputs(tmp_path) == outputs(finished)
