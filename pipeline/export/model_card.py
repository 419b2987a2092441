"""The model card (README.md) of an exported model: what it is, how to load it, what it may be used for.

Everything that comes from outside (names, instructions, scores) is escaped, so that it cannot become
markup, links or metadata.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.datasets.pins import read_pins
from pipeline.errors import PipelineError
from pipeline.files.json_files import JsonObject, read_json
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.pretrained.wheels import is_wheel

_SCORES = {"bleu_1": "BLEU-1", "bleu_4": "BLEU-4", "cider": "CIDEr-D", "rouge_l": "ROUGE-L"}
_CONTROLS = {
    "constant": "one caption for all",
    "nearest": "nearest training image's",
    "shuffled": "the model, images shuffled",
}
_DATASETS = {
    "scenes": "generated scenes of coloured shapes, drawn by this project",
    "flickr8k": "Flickr8k (Hodosh et al. 2013)",
    "karpathy": "a dataset in Karpathy's format (such as Flickr8k, Flickr30k or COCO)",
    "jsonl": "a private folder of images and captions",
    "csv": "a private folder of images and captions",
    "hub": "a dataset of the Hugging Face hub",
}
_FLICKR8K_PINS = Path(__file__).parents[1] / "datasets" / "flickr8k.json"
# Meta's and OpenAI's own models; other people's have other licences (TinyLlama, LAION's CLIP).
_LLAMA = re.compile(r"(?i)(^|/)(meta-)?(code)?llama-?[234]")
_CLIP = re.compile(r"(?i)^(openai/)?clip-vit-(base|large)-patch\d+(-336)?$")
# Letters that mean something to Markdown or HTML. `:` and `@` make links of addresses.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+|!&~$:@])")


class _Markdown(str):
    """Text that is meant as markup, and is not escaped again."""


@dataclass(frozen=True)
class CardFacts:
    """What a model card tells.

    `evaluation` is the content of metrics/evaluate.json, `dataset` the run's `data.source`, or of a dataset
    of the hub its repository; a checkpoint knows neither, and without them the card says so.
    """

    kind: Literal["llava", "projector"]
    info: CheckpointInfo
    evaluation: JsonObject | None
    dataset: str | None

    @classmethod
    def read(
        cls,
        kind: Literal["llava", "projector"],
        info: CheckpointInfo,
        evaluation: Path | None,
        dataset: str | None,
    ) -> Self:
        """The facts with the scores of a file. Raises PipelineError when they are of another checkpoint."""
        if evaluation is None:
            return cls(kind, info, None, dataset)
        scores = read_json(evaluation)
        epoch = scores.get("best_epoch") if isinstance(scores, dict) else None
        if epoch is None:
            raise PipelineError(f"{evaluation} holds no scores; give the metrics/evaluate.json of the run.")
        if epoch != info.epoch:
            raise PipelineError(
                f"{evaluation} has the scores of epoch {epoch}, but the checkpoint is epoch {info.epoch}; "
                "export data/best.safetensors, or leave the scores out."
            )
        if scores.get("training") != info.training:
            raise PipelineError(
                f"{evaluation} has the scores of another training run than the checkpoint's; run "
                "`dvc repro evaluate`, or leave the scores out."
            )
        return cls(kind, info, scores, dataset)


def model_card(facts: CardFacts) -> str:
    """The README.md of an export, in Markdown with the metadata of a model hub.

    Raises PipelineError when the scores lack a value.
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
    environment.filters["markdown"] = _Markdown
    info = facts.info
    encoder, language = info.encoder, info.language_model
    images, scores = _test_scores(facts.evaluation)
    dataset = "flickr8k" if facts.dataset == read_pins(_FLICKR8K_PINS).repository else facts.dataset
    return environment.get_template("model_card.md.j2").render(
        kind=facts.kind,
        info=info,
        encoder=encoder,
        language=language,
        encoder_name=public_name(encoder["name"]),
        language_name=public_name(language["name"]),
        base_models=[_yaml(n) for n in (encoder["name"], language["name"]) if _is_hub_id(n)],
        is_llama=_LLAMA.search(public_name(language["name"])) is not None,
        is_clip=_CLIP.search(public_name(encoder["name"])) is not None,
        # All models from wheels are under it (docs/licences.md).
        is_apache_encoder=is_wheel(encoder["name"]),
        is_apache_language=is_wheel(language["name"]),
        is_flickr=dataset == "flickr8k",
        dataset=None if dataset is None else _DATASETS.get(dataset, dataset),
        train={key: _plain(value) for key, value in sorted(info.train.items())},
        nf4=language["quantization"] == "nf4",
        double=_Markdown(bool(language["double_quantization"])),  # True or False, in code
        score_names=list(_SCORES.values()),
        images=images,
        scores=scores,
    )


def public_name(name: str) -> str:
    """A model's name for strangers: a hub id or a wheel as it is, of a local folder only the last part."""
    if is_wheel(name) or _is_hub_id(name):
        return name
    return Path(name).name


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()


def _test_scores(evaluation: JsonObject | None) -> tuple[int, list[tuple[str, list[str]]]]:
    """The number of test images; for the model and each control its name and its scores on them."""
    if evaluation is None:
        return 0, []
    try:
        rows = [("the model", evaluation["test"])]
        rows += [(label, evaluation["controls"].get(key)) for key, label in _CONTROLS.items()]
        table = [(label, [f"{of[key]:.2f}" for key in _SCORES]) for label, of in rows if of is not None]
        return int(evaluation["images"]["test"]), table
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError(
            f"the scores lack a value ({error!r}); give the metrics/evaluate.json of the run."
        ) from error


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escape(value: Any) -> str:
    """A value as text on one line without any markup; what is `_Markdown` stays."""
    if isinstance(value, _Markdown):
        return str(value)
    text = " ".join(str(value).split())
    return re.sub(r"(?i)\bwww\.", r"www\\.", _MARKUP.sub(r"\\\1", text))


def _yaml(text: str) -> _Markdown:
    """A text as a YAML scalar (JSON is YAML)."""
    return _Markdown(json.dumps(text))
