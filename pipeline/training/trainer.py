"""The training loop: step after step, epoch after epoch, saving the state as it goes."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import closing

from safetensors.torch import load, save

from pipeline.errors import PipelineError
from pipeline.files.json_files import canonical_json
from pipeline.hardware.execution import Execution
from pipeline.hardware.progress import bar
from pipeline.model.checkpoints import tensor_digest
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import TrainParams
from pipeline.training.batches import Plan, Step, StepDataset, TrainingData, largest_batch, plan_epoch
from pipeline.training.cost import CostMeter, peak_memory
from pipeline.training.optimizer import StepOptimizer, learning_rate
from pipeline.training.prefetch import take_steps
from pipeline.training.run_folder import RunFolder
from pipeline.training.state import SavedState, TrainingState
from pipeline.training.word_start import start_by_words

logger = logging.getLogger(__name__)

# How often the curve of a run is published while it trains.
_CURVE_WRITES = 100


class Trainer:
    """Takes the steps that are still missing, and saves the state as it goes."""

    def __init__(
        self,
        model: VisionLanguageModel,
        data: TrainingData,
        params: TrainParams,
        execution: Execution,
        folder: RunFolder,
    ) -> None:
        """Continue the state in the main process's `folder`, or start at step 1, in all processes alike.

        Raises PipelineError if the state cannot be read, or a process has another state afterwards.
        """
        self._model = model
        self._data = data
        self._params = params
        self._execution = execution
        self._folder = folder
        self.optimizer = StepOptimizer(model, params, execution)
        saved = folder.load_state(params.epochs)
        if saved is None and params.word_passes and execution.processes.is_main:
            start_by_words(model, data, params)
        self.state = TrainingState({k: v.detach().clone() for k, v in model.trainable_state().items()})
        if execution.processes.count > 1:
            saved = self._from_main(saved or self._snapshot())
        if saved:
            self.optimizer.restore(saved)
            self.state = TrainingState.restore(saved, execution.placement.device)
        if execution.processes.count > 1:
            tensors, metadata = self._snapshot()
            execution.processes.require_same({**metadata, "weights and optimizer": tensor_digest(tensors)})
        self._cost = CostMeter(execution.placement, self.state.cost)

    def run(self, publish_curve: Callable[[list[list[float]]], None]) -> int:
        """Train up to `params.epochs`; return the number of steps taken now.

        `publish_curve` is called with the curve so far, at most a hundred times in a run and once when one
        continues.

        Raises PipelineError if loss or gradient is not finite; the state before that step is saved.
        """
        state, epochs = self.state, self._params.epochs
        first = len(state.curve)
        if first and state.epoch <= epochs:
            logger.info("continuing at epoch %d, step %d", state.epoch, state.step + 1)
            publish_curve(state.curve)
        while state.epoch <= epochs:
            epoch = state.epoch
            plan = plan_epoch(self._data.lengths, self._params, epoch, self._data.caption_counts)
            if len(state.curve) == first:
                self._try_largest_batch(plan)
            self._run_epoch(plan, publish_curve)
            self._folder.save_checkpoint(epoch, state.average)
            mean = state.finish_epoch()
            self._folder.save_state(self._snapshot())
            logger.info("epoch %d: mean loss %.4f over %d steps", epoch, mean, len(plan))
        return len(state.curve) - first

    def _try_largest_batch(self, plan: Plan) -> None:
        """Compute the gradients of the largest batch and discard them.

        A batch that does not fit fails now and not after an hour, and memory that was reserved for it serves
        all others. (With `captions_per_sequence` a later epoch may put longer captions together.)
        """
        rows, start = largest_batch(plan, self._data), time.monotonic()
        is_compiled = self._model.language_model.is_compiled
        compiles = ", which compiles the layers: up to a minute, once" if is_compiled else ""
        logger.info("trying the largest batch, of %d sequences%s", len(rows), compiles)
        self.optimizer.try_step(self._steps([[rows]])[0])
        peak = peak_memory(self._execution.placement) / 1e6
        logger.info("it took %.1f s, with a peak of %.0f MB", time.monotonic() - start, peak)

    def _run_epoch(self, plan: Plan, publish_curve: Callable[[list[list[float]]], None]) -> None:
        state, runtime = self.state, self._execution.runtime
        saved = time.monotonic()
        total = len(plan) * self._params.epochs
        steps_between = -(-total // _CURVE_WRITES)
        counts = [sum(len(row.captions) for rows in step for row in rows) for step in plan]
        finished, hidden = sum(counts[: state.step]), not self._execution.processes.is_main
        with (
            bar(f"epoch {state.epoch}", "texts", sum(counts), finished, hidden) as progress,
            closing(take_steps(self._steps(plan[state.step :]), self._execution)) as steps,
        ):
            for step in steps:
                texts = counts[state.step]
                loss = self._take(step, total)
                self._cost.add(texts)
                if (len(state.curve) - 1) % steps_between == 0:
                    publish_curve(state.curve)
                progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
                progress.update(texts)
                if time.monotonic() - saved >= runtime.save_every_seconds:
                    self._folder.save_state(self._snapshot())
                    saved = time.monotonic()

    def _take(self, step: Step, total: int) -> float:
        state, number = self.state, len(self.state.curve)
        rate = learning_rate(self._params, number, total)
        loss, norm = self.optimizer.compute_gradients(step, number)
        if not self.optimizer.accepts(loss, norm):
            self._folder.save_state(self._snapshot())
            raise PipelineError(
                f"Training diverged at epoch {state.epoch}, step {state.step + 1} (loss {loss}, gradient "
                f"norm {norm}, learning rate {rate:g}, {self._execution.placement.dtype}). Fix: lower "
                "train.learning_rate or raise train.warmup_steps."
            )
        self.optimizer.apply(rate)
        state.update_average(self._model.trainable_state(), self._params.ema_decay)
        state.advance(loss, rate, norm)
        return loss

    def _steps(self, plan: Plan) -> StepDataset:
        return StepDataset(self._data, plan, self._params, self.state.epoch, self._execution.processes)

    def _snapshot(self) -> SavedState:
        """Return everything that the next step depends on."""
        (weights, scaler), (tensors, progress) = self.optimizer.saved_state(), self.state.saved_state()
        return {**weights, **tensors}, {**scaler, **progress}

    def _from_main(self, saved: SavedState) -> SavedState:
        """Return the main process's state; `saved` of the others is ignored."""
        broadcast, (tensors, metadata) = self._execution.processes.broadcast, saved
        content = broadcast(save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}))
        return load(content), json.loads(broadcast(canonical_json(metadata).encode()))
