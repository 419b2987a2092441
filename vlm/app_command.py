"""`vlm app`: a web page that captions images, on this machine."""

from contextlib import closing, suppress
from pathlib import Path

import click

from vlm import options


@click.command()
@options.checkpoint
@options.device
@options.memory
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, help="The port; 0 takes a free one.")
@click.option("--open/--no-open", "open_browser", default=False, help="Open a browser.")
@options.max_megapixels
@click.option(
    "--max-upload-mb", type=options.Limit(1000), default=20.0, help="Refuse files of more million bytes."
)
def app(
    checkpoint: Path,
    device: str,
    memory: Path | None,
    host: str,
    port: int,
    open_browser: bool,
    max_megapixels: float,
    max_upload_mb: float,
) -> None:
    """Serve a web page that captions images and regions of them.

    The page needs no internet, keeps no image, and is only for this machine unless --host says otherwise.

    \b
    Example: vlm app --checkpoint data/best.safetensors --port 8080
    """
    try:
        from vlm.app.serve import address, is_loopback, listen, load_application, make_server
        from vlm.app.server import Limits
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise click.ClickException(
            f"the web page needs the package {error.name}, which is not installed. Fix: run "
            "`pip install --editable '.[app]'` in the project's folder."
        ) from error

    if not is_loopback(host):
        click.echo(
            f"Warning: anyone who reaches {host} over the network can use this page, without a password and "
            "unencrypted. Without --host only this machine can.",
            err=True,
        )
    limits = Limits(int(max_upload_mb * 1e6), max_megapixels)
    with closing(listen(host, port)) as listening:
        checkpoint = options.find_checkpoint_or_explain(checkpoint)
        click.echo(f"Loading {checkpoint} and the models that it names ...", err=True)
        application = load_application(checkpoint, device, options.model_cache(), limits, host, memory)
        where = address(listening)
        click.echo(f"Open {where} in a browser; Ctrl-C ends the app.")
        if open_browser:
            click.launch(where)
        with suppress(KeyboardInterrupt):
            make_server(application).run(sockets=[listening])
