"""`vlm app`: a web page to caption images with, on this machine."""

from typing import TYPE_CHECKING

import click

from stages.console import quiet_libraries, with_sentences
from vlm.options import MEGAPIXELS, Finite, checkpoint_option, device_option, model_cache, project_params

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@checkpoint_option
@device_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--open/--no-open", "open_browser", default=False, show_default=True, help="Open a browser.")
@click.option(
    "--max-megapixels",
    type=MEGAPIXELS,
    default=50.0,
    show_default=True,
    help="Refuse images of more million pixels.",
)
@click.option(
    "--max-upload-mb",
    type=Finite(0, 1000, min_open=True),
    default=20.0,
    show_default=True,
    help="Refuse files of more million bytes.",
)
@with_sentences
def app(
    checkpoint: "Path",
    device: str,
    host: str,
    port: int,
    open_browser: bool,
    max_megapixels: float,
    max_upload_mb: float,
) -> None:
    """Serve a web page that captions images and regions of them.

    The page needs no internet, keeps no image, and is for this machine alone unless --host says otherwise.

    \b
    Example: vlm app --checkpoint data/best.safetensors --port 8080
    """
    quiet_libraries()
    try:
        from vlm.app.run import run
        from vlm.app.serve import is_loopback
        from vlm.app.server import Limits
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise click.ClickException(
            f"the web page needs the package {error.name}, which is not installed; in the project's folder, "
            "run `pip install --editable '.[app]'`."
        ) from error

    if not is_loopback(host):
        click.echo(
            f"Warning: whoever reaches {host} over the network can use this page, without a password and "
            "unencrypted; leave out --host to keep it to this machine.",
            err=True,
        )
    click.echo(f"Loading {checkpoint} and the models that it names ...", err=True)

    def ready(address: str) -> None:
        click.echo(f"Open {address} in a browser; Ctrl-C ends the app.")
        if open_browser:
            click.launch(address)

    limits = Limits(int(max_upload_mb * 1e6), max_megapixels)
    run(checkpoint, device, model_cache(project_params()), host, port, limits, ready)
