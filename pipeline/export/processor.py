"""The processor that turns an image and a chat into exactly the prompt that training used.

Ids and pixels are compared here with this project's, so that a difference is an error of the export and not
a worse caption somewhere else.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.export.parts import INSTEAD, Parts
from pipeline.files.json_files import read_json, write_json

if TYPE_CHECKING:
    from transformers import LlavaProcessor, PreTrainedTokenizerBase

IMAGE_TOKEN = "<image>"

# Chats as OpenAI's API has them: content is text, or a list of images and texts. A message without words
# gets the instruction of training, the only one that the model knows.
_CHAT_TEMPLATE = Path(__file__).with_name("chat_template.j2")
# Where files come from, which concerns this machine only; and the template, which has a file.
_UNWANTED_KEYS = ("name_or_path", "is_local", "local_files_only", "chat_template")


def write_processor(folder: Path, parts: Parts) -> "LlavaProcessor":
    """Write tokenizer, image processor and chat template into `folder`, and return them as read back.

    Raises PipelineError when the files read back give other ids or other pixels than training used.
    """
    from transformers import AutoImageProcessor, AutoProcessor, CLIPVisionConfig, LlavaProcessor

    tokenizer = _tokenizer(parts.language_folder)
    instruction = json.dumps(parts.info.tokenizer["instruction"], ensure_ascii=False)  # a string of Jinja too
    start = f"{{%- set instruction = {instruction} -%}}\n"
    if tokenizer.bos_token is not None:
        start += "{{- bos_token -}}\n"
    # The Pillow processor: the other one needs torchvision.
    images = AutoImageProcessor.from_pretrained(
        parts.vision_folder, local_files_only=True, trust_remote_code=False, backend="pil"
    )
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=CLIPVisionConfig.from_pretrained(parts.vision_folder, local_files_only=True).patch_size,
        vision_feature_select_strategy=parts.select_strategy,
        chat_template=start + _CHAT_TEMPLATE.read_text(encoding="utf-8"),
        num_additional_image_tokens=1,  # the class token, which "default" then takes off again
    ).save_pretrained(folder)
    # transformers 5 reads processor_config.json; other programs look for this file.
    images.save_pretrained(folder)
    _clean_tokenizer_config(folder / "tokenizer_config.json")
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    _require_equal_inputs(processor, parts)
    return processor


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The language model's tokenizer with an image token, padding on the left and no BOS."""
    from transformers import AddedToken, AutoTokenizer

    # BOS comes from the chat template alone: programs differ in whether they add it to a chat's text.
    options = {"add_bos_token": False, "model_input_names": ["input_ids", "attention_mask"]}
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, padding_side="left", **options
    )
    if IMAGE_TOKEN in tokenizer.get_vocab():
        raise PipelineError(
            f"The tokenizer in {folder} has a token {IMAGE_TOKEN} already, which the export would replace. "
            f"{INSTEAD}"
        )
    tokenizer.add_tokens(AddedToken(IMAGE_TOKEN, special=True, normalized=False), special_tokens=True)
    if tokenizer.pad_token is None:
        # Padding lies left of a prompt, masked: any token will do.
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = None  # the processor's holds
    return tokenizer


def _require_equal_inputs(processor: Any, parts: Parts) -> None:
    # Not square, with smooth areas and edges, to show resizing and cropping.
    y, x = np.mgrid[0:61, 0:97]
    pixels = np.stack([x * 2, y * 4, 255 * ((x // 8 + y // 8) % 2)], axis=-1)  # [61, 97, 3]
    image = Image.fromarray(pixels.astype(np.uint8))
    chat = [{"role": "user", "content": [{"type": "image", "image": image}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")
    prompt, encoder = parts.tokenizer.prompt, parts.encoder
    expected = [*prompt.before, *[processor.image_token_id] * encoder.spec.num_tokens, *prompt.after]
    if inputs["input_ids"][0].tolist() != expected:
        raise PipelineError(
            f"The prompt {text!r} has other token ids in LLaVA's format than in training: this tokenizer "
            f"reads a text in one piece otherwise than in parts. {INSTEAD}"
        )
    if not torch.equal(inputs["pixel_values"][0], encoder.preprocess(image)):
        raise PipelineError(
            f"The image processor of {encoder.spec.name} makes other pixels once it is exported. {INSTEAD}"
        )


def _clean_tokenizer_config(path: Path) -> None:
    config = {key: value for key, value in read_json(path).items() if key not in _UNWANTED_KEYS}
    if config.get("tokenizer_class") == "TokenizersBackend":
        # The same class under the name that transformers 4 knows, and 5 still does.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Again, because some tokenizer classes add BOS unless told.
    write_json(path, {**config, "add_bos_token": False})
