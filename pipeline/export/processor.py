"""The processor that turns an image and a chat into exactly the prompt that training used.

Whatever the tokenizer's own habits are, the ids and pixels are compared here with this project's, so a
difference is an error of the export and not a worse caption somewhere else.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.files.json_files import read_json, write_json
from pipeline.text.prompt import Prompt
from pipeline.vision.encoder import ImageEncoder

if TYPE_CHECKING:
    from transformers import LlavaProcessor

IMAGE_TOKEN = "<image>"

# Chats as OpenAI's API has them: content is text, or a list of images and texts. A message without words
# gets the instruction of training, the only one that the model knows.
_CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- 'USER: ' -}}
{%- if message['content'] is string -%}
{{- message['content'] + '\\n' -}}
{%- else -%}
{%- set words = namespace(text='') -%}
{%- for content in message['content'] -%}
{%- if content['type'] == 'text' -%}
{%- set words.text = words.text + content['text'] -%}
{%- else -%}
{{- '<image>\\n' -}}
{%- endif -%}
{%- endfor -%}
{{- (words.text or instruction) + '\\n' -}}
{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{{- 'ASSISTANT: ' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for content in message['content'] -%}{{- content['text'] -}}{%- endfor -%}
{%- endif -%}
{{- eos_token -}}
{%- else -%}
{{- raise_exception('This model knows no role but user and assistant.') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""
# Where files come from, which is only this machine's business; and the template, which has its own file.
_UNWANTED_KEYS = ("name_or_path", "is_local", "local_files_only", "chat_template")


def write_processor(
    folder: Path, language: Path, vision: Path, encoder: ImageEncoder, prompt: Prompt, instruction: str
) -> "LlavaProcessor":
    """Write tokenizer, image processor and chat template into `folder`, and return them as read back.

    Args:
        folder: the export.
        language: the folder of the language model's tokenizer.
        vision: the folder of the encoder's image processor.
        encoder: the encoder as this project runs it, to compare with.
        prompt: the token ids that training used, to compare with.
        instruction: the prompt's words after the image.

    Raises:
        PipelineError: when the files read back give other ids or other pixels than training used.
    """
    from transformers import (
        AddedToken,
        AutoImageProcessor,
        AutoProcessor,
        AutoTokenizer,
        CLIPVisionConfig,
        LlavaProcessor,
    )

    # BOS comes from the chat template alone: programs differ in whether they add it to a chat's text.
    options: dict[str, Any] = {
        "add_bos_token": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    tokenizer = AutoTokenizer.from_pretrained(
        language, local_files_only=True, trust_remote_code=False, **options
    )
    if IMAGE_TOKEN in tokenizer.get_vocab():
        raise PipelineError(
            f"the tokenizer in {language} has a token {IMAGE_TOKEN} already, which the export would replace; "
            "export the projector alone."
        )
    tokenizer.add_tokens(AddedToken(IMAGE_TOKEN, special=True, normalized=False), special_tokens=True)
    if tokenizer.pad_token is None:
        # Padding lies left of a prompt, masked: any token will do.
        tokenizer.pad_token = tokenizer.eos_token
    start = f"{{%- set instruction = {_literal(instruction)} -%}}\n"
    if tokenizer.bos_token is not None:
        start += "{{- bos_token -}}\n"
    tokenizer.chat_template = None  # the processor's holds
    # The Pillow processor: the other one needs torchvision.
    images = AutoImageProcessor.from_pretrained(
        vision, local_files_only=True, trust_remote_code=False, backend="pil"
    )
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=CLIPVisionConfig.from_pretrained(vision, local_files_only=True).patch_size,
        vision_feature_select_strategy=select_strategy(encoder.spec.tokens),
        chat_template=start + _CHAT_TEMPLATE,
        num_additional_image_tokens=1,  # the class token, which "default" then takes off again
    ).save_pretrained(folder)
    # transformers 5 reads processor_config.json; other programs look for this file.
    images.save_pretrained(folder)
    _mend_tokenizer_config(folder / "tokenizer_config.json")
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    _require_equal_inputs(processor, encoder, prompt)
    return processor


def select_strategy(tokens: str) -> str:
    """LLaVA's word for `encoder.tokens`: patches alone, or the class token before them."""
    return {"patches": "default", "cls+patches": "full"}[tokens]


def chat_of(image: Image.Image) -> list[dict[str, Any]]:
    """The chat that asks for a caption of an image."""
    return [{"role": "user", "content": [{"type": "image", "image": image}]}]


def _require_equal_inputs(processor: Any, encoder: ImageEncoder, prompt: Prompt) -> None:
    image = _test_image()
    text = processor.apply_chat_template(chat_of(image), add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")
    marks = [processor.image_token_id] * encoder.spec.num_tokens
    wanted = [*prompt.before, *marks, *prompt.after]
    found = inputs["input_ids"][0].tolist()
    if found != wanted:
        raise PipelineError(
            f"the prompt {text!r} becomes the token ids {found} in LLaVA's format, but training used "
            f"{wanted}: this tokenizer reads a text in one piece otherwise than in parts. Export the "
            "projector alone."
        )
    if not torch.equal(inputs["pixel_values"][0], encoder.preprocess(image)):
        raise PipelineError(
            f"the image processor of {encoder.spec.name} makes other pixels once it is exported; export the "
            "projector alone."
        )


def _test_image() -> Image.Image:
    """No square, with both smooth areas and edges: resizing and cropping show."""
    y, x = np.mgrid[0:61, 0:97]
    pixels = np.stack([x * 2, y * 4, 255 * ((x // 8 + y // 8) % 2)], axis=-1)  # [61, 97, 3]
    return Image.fromarray(pixels.astype(np.uint8))


def _literal(text: str) -> str:
    """A text as a string of a Jinja template."""
    return json.dumps(text, ensure_ascii=False)


def _mend_tokenizer_config(path: Path) -> None:
    facts = {key: value for key, value in read_json(path).items() if key not in _UNWANTED_KEYS}
    if facts.get("tokenizer_class") == "TokenizersBackend":
        # The same class under the name that transformers 4 knows, and 5 still does.
        facts["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Said again, because some tokenizer classes add BOS unless told.
    write_json(path, {**facts, "add_bos_token": False})
