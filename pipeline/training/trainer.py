"""The training loop: AdamW on what is trained, step after step, saving state as it goes."""

import logging
import math
import time
from collections.abc import Iterator

import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.hardware.processes import Processes
from pipeline.hardware.progress import bar
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import RuntimeParams, TrainParams
from pipeline.text.token_store import TokenizedCaptions
from pipeline.training.batches import Row, Step, StepDataset, plan_epoch
from pipeline.training.cost import CostMeter
from pipeline.training.features import TrainingFeatures
from pipeline.training.kept_checkpoints import KeptCheckpoints
from pipeline.training.prefetch import prefetched
from pipeline.training.state import TrainingState

logger = logging.getLogger(__name__)

# Lines of progress an epoch where there is no terminal to draw a bar on, and one whenever state is saved.
_LOG_LINES = 5
# With fp16 the loss is scaled so that gradients neither vanish nor overflow. One that overflows even here
# is not finite by itself.
_SMALLEST_SCALE = 1.0


class Trainer:
    """Runs the steps that are still missing and saves state as it goes."""

    def __init__(
        self,
        model: VisionLanguageModel,
        features: TrainingFeatures,
        tokens: TokenizedCaptions,
        params: TrainParams,
        runtime: RuntimeParams,
        placement: Placement,
        checkpoints: KeptCheckpoints,
        processes: Processes,
    ) -> None:
        self.model = model
        self._features = features
        self._tokens = tokens
        self._params = params
        self._runtime = runtime
        self._placement = placement
        self._checkpoints = checkpoints
        self._processes = processes
        self.optimizer = torch.optim.AdamW(
            model.trainable_parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        self._scaler = torch.amp.GradScaler(placement.device.type, enabled=placement.scales_gradients)
        self.state = TrainingState.load_or_start(checkpoints, model, self.optimizer, self._scaler)
        if processes.is_main:
            for epoch, tensors in self.state.lost.items():
                checkpoints.save(epoch, tensors)
                logger.warning("%s was damaged or gone, and is made anew", checkpoints.path(epoch))

    def run(self) -> int:
        """Train up to `params.epochs`; returns the number of steps taken now.

        Raises PipelineError where loss or gradient is not finite; the state before that step is kept.
        """
        taken = 0
        cost = CostMeter(self._placement, self.state.cost)
        lengths = [[len(c) + 1 for c in captions] for captions in self._tokens.captions]
        if self.state.epoch <= self._params.epochs and (self.state.step or self.state.epoch > 1):
            logger.info("continuing at epoch %d, step %d", self.state.epoch, self.state.step + 1)
        while self.state.epoch <= self._params.epochs:
            epoch = self.state.epoch
            plan = plan_epoch(lengths, self._params, epoch)
            total = len(plan) * self._params.epochs
            if not taken:
                self._try_largest(plan, lengths)
            with bar(f"epoch {epoch}", len(plan), hidden=not self._processes.is_main) as progress:
                progress.update(self.state.step)
                saved = time.monotonic()
                for step in self._steps(plan):
                    try:
                        loss, norm, rate = self._step(step, total)
                    except PipelineError:
                        self._save(cost)  # the failed step has changed nothing
                        raise
                    cost.add(sum(len(row.captions) for rows in plan[self.state.step] for row in rows))
                    self.state.advance(loss, rate, norm)
                    taken += 1
                    progress.update(1)
                    progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
                    due = time.monotonic() - saved >= self._runtime.save_every_seconds
                    if progress.disable and (due or self.state.step % max(1, len(plan) // _LOG_LINES) == 0):
                        logger.info(
                            "epoch %d: step %d of %d, loss %.3f", epoch, self.state.step, len(plan), loss
                        )
                    if due:
                        self._save(cost)
                        saved = time.monotonic()
            if self._processes.is_main:
                self._checkpoints.save(epoch, self.state.average)
            mean = self.state.finish_epoch()
            self._save(cost)
            logger.info("epoch %d: mean loss %.4f over %d steps", epoch, mean, len(plan))
        return taken

    def _save(self, cost: CostMeter) -> None:
        self.state.cost = cost.total()
        # All processes hold the same state.
        if self._processes.is_main:
            self.state.save(self._checkpoints.folder)

    def _try_largest(self, plan: list[list[list[Row]]], lengths: list[list[int]]) -> None:
        """Take the largest batch forward and back, and forget it.

        What does not fit fails now and not after an hour; and memory that was cut for the largest batch
        serves all others, where a growing row of batches would leave gaps. (With `captions_per_pass` a
        later epoch may put longer captions together.)
        """
        self.model.train()
        prefix = self.model.prefix_length(self._features.read([0]).shape[1])
        largest = max(
            (rows for step in plan for rows in step),
            key=lambda rows: (
                len(rows) * (prefix + max(sum(lengths[row.image][c] for c in row.captions) for row in rows))
            ),
        )
        for features, batch in self._dataset([[largest]])[0].batches:
            loss = self.model.loss(features.to(self._placement.device), batch.to(self._placement.device))
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad(set_to_none=True)

    def _dataset(self, plan: list[list[list[Row]]]) -> StepDataset:
        num_tokens = self._features.read([0]).shape[1]
        return StepDataset(
            self._features,
            self._tokens,
            plan,
            self.model.prefix_length(num_tokens),
            self._params.supervise_eos,
            self._processes,
        )

    def _steps(self, plan: list[list[list[Row]]]) -> Iterator[Step]:
        steps = self._dataset(plan[self.state.step :])
        device = self._placement.device
        if device.type == "cuda":
            return prefetched(steps, device if self._runtime.pin_memory else None)
        # On a CPU a thread would take a core that the model needs.
        return (steps[index] for index in range(len(steps)))

    def _step(self, step: Step, total: int) -> tuple[float, float, float]:
        """One optimizer step; returns loss (mean per token), gradient norm before clipping, rate."""
        params = self._params
        device = self._placement.device
        self.model.train()
        # Randomness (dropout) follows from seed, step and process, so resuming needs no generator state.
        draw = params.seed * 1_000_003 + self.state.global_step
        torch.manual_seed(draw * self._processes.count + self._processes.rank)
        rate = learning_rate(params, self.state.global_step, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Each token of the step counts once, however the step is cut into micro-batches and processes.
        loss = torch.zeros((), device=device)
        self.optimizer.zero_grad(set_to_none=True)
        # A process without rows must know the scale, too.
        self._scaler.scale(loss)
        for features, batch in step.batches:
            part = self.model.loss(features.to(device, non_blocking=True), batch.to(device)) / step.labels
            self._scaler.scale(part).backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        parameters = self.model.trainable_parameters()
        # Where there are fewer rows than processes some have nothing to add.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self._processes.sum([*gradients, loss])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(parameters, params.clip_norm))
        # With fp16, steps whose scaled gradient overflows are skipped and the scale is lowered.
        skipped = self._scaler.is_enabled() and self._scaler.get_scale() >= _SMALLEST_SCALE
        if not math.isfinite(mean := float(loss)) or not (math.isfinite(norm) or skipped):
            raise PipelineError(
                f"training diverged at epoch {self.state.epoch}, step {self.state.step + 1}: loss {mean}, "
                f"gradient norm {norm}, learning rate {rate:g}, precision {self._placement.dtype}; "
                "lower train.learning_rate or raise train.warmup_steps. The state before this step is kept "
                f"in {self._checkpoints.folder}."
            )
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.state.update_average(params.ema_decay)
        return mean, norm, rate


def learning_rate(params: TrainParams, step: int, total: int) -> float:
    """The rate of a step (from 0): linear warm-up, then constant, or a cosine to 0 at `total`."""
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / params.warmup_steps
    if params.schedule == "constant":
        return params.learning_rate
    done = (step - params.warmup_steps) / max(1, total - params.warmup_steps)
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
