"""The app over HTTP, on loopback, with a captioner that only pretends.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_app_server.py
"""

import html
import json
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vlm.app_client import (
    LIMITS,
    TRAINED_ON,
    FakeCaptioner,
    call,
    captions_of,
    connect,
    png,
    serving,
    wait_until,
)
from tests.vlm_command import run_vlm
from vlm.app.serve import address, allowed_hosts, is_loopback, listen
from vlm.app.server import Limits
from vlm.main import main

LEFT = captions_of("left")
TOO_LARGE = "larger than 0.2 MB; choose"


def test_the_page_names_nothing_outside_and_may_load_nothing_from_there() -> None:
    with serving(FakeCaptioner()) as where:
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            page = call(where, path)
            assert page.status == 200
            assert page.headers["content-type"].startswith(kind)
            assert "server" not in page.headers
            assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
            assert not re.search(rb"https?://|(src|href|url)[=(]['\"]?//", page.body), path
        assert call(where, "/").body.decode().count(html.escape(TRAINED_ON)) == 1


def chunks(count: int) -> Iterator[bytes]:
    """A body without an announced length."""
    return (bytes(100_000) for _ in range(count))


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "sentence"),
    [
        ("/docs", None, {}, 404, "the page is at /."),
        (LEFT, None, {}, 405, ""),
        ("/image", b"no image", {}, 400, "not a readable image"),
        ("/image", png(1001, 1000), {}, 400, "the limit in megapixels is 1."),
        (captions_of(""), png(), {}, 400, "the request is empty"),
        (captions_of("0,0,61,1"), png(), {}, 400, "60 x 40"),
        ("/captions", png(), {}, 400, "1 to 8 regions"),
        # Refused before any is parsed: none of these can be.
        (captions_of(*["the middle of the left half"] * 9), png(), {}, 400, "1 to 8 regions"),
        (captions_of(*["the left and the right"] * 8), png(), {}, 400, "1 to 8 regions"),
        # Announced as too large, and not read at all; found too large, and not read to its end.
        ("/image", b"", {"Content-Length": "200001"}, 413, TOO_LARGE),
        ("/image", chunks(3), {}, 413, TOO_LARGE),
        ("/image", b"some", {"Content-Length": "1000"}, 408, "upload took too long"),
        # Another name of this machine, as after DNS rebinding; pages of other sites in the same browser.
        ("/image", png(), {"Host": "127.0.0.1.evil.example:80"}, 400, None),
        ("/image", png(), {"Host": "[x"}, 400, None),
        ("/image", png(), {"Host": "localhost:1", "Origin": "http://localhost:2"}, 403, "refuses requests"),
        ("/image", png(), {"Host": "localhost:1", "Origin": "null"}, 403, "refuses requests"),
    ],
)
def test_what_is_refused_gets_a_sentence_and_security_headers(
    path: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str], status: int, sentence: Any
) -> None:
    captioner = FakeCaptioner()
    with serving(captioner, replace(LIMITS, upload_seconds=0.5)) as where:
        answer = call(where, path, body, headers)
    assert answer.status == status
    assert sentence is None or sentence.casefold() in json.loads(answer.body)["error"].casefold()
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert captioner.calls == 0


def test_this_machine_may_be_called_by_its_names() -> None:
    with serving(FakeCaptioner()) as where:
        for host in ("localhost:1", "[::1]:1"):
            assert call(where, "/image", png(), {"Host": host}).status == 200
            assert call(where, "/image", png(), {"Host": host, "Origin": f"http://{host}"}).status == 200


def test_a_failure_is_told_without_its_details() -> None:
    def fail() -> None:
        raise RuntimeError("secret path")

    with serving(FakeCaptioner(before=fail)) as where:
        answer = call(where, LEFT, png())
        assert answer.status == 500
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert b"error" in answer.body
        assert b"secret" not in answer.body
        assert call(where, "/").status == 200


