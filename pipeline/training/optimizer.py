"""One optimizer step: AdamW on the trained weights, gradients summed over micro-batches and processes."""

import math

import torch
from torch import Tensor, nn

from pipeline.hardware.execution import Execution
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import TrainParams
from pipeline.training.batches import Step
from pipeline.training.state import SavedState, part

# With fp16 the loss is scaled so that gradients neither vanish nor overflow. A gradient that overflows at
# this scale is not finite without it either.
_SMALLEST_SCALE = 1.0


class StepOptimizer:
    """Takes a step in two halves, so that a run can stop between them: gradients, then new weights."""

    def __init__(self, model: VisionLanguageModel, params: TrainParams, execution: Execution) -> None:
        self.model = model
        self._params = params
        self._processes = execution.processes
        self._device = execution.placement.device
        self.optimizer = torch.optim.AdamW(
            model.trainable_parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        # Small gradients are zero in float16.
        scales = execution.placement.dtype == torch.float16
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=scales)

    def try_step(self, step: Step) -> None:
        """Compute the gradients of a step and discard them, to see whether its memory is available."""
        self.model.train()
        for features, batch in step.batches:
            loss = self.model.loss(features.to(self._device), batch.to(self._device))
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad(set_to_none=True)

    def compute_gradients(self, step: Step, number: int) -> tuple[float, float]:
        """Compute the gradients of step `number` (from 0), summed over processes and clipped.

        Returns the loss (mean per token) and the gradient's norm before clipping.
        """
        self.model.train()
        # Dropout follows from seed, step and process, so that resuming needs no generator state.
        draw = self._params.seed * 1_000_003 + number
        torch.manual_seed(draw * self._processes.count + self._processes.rank)
        # Each token of the step counts once, in whichever micro-batch and process it is.
        loss = torch.zeros((), device=self._device)
        self.optimizer.zero_grad(set_to_none=True)
        # Makes the scale known to a process without rows.
        self._scaler.scale(loss)
        for features, batch in step.batches:
            inputs = features.to(self._device, non_blocking=True), batch.to(self._device)
            share = self.model.loss(*inputs) / step.labels
            self._scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        parameters = self.model.trainable_parameters()
        # With fewer rows than processes, some processes have no gradient.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self._processes.sum([*gradients, loss])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(parameters, self._params.clip_norm))
        return float(loss), norm

    def accepts(self, loss: float, norm: float) -> bool:
        """Tell whether a step may be applied: it is finite, or it is skipped and lowers the scale (fp16)."""
        skipped = self._scaler.is_enabled() and self._scaler.get_scale() >= _SMALLEST_SCALE
        return math.isfinite(loss) and (math.isfinite(norm) or skipped)

    def apply(self, rate: float) -> None:
        """Change the weights by the last gradients, at this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def saved_state(self) -> SavedState:
        """Return weights, moments and the scale of the loss as tensors and metadata."""
        tensors = {f"weights.{name}": value for name, value in self.model.trainable_state().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        return tensors, {"scaler": self._scaler.state_dict()}

    def restore(self, saved: SavedState) -> None:
        """Load what `saved_state` returned. Raises PipelineError for other adapters."""
        tensors, metadata = saved
        self.model.load_trainable_state(part(tensors, "weights"), "the training state")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part(tensors, "optimizer").items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._scaler.load_state_dict(metadata["scaler"])


def learning_rate(params: TrainParams, step: int, total: int) -> float:
    """Return the rate of a step (from 0): linear warm-up, then constant, or a cosine to 0 at `total`."""
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / params.warmup_steps
    if params.schedule == "constant":
        return params.learning_rate
    progress = (step - params.warmup_steps) / max(1, total - params.warmup_steps)
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
