"""The app over HTTP, on loopback, with a captioner that only pretends.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_app_server.py
"""

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

import pytest
from click.testing import CliRunner

from pipeline.errors import PipelineError
from tests.unit.project import Project, counted_openings
from tests.unit.vlm.app_client import (
    LIMITS,
    FakeCaptioner,
    call,
    captions_of,
    connect,
    png,
    serving,
    upload,
    wait_until,
)
from vlm.app.serve import address, allowed_hosts, is_loopback, listen, load_application
from vlm.app.server import Limits
from vlm.main import main


def error_of(body: bytes) -> str:
    sentence: str = json.loads(body)["error"]
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    return sentence


def test_an_image_is_checked_then_asked_about() -> None:
    with serving(FakeCaptioner()) as where:
        response, body = call(where, "/image", png(60, 40))
        assert response.status == 200
        assert (json.loads(body)["width"], json.loads(body)["height"]) == (60, 40)

        response, body = call(where, captions_of("the upper left", "0,0,0.5,1"), png(60, 40))
        assert response.status == 200
    answers = json.loads(body)["answers"]
    assert [(one["region"], one["box"]) for one in answers] == [
        ("top-left", [0, 0, 0.5, 0.5]),
        ("box", [0, 0, 0.5, 1]),
    ]
    assert answers[0]["caption"] == "the top-left of 60 x 40"


def test_the_page_names_nothing_outside_and_may_load_nothing_from_there() -> None:
    with serving(FakeCaptioner()) as where:
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            response, body = call(where, path)
            assert response.status == 200
            assert response.headers["content-type"].startswith(kind)
            assert "server" not in response.headers
            assert not re.search(rb"https?://|(src|href|url)[=(]['\"]?//", body), path


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/", None, {}, 200),
        ("/image", png(), {}, 200),
        ("/image", b"", {}, 400),
        ("/", None, {"Host": "evil.example"}, 400),
        ("/", None, {"Origin": "http://evil.example"}, 403),
        ("/docs", None, {}, 404),
        ("/image", None, {}, 405),
        ("/image", bytes(LIMITS.max_upload_bytes + 1), {}, 413),
        (captions_of("left"), png(), {}, 500),
    ],
)
def test_every_answer_has_the_security_headers(
    path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    def fail() -> None:
        raise RuntimeError

    with serving(FakeCaptioner(before=fail)) as where:
        response, _ = call(where, path, body, headers)
    assert response.status == status
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        *(
            (path, None, 404, "There is nothing here; the page is at /.")
            for path in ("/docs", "/openapi.json", "/page.html.j2", "/../server.py", "/static/page.js")
        ),
        (captions_of("left"), None, 405, "This address takes POST alone."),
        ("/", png(), 405, "This address takes GET or HEAD alone."),
    ],
)
def test_nothing_else_is_served(path: str, body: bytes | None, status: int, sentence: str) -> None:
    with serving(FakeCaptioner()) as where:
        response, answer = call(where, path, body)
    assert (response.status, error_of(answer)) == (status, sentence)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/image", b"no image", "not a readable image"),
        ("/image", png(1001, 1000), "1001 x 1000 pixels, too many"),
        (captions_of("left"), b"no image", "not a readable image"),
        (captions_of("the middle of the left"), png(), "the middle of the left"),
        (captions_of("0,0,0.5,2"), png(), "0,0,0.5,2"),
        (captions_of("0,0,61,1"), png(), "60 x 40"),
        ("/captions", png(), "0 regions"),
        (captions_of(*["left"] * 9), png(), "9 regions"),
    ],
)
def test_what_cannot_be_answered_gets_a_sentence(path: str, body: bytes, message: str) -> None:
    captioner = FakeCaptioner()
    with serving(captioner) as where:
        response, answer = call(where, path, body)
    assert response.status == 400
    assert message in error_of(answer)
    assert captioner.calls == 0


CHUNK = b"%x\r\n" % 100_000 + bytes(100_000) + b"\r\n"


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [
        # Announced as too large, and not read at all; found too large, and not read to its end.
        ({"Content-Length": str(LIMITS.max_upload_bytes + 1)}, []),
        ({"Transfer-Encoding": "chunked"}, [CHUNK] * 3),
    ],
)
def test_an_upload_that_is_too_large_is_refused_before_its_end(
    headers: dict[str, str], chunks: list[bytes]
) -> None:
    with serving(FakeCaptioner()) as where:
        response, body = upload(where, headers, *chunks)
    assert response.status == 413
    assert "0.2 MB, which is --max-upload-mb" in error_of(body)


def test_an_upload_that_never_ends_is_given_up() -> None:
    with serving(FakeCaptioner(), replace(LIMITS, upload_seconds=0.1)) as where:
        response, body = upload(where, {"Content-Length": "1000"}, b"some")
    assert response.status == 408
    assert "upload took too long" in error_of(body)


def test_a_failure_is_told_without_its_details() -> None:
    def fail() -> None:
        raise RuntimeError("secret path")

    with serving(FakeCaptioner(before=fail)) as where:
        response, body = call(where, captions_of("left"), png())
        assert response.status == 500
        assert "failed at this request" in error_of(body)
        assert b"secret" not in body
        assert call(where, "/")[0].status == 200


