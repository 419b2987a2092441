"""What benchmarks share: the machine's facts, models of random weights, captioned images, tables.

Random weights: nothing is downloaded, and neither speed nor memory depends on their values.
"""

import functools
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils.benchmark import Timer

from pipeline.captions import read_captions, read_images, select_split
from pipeline.datasets.prepare import prepare
from pipeline.hardware.device import Placement, choose_placement
from pipeline.hardware.memory import keep_freed_memory
from pipeline.model.adapters import inject_adapters
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.loader import load_params
from pipeline.params.schema import Limits, Params, ScenesParams
from pipeline.pretrained.pretrained import resolve_model
from pipeline.text.prompt import Prompt
from stages.errors import quiet_libraries, report_user_errors

Figures = dict[str, float]

# Environment variables: the file that results are appended to, and the part of the program they belong to.
RESULTS, PART = "BENCHMARK_RESULTS", "BENCHMARK_PART"

SMOLLM2 = "wheel:smollm2-135m"
# Patches, width, layers and a patch's side of the encoders, and the projector's hidden layer.
ENCODERS = {
    "openai/clip-vit-base-patch32": (49, 768, 12, 32),
    "openai/clip-vit-large-patch14": (256, 1024, 24, 14),
}
PATCHES, VISION_WIDTH, *_ = VIT_B_32 = ENCODERS["openai/clip-vit-base-patch32"]
HIDDEN = 2048


def benchmark(function: Callable[..., None]) -> click.Command:
    """Make a click command of a benchmark, which shows the defaults of its options."""

    @functools.wraps(function)
    def run(**options: Any) -> None:
        quiet_libraries()
        keep_freed_memory()
        function(**options)

    return click.command(context_settings={"show_default": True})(report_user_errors(run))


# --- the machine ---------------------------------------------------------------------------------------


def figures(rate: float, peak: float, flop: float, placement: Placement) -> Figures:
    """Figures of a turn from captions a second, MB and FLOP a caption: how near it came to the matrix rate.

    That is the rate of a product of matrices in the placement's type, of sizes that use the caches well:
    2048 x 2048 on a CPU and 8192 x 8192 on a GPU.
    """
    size = 2048 if placement.device.type == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=placement.device, dtype=placement.dtype)
    timer = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
    best = 2 * size**3 / timer.blocked_autorange(min_run_time=3).median
    return {
        "captions/s": rate,
        "peak MB": peak,
        "GFLOP a caption": flop / 1e9,
        "matrix GFLOP/s": best / 1e9,
        "used": rate * flop / best,
    }


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process: a peak of memory is the process's, and never falls again."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def record(row: Mapping[str, Any]) -> None:
    """Append a result to the file of `benchmarks.gpu`, if that program runs this one."""
    if path := os.environ.get(RESULTS):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": os.environ.get(PART), **row}) + "\n")


def print_rows(rows: Sequence[Mapping[str, Any]], placement: Placement) -> None:
    """Print rows as a table, and the facts of the machine that they depend on."""
    for row in rows:
        record(row)
    click.echo(table(rows))
    cpu = f"{os.cpu_count()} cores of {platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"
    click.echo(f"{placement}; {cpu}, {torch.get_num_threads()} threads; torch {torch.__version__}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table of Markdown; the keys of the first are the columns."""
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row.values()))} |" for row in rows), ""])


def cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# --- language models and their work --------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What both sides of a comparison get: a folder of images and models, a language model, a device.

    Attributes:
        gib: the memory of the GPU that a process may take; None: all.
        to_loss: losses whose time is measured, over an epoch of both sides; none: a number of steps.
        similar: captions of similar images in the prompt of ours.
        adapters: whether ours also trains adapters.
        seed: of the first weights and the order of images of ours.
        dequantize: whether ours keeps its NF4 weights as plain ones.
    """

    work: Path
    language_model: str
    device: str
    gib: float | None = None
    to_loss: tuple[float, ...] = ()
    similar: int = 0
    adapters: bool = False
    seed: int = 0
    dequantize: bool = False

    def placement(self) -> Placement:
        """Choose the device, and keep this process within its memory."""
        placement = choose_placement(self.device)
        if self.gib and placement.device.type == "cuda":
            total = torch.cuda.get_device_properties(placement.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self.gib * 2**30 / total))
        return placement

    def time_to_loss(self, losses: Sequence[float], images: float, seconds: float) -> Figures:
        """Seconds until the loss is each of `to_loss`; infinite unless the last 100 images have that loss.

        In its first epoch a model has not seen a step's captions before: their loss says what it has learned.
        But the images of one step are harder than those of another. So it is read off the nearest falling
        curve: where losses rise again, it is their mean (pool adjacent violators; Ayer et al. 1955).

        Args:
            losses: of each step.
            images: of a step, of which a caption or all are in it.
            seconds: that a step takes.
        """
        pools: list[tuple[float, int]] = []  # mean and number of steps
        for loss in losses:
            pools.append((loss, 1))
            while len(pools) > 1 and pools[-2][0] <= pools[-1][0]:
                (before, many), (mean, count) = pools[-2:]
                pools[-2:] = [((before * many + mean * count) / (many + count), many + count)]
        curve = [mean for mean, count in pools for _ in range(count)]
        counted = curve[: max(0, len(curve) + 1 - max(1, round(100 / images)))]
        steps = {
            loss: next((step for step, mean in enumerate(counted, 1) if mean <= loss), math.inf)
            for loss in self.to_loss
        }
        return {f"s to {loss:g}": seconds * needed for loss, needed in steps.items()}


def profile(name: str) -> Params:
    """A profile by its name."""
    return load_params(Path(__file__).parents[1] / "profiles" / f"{name}.yaml")


def vision_flop(patches: int, width: int, layers: int, side: int) -> float:
    """Two operations a weight and position; attention's own products are left out (4 % in ViT-L/14)."""
    return 2.0 * (patches + 1) * (layers * 12 * width**2 + width * 3 * side**2)