def test_visitors_at_the_same_time_are_answered_one_after_another() -> None:
    together = threading.Barrier(4)
    slow = threading.Event()
    captioner = FakeCaptioner(before=lambda: slow.wait(0.05))
    with serving(captioner) as where, ThreadPoolExecutor(4) as visitors:

        def visit(width: int) -> str:
            together.wait(timeout=10)
            return str(json.loads(call(where, LEFT, png(width)).body)["answers"][0]["caption"])

        captions = list(visitors.map(visit, (50, 60, 70, 80)))
    assert captions == [f"the left of {width} x 40" for width in (50, 60, 70, 80)]
    assert (captioner.calls, captioner.most_at_once) == (4, 1)


@contextmanager
def busy(limits: Limits) -> Iterator[tuple[str, FakeCaptioner]]:
    """The app while it answers a first question; that gets its answer afterwards, and so does the next."""
    go_on = threading.Event()
    captioner = FakeCaptioner(before=lambda: go_on.wait(20))
    with serving(captioner, limits) as where, ThreadPoolExecutor(1) as visitors:
        first = visitors.submit(call, where, LEFT, png())
        wait_until(lambda: captioner.calls == 1)
        yield where, captioner
        go_on.set()
        assert first.result().status == 200
        assert call(where, captions_of("top"), png()).status == 200


def test_while_the_model_is_busy_an_image_is_checked_and_too_many_visitors_are_told_so() -> None:
    with busy(LIMITS) as (where, _):
        assert call(where, "/image", png()).status == 200
    with busy(replace(LIMITS, max_visitors=1)) as (where, _):
        answer = call(where, captions_of("right"), png())
    assert answer.status == 503
    assert b"oo many requests" in answer.body


def test_the_question_of_a_visitor_who_left_is_never_computed() -> None:
    with busy(replace(LIMITS, max_visitors=2)) as (where, captioner):
        second = connect(where)
        second.request("POST", captions_of("right"), png())
        # There is no room for a third until the second has left.
        wait_until(lambda: call(where, "/image", png()).status == 503)
        second.close()
        wait_until(lambda: call(where, "/image", png()).status == 200)
    assert captioner.calls == 2  # the first question, and the one after it


def test_no_upload_becomes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file would fail: its folder does not exist."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with serving(FakeCaptioner()) as where:
        for path in ("/image", LEFT):
            assert call(where, path, png(800, 600)).status == 200


def test_by_default_only_this_machine_reaches_the_server() -> None:
    default = str(next(option for option in main.commands["app"].params if option.name == "host").default)
    for host, name in ((default, "127.0.0.1"), ("0.0.0.0", "0.0.0.0")):
        with listen(host, 0) as listening:
            assert listening.getsockname()[0] == name
            assert address(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}/"
    for host, name in (("127.9.9.9", "127.9.9.9"), ("localhost", "localhost"), ("::1", "[::1]")):
        assert is_loopback(host)
        assert name in allowed_hosts(host)
    for host in ("0.0.0.0", "::", "example.org"):
        assert not is_loopback(host)
        assert "*" in allowed_hosts(host)


def test_a_port_in_use_is_a_sentence_before_a_model_is_loaded(tiny_checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_vlm("app", "--checkpoint", tiny_checkpoint, "--port", port, code=1)
    assert f"127.0.0.1, port {port}: " in result.output
    assert "Loading" not in result.output


@pytest.mark.parametrize(
    ("options", "warning"), [([], ""), (["--host", "0.0.0.0"], "anyone who reaches 0.0.0.0 over the network")]
)
def test_a_missing_model_is_a_sentence_and_an_open_host_a_warning(
    tmp_path: Path, options: list[str], warning: str
) -> None:
    missing = tmp_path / "best.safetensors"
    result = run_vlm("app", "--port", "0", "--checkpoint", missing, *options, code=1)
    assert f"Error: {missing} does not exist" in result.output
    assert warning in result.output
    assert ("Warning" in result.output) == bool(warning)


def test_the_command_without_its_packages_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("vlm.app.serve", "vlm.app.server"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run_vlm("app", code=1)
    assert "needs the package uvicorn" in result.output
    assert "pip install --editable '.[app]'" in result.output


def test_the_command_takes_another_memory(tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = ("--checkpoint", tiny_checkpoint, "--memory", tmp_path / "other.h5")
    assert "other.h5 does not exist" in run_vlm("app", "--port", "0", *options, code=1).output