def test_visitors_at_the_same_time_are_answered_one_after_another() -> None:
    together = threading.Barrier(4)
    slow = threading.Event()
    captioner = FakeCaptioner(before=lambda: slow.wait(0.05))
    with serving(captioner) as where, ThreadPoolExecutor(4) as visitors:

        def visit(width: int) -> str:
            together.wait(timeout=10)
            answer = json.loads(call(where, captions_of("left"), png(width))[1])
            return str(answer["answers"][0]["caption"])

        said = list(visitors.map(visit, (50, 60, 70, 80)))
    assert said == [f"the left of {width} x 40" for width in (50, 60, 70, 80)]
    assert (captioner.calls, captioner.most_at_once) == (4, 1)


@contextmanager
def busy(limits: Limits) -> Iterator[tuple[str, FakeCaptioner]]:
    """The app while it answers a first question; afterwards that has its answer, and so has the next one."""
    go_on = threading.Event()
    captioner = FakeCaptioner(before=lambda: go_on.wait(20))
    with serving(captioner, limits) as where, ThreadPoolExecutor(1) as visitors:
        first = visitors.submit(call, where, captions_of("left"), png())
        wait_until(lambda: captioner.calls == 1)
        yield where, captioner
        go_on.set()
        assert first.result()[0].status == 200
        assert call(where, captions_of("top"), png())[0].status == 200


def test_an_image_is_checked_while_the_model_is_busy() -> None:
    with busy(LIMITS) as (where, _):
        assert call(where, "/image", png())[0].status == 200


def test_more_visitors_than_there_is_room_for_are_told_so() -> None:
    with busy(replace(LIMITS, max_visitors=1)) as (where, _):
        response, body = call(where, captions_of("right"), png())
        assert response.status == 503
        assert "too many requests" in error_of(body).lower()


def test_the_question_of_a_visitor_who_left_is_never_computed() -> None:
    with busy(replace(LIMITS, max_visitors=2)) as (where, captioner):
        second = connect(where)
        second.request("POST", captions_of("right"), png())
        # There is no room for a third until the second has left.
        wait_until(lambda: call(where, "/image", png())[0].status == 503)
        second.close()
        wait_until(lambda: call(where, "/image", png())[0].status == 200)
    assert captioner.calls == 2  # the first question, and the one after it


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        # Another name of this machine, as after DNS rebinding.
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:80"}, 400),
        ({"Host": "[x"}, 400),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ({"Host": "localhost:1", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
        ({"Host": "localhost:1", "Origin": "http://[x"}, 403),
        ({"Host": "localhost:1", "Origin": "null"}, 403),
    ],
)
def test_other_web_sites_in_the_same_browser_get_nothing(headers: dict[str, str], status: int) -> None:
    with serving(FakeCaptioner()) as where:
        response, body = call(where, "/image", png(), headers)
    assert response.status == status
    assert (b"picture" in body) == (status == 200)


def test_no_upload_becomes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own open, temporary files included, is watched for anything but reading."""
    written: list[object] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            written.append(arguments[0])

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    noise = LIMITS.max_upload_bytes * b"\xff"
    with serving(FakeCaptioner()) as where:
        sys.addaudithook(watch)
        for path in ("/image", captions_of("left")):
            assert call(where, path, png(800, 600))[0].status == 200
            assert call(where, path, noise)[0].status == 400
        watching = False
    assert written == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "here"), [(None, "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_a_server_is_opened_here_by_its_loopback_address(host: str | None, here: str) -> None:
    """By default only this machine reaches it."""
    default = str(next(option for option in main.commands["app"].params if option.name == "host").default)
    with listen(host or default, 0) as listening:
        name, port = listening.getsockname()
        assert name == (host or here)
        assert address(listening) == f"http://{here}:{port}/"


@pytest.mark.parametrize(
    ("host", "names"),
    [
        *((host, {host}) for host in ("127.0.0.1", "127.9.9.9", "localhost")),
        ("::1", {"[::1]"}),
        *((host, {"*"}) for host in ("0.0.0.0", "::", "192.168.0.2", "example.org")),
    ],
)
def test_which_addresses_are_this_machines_alone(host: str, names: set[str]) -> None:
    assert is_loopback(host) == ("*" not in names)
    assert names <= set(allowed_hosts(host))


def test_an_address_in_use_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError, match=f"127.0.0.1, port {port}: .*--port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ([], ""),
        (["--host", "0.0.0.0"], "Warning: whoever reaches 0.0.0.0 over the network can use this page"),
    ],
)
def test_the_command_without_a_model_ends_with_a_sentence_and_warns_before_it_lets_others_in(
    tmp_path: Path, options: list[str], warning: str
) -> None:
    missing = str(tmp_path / "best.safetensors")
    result = CliRunner().invoke(main, ["app", "--port", "0", "--checkpoint", missing, *options])
    assert result.exit_code == 1
    assert f"Error: {missing} does not exist. Fix: run `dvc repro` in the project's folder" in result.output
    assert warning in result.output
    assert ("Warning" in result.output) == bool(warning)


def test_the_command_without_its_packages_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("vlm.app.serve", "vlm.app.server"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["app"])
    assert result.exit_code == 1
    assert "needs the package uvicorn" in result.output
    assert "pip install --editable '.[app]'" in result.output


def test_the_checkpoint_is_read_once(project: Project) -> None:
    """It was read again for the names of its models."""
    with counted_openings() as opened:
        load_application(project.best, "cpu", None, LIMITS, "localhost")
    assert opened["best.safetensors"] == 1
