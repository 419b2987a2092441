"""`vlm app` as one function: listen, load, serve."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from pipeline import Captioner
from pipeline.model.checkpoints import find_checkpoint, load_checkpoint
from vlm.app.page import ModelFacts, make_assets
from vlm.app.serve import address, allowed_hosts, listen, make_server
from vlm.app.server import CaptionServer, Limits


def run(
    checkpoint: Path,
    device: str,
    model_cache: Path | None,
    host: str,
    port: int,
    limits: Limits,
    ready: Callable[[str], None],
) -> None:
    """Serve a trained model until Ctrl-C; `ready` is told the page's address once it can be opened.

    Raises PipelineError when the address or the model are not to be had.
    """
    with closing(listen(host, port)) as listening:
        checkpoint = find_checkpoint(checkpoint)
        trained = load_checkpoint(checkpoint).info
        captioner = Captioner.load(checkpoint, device, model_cache, limits.max_megapixels)
        facts = ModelFacts(trained.encoder["name"], trained.language_model["name"], trained.epoch)
        assets = make_assets(facts, limits.max_upload_bytes, limits.max_megapixels)
        application = CaptionServer(captioner, limits, assets, allowed_hosts(host)).application()
        ready(address(listening))
        with suppress(KeyboardInterrupt):
            make_server(application).run(sockets=[listening])