def step_flop(
    language: Any, positions: float, labels: float, pairs: float = 0.0, image_tokens: float = 0.0
) -> float:
    """FLOP of a training step: each weight and position forward, and back to the position's input.

    Args:
        language: the configuration of a Llama.
        positions: of all rows.
        labels: where the head is computed.
        pairs: of positions, one attending to the other.
        image_tokens: that go through the projector, whose weights have gradients.
    """
    width, layers = language.hidden_size, language.num_hidden_layers
    attention = 2 * width * (width + language.num_key_value_heads * language.head_dim)
    weights = layers * (attention + 3 * width * language.intermediate_size)
    first, second = VISION_WIDTH * HIDDEN, HIDDEN * width
    head = labels * language.vocab_size * width
    in_model = 4 * (positions * weights + head) + 12 * pairs * width * layers
    return float(in_model + 2 * image_tokens * (2 * first + 3 * second))


def packed_pairs(prefix: int, captions: Sequence[int]) -> float:
    """Pairs that may attend in one row: the prefix to itself, each caption to the prefix and to itself."""
    own = sum(length * (length + 1) / 2 for length in (prefix, *captions))
    return own + prefix * sum(captions)


def llama_config(tiny: bool = False) -> Any:
    """Llama-3.2-1B's dimensions, or two layers that take no time."""
    from transformers import LlamaConfig

    width = 128 if tiny else 2048
    return LlamaConfig(
        vocab_size=49_152 if tiny else 128_256,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2 if tiny else 16,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 256 or 1,
        tie_word_embeddings=True,
    )


def save_models(work: Path, device: torch.device, tiny: bool) -> tuple[Path, Path]:
    """The folders of a CLIP and of a Llama, saved in new processes, which give a GPU's memory back."""
    clip = in_a_process(save_clip, work / "clip", tiny)
    return clip, in_a_process(save_llama, work / "llama", device, tiny)


def random_captioner(params: Params, llama: Path, width: int, placement: Placement) -> VisionLanguageModel:
    """The model of a profile over a language model's folder, with 13 words around images of `width`."""
    settings = replace(params.language_model, name=str(llama), revision=None)
    language_model = load_language_model(settings, placement)
    adapters = inject_adapters(language_model, params.lora)
    projector = Projector(width, params.projector.hidden_size, language_model.width).to(placement.device)
    return VisionLanguageModel(projector, language_model, Prompt((1,) * 4, (2,) * 9, eos=0), adapters)


def save_llama(folder: Path, device: torch.device, tiny: bool = False) -> Path:
    """A Llama-3.2-1B of random weights in bfloat16 (2.5 GB), drawn on `device`, with SmolLM2's tokenizer.

    SmolLM2's words are fewer, and its captions as long as Llama's.
    """
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM(llama_config(tiny))
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve_model(SMOLLM2, None, None)).save_pretrained(folder)
    return folder


def save_clip(folder: Path, tiny: bool = False) -> Path:
    """A CLIP vision model of random weights, of ViT-B/32's dimensions or three layers, and its processor."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    # Without arguments it is ViT-B/32.
    sizes = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "image_size": 64}
    config = CLIPVisionConfig(**(sizes if tiny else {}))
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"height": config.image_size, "width": config.image_size}
    CLIPImageProcessor(size={"shortest_edge": config.image_size}, crop_size=size).save_pretrained(folder)
    return folder


# --- captioned images ----------------------------------------------------------------------------------


def save_captions(photos: Path | None, images: int, folder: Path) -> None:
    """Write images.jsonl and captions.jsonl of the first `images` training images into `folder`."""
    params = replace(
        profile("sample").data,
        source="flickr8k" if photos else "scenes",
        root=str(photos or "scenes"),
        limits=Limits(train=images, dev=1, test=1),
        scenes=ScenesParams(train=images, dev=1, test=1, image_size=224, seed=0),
    )
    listed, captions = folder / "images.jsonl", folder / "captions.jsonl"
    prepare(params, listed, captions, folder / "images", workers=2)


def training_pairs(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Path and captions of each training image."""
    paths = {image.image_id: Path(image.path) for image in read_images(folder / "images.jsonl")}
    train = select_split(read_captions(folder / "captions.jsonl"), "train")
    return [(paths[record.image_id], record.captions) for record in train]
