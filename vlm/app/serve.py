"""An address to listen on, the application with a model in it, and the server that runs both."""

import ipaddress
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from pipeline import Captioner
from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import find_checkpoint, load_checkpoint
from vlm.app.page import make_assets
from vlm.app.server import CaptionServer, Limits

_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(host: str) -> list[str]:
    """List the names by which a server on that address may be called: this machine's, or any ("*").

    A server that is open to others is called by names that it cannot know.
    """
    return [*_LOOPBACK_NAMES, f"[{host}]" if ":" in host else host] if is_loopback(host) else ["*"]


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens; port 0 takes a free one. Raises PipelineError when that is not possible.

    Done before the model is loaded: a port in use is reported in a moment, not in half a minute.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise PipelineError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; choose others with --host and "
            "--port (port 0 takes a free one)."
        ) from error


def address(listening: socket.socket) -> str:
    """Return what to open in a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # all addresses, this machine's own among them
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def load_application(
    checkpoint: Path, device: str, model_cache: Path | None, limits: Limits, host: str
) -> ASGIApp:
    """Load a trained model and put it behind the page. Raises PipelineError when it cannot be loaded."""
    trained = load_checkpoint(find_checkpoint(checkpoint))
    placement = choose_placement(device)
    captioner = Captioner.from_checkpoint(trained, placement, model_cache, limits.max_megapixels)
    info = trained.info
    names = {"encoder": info.encoder["name"], "language_model": info.language_model["name"]}
    assets = make_assets({**names, "epoch": info.epoch}, limits)
    return CaptionServer(captioner.caption_many, limits, assets).application(allowed_hosts(host))


def make_server(application: ASGIApp) -> uvicorn.Server:
    """Make a server without logs of who asked what, to be run on a socket that listens."""
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
    )
