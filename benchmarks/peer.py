"""The peer of the training benchmark: LLaVA of `transformers`, trained by its Trainer, as users write it."""

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from benchmarks.arithmetic import (
    VISION_FLOP,
    attention_flop,
    head_flop,
    language_flop,
    packed_pairs,
    projector_flop,
)
from benchmarks.machine import print_figures
from benchmarks.models import PATCHES
from benchmarks.task import training_pairs
from pipeline.device import choose_placement
from pipeline.training_cost import peak_memory

BATCH_SIZE = 4
PROMPT = "USER: <image>\nDescribe this image.\nASSISTANT:"
# Steps before the clock starts.
WARM_UP = 2


class _Captions(Dataset[tuple[Path, str]]):
    """One caption of one image an item."""

    def __init__(self, folder: Path) -> None:
        self._pairs = [(path, c) for path, captions in training_pairs(folder) for c in captions]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Path, str]:
        return self._pairs[index]


def measure(work: Path, steps: int) -> dict[str, Any]:
    """Train `steps` steps of BATCH_SIZE captions and say how fast that was."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    processor, model = _load(work / "llava")
    shapes: list[tuple[int, int]] = []
    path, _ = training_pairs(work)[0]
    length_of_prompt = len(processor(images=[Image.open(path).convert("RGB")], text=PROMPT).input_ids[0])

    def collate(items: list[tuple[Path, str]]) -> dict[str, torch.Tensor]:
        images = [Image.open(path).convert("RGB") for path, _ in items]
        end = processor.tokenizer.eos_token
        texts = [f"{PROMPT} {caption}{end}" for _, caption in items]
        batch = processor(images=images, text=texts, padding=True, padding_side="right", return_tensors="pt")
        labels = batch["input_ids"].clone()
        labels[:, :length_of_prompt] = -100
        labels[batch["attention_mask"] == 0] = -100
        shapes.append((len(labels), labels.shape[1]))
        return {**batch, "labels": labels}

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with_output = TrainingArguments(
        output_dir=str(work / "peer"),
        per_device_train_batch_size=BATCH_SIZE,
        max_steps=WARM_UP + steps,
        learning_rate=1e-3,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    Trainer(
        model=model,
        args=with_output,
        train_dataset=_Captions(work),
        data_collator=collate,
        callbacks=[Clock()],
    ).train()
    seconds = times[-1] - times[WARM_UP - 1]
    captions = BATCH_SIZE * steps
    seen = list(itertools.islice(shapes, WARM_UP, WARM_UP + steps))
    positions = sum(rows * length for rows, length in seen)
    # It computes the head at every position.
    flop = language_flop(positions) + head_flop(positions)
    flop += attention_flop(sum(rows * packed_pairs(length, []) for rows, length in seen))
    flop += captions * (projector_flop(PATCHES) + VISION_FLOP)
    return {
        "captions_per_second": captions / seconds,
        "peak_memory_mb": peak_memory(choose_placement("cpu")) / 1e6,
        "positions_per_caption": positions / captions,
        "gflop_per_caption": flop / captions / 1e9,
    }


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoProcessor, BitsAndBytesConfig, LlavaForConditionalGeneration

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        # Full names: short ones would leave the projector to be quantized too.
        llm_int8_skip_modules=["model.vision_tower", "model.multi_modal_projector", "lm_head"],
    )
    model = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, quantization_config=quantization
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("multi_modal_projector" in name)
    # Trainer takes a quantized model only with PEFT adapters, and does not see that the projector is the
    # trainable part; users who train one set this flag.
    model._hf_peft_config_loaded = True
    return AutoProcessor.from_pretrained(folder), model


if __name__ == "__main__":
    print_figures(measure(Path(sys.argv[1]), steps=int(sys.argv[2])))
