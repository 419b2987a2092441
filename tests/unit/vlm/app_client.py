"""The app without a model: a captioner that names the region it gets, a server on loopback, a client."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

from PIL import Image
from starlette.types import ASGIApp

from pipeline.regions.captioner import RegionCaption
from pipeline.regions.regions import Region
from vlm.app.page import make_assets
from vlm.app.serve import address, allowed_hosts, listen, make_server
from vlm.app.server import CaptionServer, Limits

LIMITS = Limits(max_upload_bytes=200_000, max_megapixels=1.0)
TRAINED_ON = "Trained on 400 <scenes>."
MODEL = {
    "encoder": "an encoder",
    "language_model": "a language model",
    "epoch": 2,
    "trained_on": TRAINED_ON,
    "answers_questions": True,
}


@dataclass
class FakeCaptioner:
    """Says region and size; `before` is called first. Counts its calls, and those at the same time."""

    before: Callable[[], object] = lambda: None
    calls: int = 0
    most_at_once: int = 0
    _running: int = field(default=0, repr=False)

    def caption_many(
        self, requests: Sequence[tuple[Image.Image, Region]], question: str | None = None
    ) -> list[RegionCaption]:
        self.calls += 1
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            self.before()
            return [
                RegionCaption(
                    f"{question or 'the'} {region.name} of {image.width} x {image.height}", region, True, -1.0
                )
                for image, region in requests
            ]
        finally:
            self._running -= 1


@contextmanager
def serving(captioner: FakeCaptioner, limits: Limits = LIMITS) -> Iterator[str]:
    """Serve the app with a captioner that pretends; yields its address."""
    server = CaptionServer(captioner.caption_many, limits, make_assets(MODEL, limits))
    with running(server.application(allowed_hosts("127.0.0.1"))) as where:
        yield where


@contextmanager
def running(application: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port of loopback, in a thread; yields its address."""
    server = make_server(application)
    with closing(listen("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield address(listening)
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def connect(where: str) -> HTTPConnection:
    return HTTPConnection(urlsplit(where).netloc, timeout=20)


def call(
    where: str, path: str, body: bytes | Iterator[bytes] | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """POST with a body, which may end before its announced length; GET without."""
    with closing(connect(where)) as connection:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def captions_of(*requests: str) -> str:
    """The path that asks for regions."""
    return "/captions?" + "&".join(f"request={quote(request)}" for request in requests)


def png(width: int = 60, height: int = 40) -> bytes:
    """A picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited for 10 seconds"
        time.sleep(0.01)
