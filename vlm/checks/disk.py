"""The disk: what a run will still download and write, against what is free."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import constants

from pipeline.errors import PipelineError
from pipeline.params.schema import EncoderParams, Params
from vlm.checks.finding import Finding
from vlm.checks.models import ModelFinding, feature_shape, language_width
from vlm.checks.project import DatasetFinding
from vlm.feature_checks import inspect_store

_MARGIN = 1e9  # bytes that ought to stay free
_UNKNOWN_WIDTH = 2048  # of a language model that is not here: Llama-3.2-1B's


def check_disk(
    folder: Path, params: Params, dataset: DatasetFinding, models: Sequence[ModelFinding]
) -> list[Finding]:
    """Free space against what the run still needs, of each disk that it needs.

    Args:
        folder: the project's.
        params: what the run is.
        dataset: what was found of its dataset.
        models: what was found of its models.
    """
    written = _bytes_to_write(folder, params, dataset)
    if written is None:
        text = f"{_free(folder) / 1e9:.1f} GB free; what the run needs is not known yet"
        return [Finding("ok", "disk", text)]
    sizes = [dataset.to_download, *(model.to_download for model in models)]
    downloads = sum(size for size in sizes if size is not None)
    more = "; downloads of unknown size come on top" if None in sizes else ""
    if dataset.to_download is None:
        more += ", and the images in them, twice"
    cache = _existing(Path(constants.HF_HUB_CACHE))
    what = (
        "for images, features and checkpoints"
        if _are_to_unpack(folder, dataset)
        else "for features and checkpoints"
    )
    save = "free some space, or save a copy of the outputs: `dvc config cache.type reflink,hardlink,symlink`"
    if not (downloads or more) or cache.stat().st_dev == folder.stat().st_dev:
        also = f", {downloads / 1e9:.2f} GB of it for downloads" if downloads else f" {what}"
        return [_compare(folder, written + downloads, f"{also}{more}", save)]
    move = "free some space there, or set HF_HOME to a folder on another disk"
    return [
        _compare(folder, written, f" {what}", save),
        _compare(cache, downloads, f" for downloads in {cache}{more}", move),
    ]


def _compare(folder: Path, needed: float, what: str, remedy: str) -> Finding:
    free = _free(folder)
    text = f"{free / 1e9:.1f} GB free, about {needed / 1e9:.2f} GB needed{what}"
    if free < needed:
        return Finding("problem", "disk", text, remedy)
    if free < needed + _MARGIN:
        return Finding("warning", "disk", text, remedy)
    return Finding("ok", "disk", text)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _bytes_to_write(folder: Path, params: Params, dataset: DatasetFinding) -> float | None:
    """What the stages write, and DVC's copies of it; None where the shape of features is not known."""
    shape = feature_shape(params.encoder)
    if shape is None or dataset.images is None:
        return None
    features = dataset.images * shape.num_tokens * shape.width * 2  # float16
    language = params.language_model
    width_out = language_width(language.name, language.revision) or _UNKNOWN_WIDTH
    projector = (shape.width + width_out) * params.projector.hidden_size * 4  # float32
    # Kept work, the output, and DVC's copy of it.
    new_features = (
        0 if _are_encoded(folder / "data" / "features.h5", params.encoder, dataset.images) else 3 * features
    )
    images = 2 * dataset.to_unpack if _are_to_unpack(folder, dataset) else 0
    # Each epoch's checkpoint twice (DVC's copy); the state to resume from holds weights, average, moments.
    return float(images + new_features + projector * (2 * params.train.epochs + 4))


def _are_to_unpack(folder: Path, dataset: DatasetFinding) -> bool:
    return dataset.to_unpack > 0 and not (folder / "data" / "images.jsonl").is_file()


def _are_encoded(store: Path, encoder: EncoderParams, images: int) -> bool:
    """Whether the feature store is of so many images and of this encoder, as far as parameters tell."""
    try:
        facts = inspect_store(store)
    except PipelineError:
        return False
    wanted = asdict(encoder)
    return facts.images == images and {key: facts.encoder.get(key) for key in wanted} == wanted
