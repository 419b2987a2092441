"""Tiny randomly initialized models of the reference architectures, saved like those of a hub.

They exercise the very code path of CLIP and Llama (`transformers` folders, NF4 by bitsandbytes) in
seconds. Their captions mean nothing.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

_TEXT = (
    "USER: Describe this image. ASSISTANT: a small red circle on a blue background "
    "there is a large green square in the top left corner of the picture two shapes and one star"
)


def save_clip(folder: Path) -> Path:
    """A CLIP vision model: 32-pixel input, 4 x 4 patches, width 32, 3 layers."""
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
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return folder


def save_openai_clip(folder: Path) -> Path:
    """A tiny CLIP as OpenAI's repositories hold theirs: the text's weights next to the image's, and a
    processor written by an older `transformers`."""
    save_clip(folder)
    vision = CLIPVisionConfig.from_pretrained(folder)
    text = CLIPTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    processor = folder / "preprocessor_config.json"
    config_now = json.loads(processor.read_text(encoding="utf-8"))
    keys = ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std")
    old: dict[str, object] = {key: config_now[key] for key in keys}
    old |= {"crop_size": 32, "size": 32, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}
    processor.write_text(json.dumps(old), encoding="utf-8")
    return folder


def save_llama(folder: Path, seed: int = 0) -> Path:
    """A Llama: width 64, 2 layers, grouped-query attention, tied embeddings, and, like Llama 3, a
    byte-level tokenizer with BOS and EOS and no padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin_of_text|>", "<|end_of_text|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT] * 3, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        # With the usual 0.02 and tied embeddings it would say its last word again, whatever the image.
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
