"""The model card (README.md) of an exported model: what it is, how to load it, what it may be used for.

Everything that comes from outside (names, instructions, scores) is escaped, so that it cannot become
markup, links or metadata.
"""

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.datasets.pins import read_pins
from pipeline.errors import PipelineError
from pipeline.files.json_files import read_json
from pipeline.metrics.scores import CONTROLS, SCORES
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.pretrained.wheels import is_wheel

_SCORES = ("bleu_1", "bleu_4", "cider", "rouge_l")
_DATASETS = {
    "scenes": "generated scenes of coloured shapes, drawn by this project",
    "flickr8k": "Flickr8k (Hodosh et al. 2013)",
    "karpathy": "a dataset in Karpathy's format (such as Flickr8k, Flickr30k or COCO)",
    "jsonl": "a private folder of images and captions",
    "csv": "a private folder of images and captions",
    "hub": "a dataset of the Hugging Face hub",
}
_FLICKR8K_PINS = Path(__file__).parents[1] / "datasets" / "pinned" / "flickr8k.json"
# Meta's and OpenAI's own models; other people's have other licences (TinyLlama, LAION's CLIP).
_LLAMA = re.compile(r"(?i)(^|/)(meta-)?(code)?llama-?[234]")
_CLIP = re.compile(r"(?i)^(openai/)?clip-vit-(base|large)-patch\d+(-336)?$")
# Letters that mean something to Markdown or HTML. `:` and `@` make links of addresses.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+|!&~$:@])")


def model_card(info: CheckpointInfo, evaluation: Path | None, dataset: str | None) -> str:
    """The README.md of an export, in Markdown with the metadata of a model hub.

    Args:
        info: what the checkpoint knows of the model.
        evaluation: metrics/evaluate.json; without it the card says that it has no scores.
        dataset: `data.source` of the run, or of a dataset of the hub its repository.

    Raises PipelineError when the scores lack a value, or are those of another checkpoint.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Nothing in Markdown is safe for HTML's rules; `finalize` escapes every value instead.
        autoescape=False,
        finalize=_escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    encoder, language = info.encoder, info.language_model
    encoder_name, language_name = _public_name(encoder["name"]), _public_name(language["name"])
    images, scores = (0, []) if evaluation is None else _test_scores(evaluation, info)
    if dataset == read_pins(_FLICKR8K_PINS).repository:
        dataset = "flickr8k"
    return environment.get_template("model_card.md.j2").render(
        info=info,
        encoder=encoder,
        language=language,
        encoder_name=encoder_name,
        language_name=language_name,
        # JSON is YAML.
        base_models=[Markup(json.dumps(n)) for n in (encoder["name"], language["name"]) if _is_hub_id(n)],
        is_llama=_LLAMA.search(language_name) is not None,
        is_clip=_CLIP.search(encoder_name) is not None,
        # All models from wheels are under it (docs/licences.md).
        is_apache_encoder=is_wheel(encoder["name"]),
        is_apache_language=is_wheel(language["name"]),
        is_flickr=dataset == "flickr8k",
        dataset=None if dataset is None else _DATASETS.get(dataset, dataset),
        train={k: v if isinstance(v, str) else json.dumps(v) for k, v in sorted(info.train.items())},
        nf4=language["quantization"] == "nf4",
        double=Markup(bool(language["double_quantization"])),  # True or False, in code
        score_names=[SCORES[key] for key in _SCORES],
        images=images,
        scores=scores,
    )


def _public_name(name: str) -> str:
    """A model's name for strangers: a hub id or a wheel as it is, of a local folder only the last part."""
    if is_wheel(name) or _is_hub_id(name):
        return name
    return Path(name).name


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()


def _test_scores(path: Path, info: CheckpointInfo) -> tuple[int, list[tuple[str, list[str]]]]:
    """The number of test images; for the model and each control its name and its scores on them."""
    found = read_json(path)
    try:
        epoch, training = found["best_epoch"], found["training"]
        rows = [("the model", found["test"])]
        rows += [
            (label, found["controls"][key]) for key, label in CONTROLS.items() if key in found["controls"]
        ]
        table = [(label, [f"{of[key]:.2f}" for key in _SCORES]) for label, of in rows]
        images = int(found["images"]["test"])
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path} lacks a score ({error!r}). Fix: give the metrics/evaluate.json of the run."
        ) from error
    if epoch != info.epoch:
        raise PipelineError(
            f"{path} has the scores of epoch {epoch}, but the checkpoint is epoch {info.epoch}. "
            "Fix: export data/best.safetensors, or leave the scores out."
        )
    if training != info.training:
        raise PipelineError(
            f"{path} has the scores of another training run than the checkpoint's. "
            "Fix: run `dvc repro evaluate`, or leave the scores out."
        )
    return images, table


def _escape(value: Any) -> str:
    """A value as text on one line without any markup; what is `Markup` stays."""
    if isinstance(value, Markup):
        return str(value)
    text = " ".join(str(value).split())
    return re.sub(r"(?i)\bwww\.", r"www\\.", _MARKUP.sub(r"\\\1", text))
