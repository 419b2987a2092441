"""`vlm app`: a web page to caption images with, on this machine."""

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import click

from stages.errors import quiet_libraries, report_user_errors
from vlm.options import (
    Finite,
    checkpoint_option,
    device_option,
    find_checkpoint_or_explain,
    megapixels_option,
    model_cache,
    project_params,
)

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
@megapixels_option
@click.option(
    "--max-upload-mb",
    type=Finite(0, 1000, min_open=True),
    default=20.0,
    show_default=True,
    help="Refuse files of more million bytes.",
)
@report_user_errors
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
        from vlm.app.serve import address, is_loopback, listen, load_application, make_server
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
    limits = Limits(int(max_upload_mb * 1e6), max_megapixels)
    with closing(listen(host, port)) as listening:
        checkpoint = find_checkpoint_or_explain(checkpoint)
        click.echo(f"Loading {checkpoint} and the models that it names ...", err=True)
        application = load_application(checkpoint, device, model_cache(project_params()), limits, host)
        where = address(listening)
        click.echo(f"Open {where} in a browser; Ctrl-C ends the app.")
        if open_browser:
            click.launch(where)
        with suppress(KeyboardInterrupt):
            make_server(application).run(sockets=[listening])
