"""An address to listen on, the application with a model in it, and the server that runs both."""

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import load_checkpoint
from pipeline.regions.captioner import Captioner, load_memory
from vlm.app.examples import example_pictures
from vlm.app.page import make_assets
from vlm.app.server import CaptionServer, Limits

_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach that address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def allowed_hosts(host: str) -> list[str]:
    """List the names by which a server on that address may be called: this machine's, or any ("*").

    A server that is open to others is called by names that it cannot know.
    """
    return [*_LOOPBACK_NAMES, _bracketed(host)] if is_loopback(host) else ["*"]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens; port 0 takes a free one. Raises PipelineError if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise PipelineError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Fix: choose another --host or "
            "--port (0 takes a free one)."
        ) from error


def address(listening: socket.socket) -> str:
    """Return what to open in a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # all addresses of this machine
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{_bracketed(host)}:{port}/"


def load_application(
    checkpoint: Path,
    device: str,
    model_cache: Path | None,
    limits: Limits,
    host: str,
    memory: Path | None = None,
) -> ASGIApp:
    """Load a trained model and put it behind the page. Raises PipelineError if it cannot be loaded."""
    trained = load_checkpoint(checkpoint)
    captioner = Captioner.from_checkpoint(
        trained, choose_placement(device), model_cache, limits.max_megapixels, load_memory(trained, memory)
    )
    info = trained.info
    names = {"encoder": info.encoder["name"], "language_model": info.language_model["name"]}
    examples = example_pictures(trained.file.path, info, limits.max_megapixels)
    facts = {"trained_on": info.trained_on, "answers_questions": captioner.answers_questions}
    assets = make_assets({**names, "epoch": info.epoch, **facts}, limits, examples)
    return CaptionServer(captioner.caption_many, limits, assets).application(allowed_hosts(host))


def make_server(application: ASGIApp) -> uvicorn.Server:
    """Make a server without logs of who asked what, to be run on a socket that listens."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    return uvicorn.Server(uvicorn.Config(application, lifespan="off", timeout_graceful_shutdown=3, **quiet))
