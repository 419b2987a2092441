"""Stage 2: every image goes through the frozen encoder once, into the feature store."""

from pathlib import Path

from pipeline.params.schema import Params
from stages.console import SCRATCH, stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Encode every image once.

    Images encoded before, by an earlier or an interrupted run, are taken from .scratch/encode.

    \b
    Reads   data/images.jsonl and the images
    Writes  data/features.h5
    Params  encoder

    \b
    Example: python -m stages.encode
    """
    from pipeline.encoding.encode import Engine, encode_images, encode_locally
    from pipeline.hardware.execution import Execution

    images, features = Path("data/images.jsonl"), Path("data/features.h5")
    with stage_banner("encode", [images], [features]) as close_with:
        engine: Engine = encode_locally
        if settings.runtime.encode_engine == "ray":
            from pipeline.cluster.ray_engine import encode_with_ray

            engine = encode_with_ray
        execution = Execution.start(settings.runtime, SCRATCH / "encode")
        done = encode_images(images, features, settings.encoder, execution, engine)
        close_with(f"{done.images} images of {done.num_tokens} x {done.width} float16, {done.encoded} new")


if __name__ == "__main__":
    main()
