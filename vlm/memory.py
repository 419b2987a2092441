"""`vlm memory`: captions of another dataset, which a model can read without training."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import click

from vlm import options

Source = Literal["jsonl", "csv", "flickr8k", "karpathy"]


@click.group()
def memory() -> None:
    """Make a memory of captions, for `vlm caption --memory`.

    \b
    Example: vlm memory build photos/ photos.h5
    """


@memory.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--source",
    type=click.Choice(get_args(Source)),
    default="jsonl",
    help="How DATASET is laid out (docs/datasets.md).",
)
@options.checkpoint
def build(dataset: Path, out: Path, source: Source, checkpoint: Path) -> None:
    """Collect the images of DATASET and their captions in OUT, for the encoder of a checkpoint.

    Where the dataset's files name splits, only the train images. Run it in the project's folder: params.yaml
    says on which device. An interrupted one goes on when it is run again. Nothing is trained.

    \b
    Example: vlm memory build photos/ photos.h5
    """
    from pipeline.captions import read_captions
    from pipeline.datasets.prepare import prepare
    from pipeline.encoding.encode import encode_images
    from pipeline.files.disk_errors import explain_write_errors
    from pipeline.files.locks import file_lock
    from pipeline.hardware.execution import Execution
    from pipeline.model.checkpoints import load_checkpoint
    from pipeline.params.loader import load_params
    from pipeline.params.schema import Limits
    from pipeline.retrieval.retrieve import RetrievePaths, retrieve

    params = load_params(Path("params.yaml"))
    encoder = load_checkpoint(options.find_checkpoint_or_explain(checkpoint)).info.encoder_params()
    # Dev and test images are not wanted; one of each is the fewest that `prepare` reads.
    data = replace(params.data, source=source, root=str(dataset), limits=Limits(None, 1, 1))
    folder = Path(".scratch/memory")
    images, captions, features = (folder / f for f in ("images.jsonl", "captions.jsonl", "features.h5"))
    with file_lock(folder.with_suffix(".lock"), "memory"):
        # What fails later names its own file, which may be one that is read.
        with explain_write_errors(folder):
            folder.mkdir(exist_ok=True)
        prepare(data, images, captions, folder / "images", params.runtime.num_workers, hold_out=False)
        is_split = any(record.split != "train" for record in read_captions(captions))
        encode_images(images, features, encoder, Execution.start(params.runtime, folder / "encode"))
        found, _ = retrieve(RetrievePaths(features, captions, out, folder / "neighbors.h5"), 0)
        shutil.rmtree(folder, ignore_errors=True)
    kind = "train images" if is_split else "images"
    click.echo(f"{out}: the captions of {len(found):,} {kind}. Use: vlm caption IMAGE --memory {out}")
