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

from pipeline.errors import PipelineError
from pipeline.files.json_files import read_json
from pipeline.metrics.scores import CONTROLS, MAIN_SCORES, SCORES
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.pretrained.wheels import is_wheel

_DATASETS = {
    "scenes": "generated scenes of colored shapes",
    "flickr8k": "Flickr8k (Hodosh et al. 2013)",
    "karpathy": "a dataset in Karpathy's format (Flickr8k, Flickr30k, COCO)",
    "jsonl": "a private folder of images and captions",
    "csv": "a private folder of images and captions",
    "llava": "a dataset in LLaVA's format (LLaVA-Pretrain, LLaVA-Instruct)",
    "vqa": "VQA v2 (Goyal et al. 2017)",
}
# Meta's and OpenAI's models; other people's have other licenses (TinyLlama, LAION's CLIP).
_LLAMA = re.compile(r"(?i)(^|/)(meta-)?(code)?llama-?[234]")
_CLIP = re.compile(r"(?i)^(openai/)?clip-vit-(base|large)-patch\d+(-336)?$")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Letters that mean something to Markdown or HTML. `:` and `@` make links of addresses.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+|!&~$:@])")


def model_card(info: CheckpointInfo, evaluation: Path | None, dataset: str | None) -> str:
    """Render the README.md of an export, in Markdown with the metadata of a model hub.

    Args:
        info: what the checkpoint knows of the model.
        evaluation: metrics/evaluate.json; without it the card says that it has no scores.
        dataset: `data.source` of the run, or the repository of a dataset of the hub.

    Raises PipelineError when the scores are not complete, or are those of another checkpoint.
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
    names = [encoder["name"], language["name"]]
    encoder_name, language_name = map(_public_name, names)
    if dataset is not None and "flickr8k" in dataset.lower():
        dataset = "flickr8k"
    return environment.get_template("model_card.md.j2").render(
        info=info,
        encoder_name=encoder_name,
        language_name=language_name,
        # JSON is YAML.
        base_models=[Markup(json.dumps(name)) for name in names if _is_hub_id(name)],
        is_llama=_LLAMA.search(language_name) is not None,
        is_clip=_CLIP.search(encoder_name) is not None,
        # All models from wheels are under Apache-2.0.
        is_apache_encoder=is_wheel(encoder["name"]),
        is_apache_language=is_wheel(language["name"]),
        is_flickr=dataset == "flickr8k",
        dataset=None if dataset is None else _DATASETS.get(dataset, dataset),
        nf4=language["quantization"] == "nf4",
        double=Markup(bool(language["double_quantization"])),  # True or False, in code
        score_names=[SCORES[key] for key in MAIN_SCORES],
        scores={} if evaluation is None else _test_scores(evaluation, info),
    )


def _public_name(name: str) -> str:
    """Return a model's name for strangers: of a local folder only the last part."""
    return name if is_wheel(name) or _is_hub_id(name) else Path(name).name


def _is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _test_scores(path: Path, info: CheckpointInfo) -> dict[str, list[str]]:
    """Read the scores on the test images of the model and of each control, by its name."""
    content = read_json(path)
    try:
        run, expected = (content["training"], content["best_epoch"]), (info.training, info.epoch)
        controls = content["controls"]
        rows = {"the model": content["test"]}
        rows |= {label: controls[key] for key, label in CONTROLS.items() if key in controls}
        table = {label: [f"{scores[key]:.2f}" for key in MAIN_SCORES] for label, scores in rows.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path} is not complete ({type(error).__name__}: {error}). Fix: run `dvc repro evaluate`, or "
            "leave the scores out."
        ) from error
    if run != expected:
        what = "another training run" if run[0] != expected[0] else f"epoch {run[1]}, not {expected[1]}"
        raise PipelineError(
            f"{path} has the scores of {what}. Fix: export the data/best.safetensors of that run, or leave "
            "the scores out."
        )
    return table


def _escape(value: Any) -> str:
    """Write a value as text on one line without any markup; `Markup` stays."""
    if isinstance(value, Markup):
        return str(value)
    text = " ".join(str(value).split())
    return re.sub(r"(?i)\bwww\.", r"www\\.", _MARKUP.sub(r"\\\1", text))
