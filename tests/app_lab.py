"""The app without a model: a captioner that says which region it was shown, and a server on loopback."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import quote, urlsplit

from PIL import Image

from pipeline.regions.regions import Region
from vlm.app.page import ModelFacts, make_assets
from vlm.app.serve import address, allowed_hosts, listen, make_server
from vlm.app.server import CaptionServer, Limits

LIMITS = Limits(max_upload_bytes=200_000, max_megapixels=1.0)


@dataclass(frozen=True)
class Said:
    text: str
    finished: bool = True


@dataclass
class FakeCaptioner:
    """Says region and size; `before` is called first. Counts its calls, and those at the same time."""

    before: Callable[[], object] = lambda: None
    calls: int = 0
    most_at_once: int = 0
    _running: int = field(default=0, repr=False)

    def caption_many(self, requests: Sequence[tuple[Image.Image, Region]]) -> list[Said]:
        self.calls += 1
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            self.before()
            return [
                Said(f"the {region.name} of {image.width} x {image.height}") for image, region in requests
            ]
        finally:
            self._running -= 1


@contextmanager
def serving(captioner: FakeCaptioner, limits: Limits = LIMITS) -> Iterator[str]:
    """The app on a free port of loopback, in a thread; yields its address."""
    listening = listen("127.0.0.1", 0)
    assets = make_assets(ModelFacts("an encoder", "a language model", 2), 200_000, 1.0)
    application = CaptionServer(captioner, limits, assets, allowed_hosts("127.0.0.1")).application()
    server = make_server(application)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    where = address(listening)
    thread.start()
    try:
        yield where
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()


def connect(where: str) -> HTTPConnection:
    return HTTPConnection(urlsplit(where).netloc, timeout=20)


def call(
    where: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[HTTPResponse, bytes]:
    """POST with a body, GET without."""
    connection = connect(where)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


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
