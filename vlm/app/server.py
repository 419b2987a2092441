"""The page and its two questions over HTTP: is this an image, and what does the model say of it?

An image is the body of a request, read into memory under a limit and forgotten with the answer. Refusals
are JSON, `{"error": "A sentence."}`. Nothing else is served.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.errors import PipelineError
from vlm.app.answers import CaptionMany, answer, preview, question_of, requested_regions

# Scripts, styles and answers come from this server, pictures from memory: the page cannot call elsewhere.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one visitor, and all visitors together, may ask for."""

    max_upload_bytes: int
    max_megapixels: float
    max_visitors: int = 16  # uploads in memory that arrive, wait or are answered
    upload_seconds: float = 60.0


class CaptionServer:
    """Answers the two questions; they share the model, the limits and the threads."""

    def __init__(self, caption_many: CaptionMany, limits: Limits, assets: Mapping[str, Response]) -> None:
        self._caption_many = caption_many
        self._limits = limits
        self._assets = assets
        self._places = asyncio.Semaphore(limits.max_visitors)
        # One thread runs the model's calls in their order: two at a time would take twice the memory and not
        # be faster. Another checks uploads meanwhile.
        self._image_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def application(self, allowed_hosts: Sequence[str]) -> ASGIApp:
        """Build the ASGI application, which answers to these host names."""
        starlette = Starlette(
            routes=[
                *(Route(path, asset, methods=["GET"]) for path, asset in self._assets.items()),
                Route("/image", self._image, methods=["POST"]),
                Route("/captions", self._captions, methods=["POST"]),
            ],
            # A site whose name points to this machine (DNS rebinding) has a foreign Host.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts, www_redirect=False)],
            exception_handlers={
                404: lambda *_: _error(404, "there is nothing here; the page is at /."),
                413: lambda *_: _error(413, _too_large(self._limits)),
                HTTPException: _explain,
                # A visitor cannot follow the advice, which is for those who run the app.
                PipelineError: lambda _, error: _error(400, str(error).partition(" Fix: ")[0]),
                ClientDisconnect: lambda *_: Response(status_code=499),  # nobody will read it
                # The server logs the traceback.
                Exception: lambda *_: _error(500, "the app failed to answer this; its terminal says why."),
            },
            max_body_size=self._limits.max_upload_bytes,
        )
        return guard(starlette, self._limits)

    async def _image(self, request: Request) -> Response:
        """Check an image: its size and a preview of it."""
        loop, limit = asyncio.get_running_loop(), self._limits.max_megapixels
        async with self._upload(request) as content:
            return JSONResponse(await loop.run_in_executor(self._image_thread, preview, content, limit))

    async def _captions(self, request: Request) -> Response:
        """Caption the regions that `request=...` (once or several times) asks for, or answer a question."""
        requests = request.query_params.getlist("request")
        regions, question = requested_regions(requests), question_of(requests)
        loop, limit = asyncio.get_running_loop(), self._limits.max_megapixels
        async with self._upload(request) as content:
            waiting = loop.run_in_executor(
                self._model_thread, answer, self._caption_many, content, regions, limit, question
            )
            return JSONResponse({"answers": await _while_connected(request, waiting)})

    @asynccontextmanager
    async def _upload(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body under the limits of number and time; Starlette limits its size."""
        if self._places.locked():
            raise HTTPException(503, "too many requests are waiting; try again in a minute.")
        async with self._places:
            try:
                async with asyncio.timeout(self._limits.upload_seconds):
                    content = await request.body()
            except TimeoutError as error:
                raise HTTPException(408, "the upload took too long; try again.") from error
            yield content


def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


def guard(app: ASGIApp, limits: Limits) -> ASGIApp:
    """Add security headers to every answer; refuse pages of other sites, and bodies announced as too large.

    A page of another site that a visitor's browser has open can send requests here; it has a foreign Origin.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        handler = app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin, length = headers.get("origin"), headers.get("content-length", "")
            if origin is not None and origin.partition("://")[2] != headers.get("host"):
                handler = _error(403, f"the app refuses requests from pages of {origin!r:.100}.")
            # Starlette answers this case in three words of plain text.
            elif length.isdecimal() and int(length) > limits.max_upload_bytes:
                handler = _error(413, _too_large(limits))
        await handler(scope, receive, send_with_headers)

    return guarded


async def _while_connected(request: Request, working: asyncio.Future[Any]) -> Any:
    """Await a result, and cancel the work when the visitor leaves: nobody would read it."""
    leaving = asyncio.ensure_future(request.receive())  # the body is read: the next message is the disconnect
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _too_large(limits: Limits) -> str:
    most = limits.max_upload_bytes / 1e6
    return f"this file is larger than {most:g} MB; choose a smaller one."


def _error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence[0].upper() + sentence[1:]}, status, headers)
