"""The peer of the training benchmark: LLaVA of `transformers`, trained by its Trainer, as users write it."""

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from benchmarks.arithmetic import VISION_FLOP, packed_pairs
from benchmarks.machine import print_figures
from benchmarks.models import PATCHES
from benchmarks.task import Setting, training_pairs
from pipeline.hardware.device import Placement, choose_placement
from pipeline.training.cost import peak_memory

PROMPT = "USER: <image>\nDescribe this image.\nASSISTANT:"
# Steps before the clock starts.
WARM_UP = 2
# Processes that read images beside a GPU.
WORKERS = 4


class _Captions(Dataset[tuple[Path, str]]):
    """One caption of one image an item."""

    def __init__(self, folder: Path) -> None:
        self._pairs = [(path, c) for path, captions in training_pairs(folder) for c in captions]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Path, str]:
        return self._pairs[index]


def measure(work: Path, batch_size: int, steps: int) -> dict[str, Any]:
    """Train `steps` steps of `batch_size` captions and say how fast that was."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    setting = Setting.load(work)
    placement = choose_placement(setting.device)
    on_gpu = placement.device.type == "cuda"
    processor, model = _load(work / "llava", placement)
    shapes: list[tuple[int, ...]] = []
    # Batches are made in other processes: here they are seen.
    model.register_forward_pre_hook(
        lambda _model, _arguments, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
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
        return {**batch, "labels": labels}

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with_output = TrainingArguments(
        output_dir=str(work / "peer"),
        per_device_train_batch_size=batch_size,
        max_steps=WARM_UP + steps,
        learning_rate=1e-3,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        use_cpu=not on_gpu,
        bf16=placement.dtype == torch.bfloat16,
        fp16=placement.dtype == torch.float16,
        dataloader_num_workers=WORKERS if on_gpu else 0,
        dataloader_persistent_workers=on_gpu,
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
    captions = batch_size * steps
    seen = list(itertools.islice(shapes, WARM_UP, WARM_UP + steps))
    positions = sum(rows * length for rows, length in seen)
    # It computes the head at every position.
    shape = setting.shape
    flop = shape.layers_flop(positions) + shape.head_flop(positions)
    flop += shape.attention_flop(sum(rows * packed_pairs(length, []) for rows, length in seen))
    flop += captions * (shape.projector_flop(PATCHES) + VISION_FLOP)
    return {
        "captions_per_second": captions / seconds,
        "peak_memory_mb": peak_memory(placement) / 1e6,
        "positions_per_caption": positions / captions,
        "gflop_per_caption": flop / captions / 1e9,
    }


def _load(folder: Path, placement: Placement) -> tuple[Any, Any]:
    from transformers import AutoProcessor, BitsAndBytesConfig, LlavaForConditionalGeneration

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=placement.dtype,
        # Full names: short ones would leave the projector to be quantized too.
        llm_int8_skip_modules=["model.vision_tower", "model.multi_modal_projector", "lm_head"],
    )
    model = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=placement.dtype, quantization_config=quantization, device_map={"": placement.device}
    )
    # In float32, as mixed precision has it.
    model.model.multi_modal_projector.float()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("multi_modal_projector" in name)
    # Trainer takes a quantized model only with PEFT adapters, and does not see that the projector is the
    # trainable part; users who train one set this flag.
    model._hf_peft_config_loaded = True
    return AutoProcessor.from_pretrained(folder), model


if __name__ == "__main__":
    folder, captions, counted = sys.argv[1:]
    print_figures(
        measure(Path(folder), int(captions), int(counted)),
        choose_placement(Setting.load(Path(folder)).device),
    )
