"""The peer of the training benchmark: LLaVA of `transformers`, trained by its Trainer, as users write it."""

import time
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from benchmarks import common
from benchmarks.common import PATCHES, Figures, Task, training_pairs
from pipeline.hardware.device import Placement, choose_placement
from pipeline.training.cost import peak_memory

PROMPT = "USER: <image>\nDescribe this image.\nASSISTANT:"
# Steps before the clock starts.
WARM_UP = 2
# Processes that read images next to a GPU.
WORKERS = 4


def save_llava(folder: Path, clip: Path, language: Path, device: torch.device) -> None:
    """A LLaVA model of a CLIP, a language model and a random projector, drawn on `device`."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(language)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.pad_token = tokenizer.eos_token
    # The frozen models are those of the other side; the image token's word is new.
    llama = transformers.AutoModelForCausalLM.from_pretrained(language)
    llama.resize_token_embeddings(max(llama.config.vocab_size, len(tokenizer)), mean_resizing=False)
    tower = transformers.CLIPVisionModel.from_pretrained(clip)
    config = transformers.LlavaConfig(
        vision_config=tower.config,
        text_config=llama.config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with device:
        model = transformers.LlavaForConditionalGeneration(config)
    model.model.language_model, model.model.vision_tower = llama.base_model, tower
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor.from_pretrained(clip),
        tokenizer=tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def measure(task: Task, batch_size: int, steps: int) -> Figures:
    """Train `steps` steps of `batch_size` captions and say how fast that was."""
    placement = task.placement()
    processor, model = _load(task.work / "llava", placement)
    shapes: list[tuple[int, int]] = []
    # Batches are made in other processes: here they are seen.
    model.register_forward_pre_hook(
        lambda _model, _arguments, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    if task.to_loss:
        captions = sum(len(of_image) for _, of_image in training_pairs(task.work))
        steps = captions // batch_size - WARM_UP
    seconds, losses = _train(task, processor, model, batch_size, steps)
    seen = shapes[WARM_UP : WARM_UP + steps]
    positions, captions = sum(rows * length for rows, length in seen), batch_size * steps
    # It computes the head at every position.
    pairs = sum(rows * common.packed_pairs(length, []) for rows, length in seen)
    flop = common.step_flop(model.config.text_config, positions, positions, pairs, PATCHES * captions)
    flop = flop / captions + common.vision_flop(*common.VIT_B_32)
    row = common.figures(captions / seconds, peak_memory(placement) / 1e6, flop, placement)
    return row | task.time_to_loss(losses, batch_size, seconds / steps)


def _train(task: Task, processor: Any, model: Any, batch_size: int, steps: int) -> tuple[float, list[float]]:
    """The seconds of `steps` steps behind the first ones, and the loss of every step.

    Rate, schedule and warm-up are those of LLaVA's pretraining.
    """
    placement = choose_placement(task.device)
    on_gpu = placement.device.type == "cuda"
    items = [(path, caption) for path, captions in training_pairs(task.work) for caption in captions]
    length_of_prompt = len(processor(images=[Image.open(items[0][0])], text=PROMPT).input_ids[0])

    def collate(items: list[tuple[Path, str]]) -> dict[str, torch.Tensor]:
        images = [Image.open(path).convert("RGB") for path, _ in items]
        texts = [f"{PROMPT} {caption}{processor.tokenizer.eos_token}" for _, caption in items]
        batch = processor(images=images, text=texts, padding=True, padding_side="right", return_tensors="pt")
        labels = batch["input_ids"].clone()
        labels[:, :length_of_prompt] = -100
        labels[batch["attention_mask"] == 0] = -100
        return {**batch, "labels": labels}

    times: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(task.work / "peer"),
        per_device_train_batch_size=batch_size,
        max_steps=WARM_UP + steps,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # of all steps
        save_strategy="no",
        remove_unused_columns=False,
        use_cpu=not on_gpu,
        bf16=placement.dtype == torch.bfloat16,
        fp16=placement.dtype == torch.float16,
        dataloader_num_workers=WORKERS if on_gpu else 0,
        dataloader_persistent_workers=on_gpu,
        disable_tqdm=True,
        logging_steps=1,
    )
    trainer = transformers.Trainer(model, arguments, collate, train_dataset=items, callbacks=[Clock()])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return times[-1] - times[WARM_UP - 1], losses


def _load(folder: Path, placement: Placement) -> tuple[Any, Any]:
    quantization = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=placement.dtype,
        # Full names: short ones would leave the projector to be quantized too.
        llm_int8_skip_modules=["model.vision_tower", "model.multi_modal_projector", "lm_head"],
    )
    model = transformers.LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=placement.dtype, quantization_config=quantization, device_map={"": placement.device}
    )
    # In float32, as mixed precision has it.
    model.model.multi_modal_projector.float()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("multi_modal_projector" in name)
    # Trainer takes a quantized model only with PEFT adapters, and does not see that the projector is the
    # trainable part; users who train one set this flag.
    model._hf_peft_config_loaded = True
    return transformers.AutoProcessor.from_pretrained(folder), model
