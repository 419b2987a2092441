"""An address to listen on, and the server that listens there until it is stopped."""

import ipaddress
import socket

import uvicorn
from starlette.applications import Starlette

from pipeline.errors import PipelineError

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(host: str) -> frozenset[str] | None:
    """By which names a server on that address may be called: this machine's, or any (None).

    A server open to others is called by names that it cannot know.
    """
    return _LOOPBACK_NAMES | {host} if is_loopback(host) else None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises PipelineError when the address is not to be had.

    Made before the model is loaded: a port in use is known in a moment, not in half a minute.
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
    """What to open in a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # all addresses, this machine's own among them
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def make_server(application: Starlette) -> uvicorn.Server:
    """A server without logs of who asked what, to be run on a socket that listens."""
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
