"""The page and its two questions over HTTP: is this an image, and what does the model say of it?

An image is the body of a request, read into memory under a limit and forgotten with the answer. RefusedErrors
are JSON, `{"error": "A sentence."}`. Nothing else is served: no file of the disk, no API description.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import PipelineError
from vlm.app.answers import RegionCaptioner, answer, preview, requested_regions
from vlm.app.line import Line
from vlm.app.page import Asset

log = logging.getLogger(__name__)
T = TypeVar("T")

# Scripts, styles and answers from this server, pictures from it and from memory, all else from nowhere:
# the page could not call out if it tried.
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
    """What one visitor, and all of them together, may ask for."""

    max_upload_bytes: int
    max_megapixels: float
    max_visitors: int = 16  # uploads in memory: those that arrive, wait or are answered
    upload_seconds: float = 60.0


class RefusedError(Exception):
    """A request that gets a sentence and a status instead of an answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class CaptionServer:
    """The routes, and what they share: the captioner, the limits, the two lines to wait in."""

    def __init__(
        self,
        captioner: RegionCaptioner,
        limits: Limits,
        assets: Mapping[str, Asset],
        allowed_hosts: Collection[str] | None,
    ) -> None:
        """`allowed_hosts`: by which names the server may be called; None for any."""
        self._captioner = captioner
        self._limits = limits
        self._assets = assets
        self._allowed_hosts = allowed_hosts
        self._visitors = 0
        # Checking an upload must not wait for other visitors' captions.
        self._images, self._model = Line("images"), Line("model")

    def application(self) -> Starlette:
        """The ASGI application; its threads end with it."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            self._images.close()
            self._model.close()

        return Starlette(
            routes=[
                *(Route(path, self._guarded(self._asset), methods=["GET"]) for path in self._assets),
                Route("/image", self._guarded(self._image), methods=["POST"]),
                Route("/captions", self._guarded(self._captions), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _no_such_question},
            lifespan=lifespan,
        )

    async def _asset(self, request: Request) -> Response:
        asset = self._assets[request.url.path]
        return Response(asset.content, media_type=asset.media_type)

    async def _image(self, request: Request) -> Response:
        """Check an image: its size and a preview of it."""
        async with self._upload(request) as content:
            shown = await self._images.run(lambda: preview(content, self._limits.max_megapixels))
            return _json(asdict(shown))

    async def _captions(self, request: Request) -> Response:
        """Caption the regions that `request=...` (once or several times) asks for in words."""
        wanted = requested_regions(request.query_params.getlist("request"))
        async with self._upload(request) as content:
            answers = await _while_connected(
                request,
                self._model.run(
                    lambda: answer(self._captioner, content, wanted, self._limits.max_megapixels)
                ),
            )
            return _json({"answers": [asdict(one) for one in answers]})

    @asynccontextmanager
    async def _upload(self, request: Request) -> AsyncIterator[bytes]:
        """The body, under the limits of size, time and number; whoever is answered makes room for another."""
        if self._visitors >= self._limits.max_visitors:
            raise RefusedError(503, "too many requests are waiting; try again in a minute.")
        self._visitors += 1
        try:
            yield await _read(request, self._limits)
        finally:
            self._visitors -= 1

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that first checks who asks, whose errors are sentences, whose answers carry headers."""

        async def respond(request: Request) -> Response:
            try:
                self._check_caller(request)
                response = await endpoint(request)
            except RefusedError as error:
                response = _error(error.status, str(error))
            except PipelineError as error:
                response = _error(400, str(error))
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody will read it
            except Exception:
                log.exception("a request failed")
                response = _error(500, "the app failed at this request; the terminal it runs in says why.")
            response.headers.update(_HEADERS)
            return response

        return respond

    def _check_caller(self, request: Request) -> None:
        """Refuse other web sites that a visitor's browser has open.

        A site can send requests here, and one whose name it lets point to this machine (DNS rebinding) could
        read the answers too. The first kind has a foreign Origin, the second a foreign Host.
        """
        host = request.headers.get("host", "")
        if self._allowed_hosts is not None and _hostname(host) not in self._allowed_hosts:
            raise RefusedError(
                403, f"this app does not answer to the name {host!r:.100}; open it by its address."
            )
        origin = request.headers.get("origin")
        if origin is not None and _netloc(origin) != host:
            raise RefusedError(403, f"the app takes no requests from the page of {origin!r:.100}.")


async def _no_such_question(_: Request, error: Exception) -> Response:
    """What no route answers: another path, another method."""
    assert isinstance(error, HTTPException)
    methods = " or ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    sentence = (
        f"this address takes {methods} alone." if methods else "there is nothing here; the page is at /."
    )
    response = _error(error.status_code, sentence)
    response.headers.update({**_HEADERS, **(error.headers or {})})
    return response


def _hostname(host: str) -> str | None:
    """The name in a Host header, without its port; None where it is no host."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # brackets that hold no IPv6 address
        return None


def _netloc(origin: str) -> str | None:
    """Name and port of an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def _read(request: Request, limits: Limits) -> bytes:
    """The body. What announces itself as too large is not read at all, what is too large not to its end."""
    most = limits.max_upload_bytes
    too_large = RefusedError(
        413, f"this file is larger than {most / 1e6:g} MB, which is --max-upload-mb; choose a smaller one."
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise too_large
    except TimeoutError as error:
        raise RefusedError(408, "the upload took too long; try again.") from error
    return bytes(content)


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is given up when the visitor leaves: no one would read it."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # the body is read: the next message is a farewell
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _error(status: int, sentence: str) -> Response:
    return _json({"error": sentence[0].upper() + sentence[1:]}, status)
