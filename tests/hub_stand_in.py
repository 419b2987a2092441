"""A stand-in for the Hugging Face hub: an HTTP server on loopback that speaks what huggingface_hub asks for.

It serves folders as model and dataset repositories at one commit each: their info, their tree, and their
files, large ones by way of a redirect to a "content network" and all of them from any byte on. Gated
repositories, tokens, refusals, errors and truncated transfers are switched on by its attributes.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LARGE = (".safetensors", ".parquet")


@dataclass
class _Repository:
    name: str
    commit: str
    gated: bool
    files: dict[str, bytes]


def _etag(path: str, content: bytes) -> str:
    """The SHA-256 of a large file, and of others something shorter."""
    return (hashlib.sha256 if path.endswith(_LARGE) else hashlib.sha1)(content).hexdigest()


@dataclass
class HubStandIn:
    """What it serves and how it misbehaves; use it as a context manager.

    Attributes:
        tokens: the tokens it knows, each with the gated repositories that its account may read.
        failing: how many requests from now on are answered with `status`.
        truncated: how many transfers from now on end early, without a word, after `share` of what is left.
        anonymous: its answers lack the headers by which a hub is known.
        corrupted: paths that are served with other bytes of the same size.
        requests: "METHOD path" of each request, and the `Range` it asked for.
    """

    tokens: dict[str, set[str]] = field(default_factory=dict)
    failing: int = 0
    status: int = 500
    truncated: int = 0
    share: float = 0.5
    anonymous: bool = False
    corrupted: set[str] = field(default_factory=set)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    repositories: dict[str, _Repository] = field(default_factory=dict)

    def add(self, name: str, folder: Path, commit: str, kind: str = "model", gated: bool = False) -> None:
        """Serve a folder as the repository `name`, at `commit`, which is its branch main as well."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        key = f"datasets/{name}" if kind == "dataset" else name
        self.repositories[key] = _Repository(name, commit, gated, files)

    def __enter__(self) -> "HubStandIn":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stand_in": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` is to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """The variables that let a process use this hub and nothing else, with its cache in `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def contents(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield the digest, path and content of each file."""
        for repository in self.repositories.values():
            for path, content in repository.files.items():
                yield _etag(path, content), path, content

    def transfers(self, suffix: str) -> list[str | None]:
        """The ranges asked for in transfers of the files whose path ends in `suffix`."""
        etags = {etag for etag, path, _ in self.contents() if path.endswith(suffix)}
        return [asked for line, asked in self.requests if line.removeprefix("GET /cdn/") in etags]


class _RefusalError(Exception):
    """An answer without content: its status, and the code and the message that say why."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: HubStandIn

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        hub = self.stand_in
        path = unquote(urlsplit(self.path).path).strip("/")
        hub.requests.append((f"{self.command} /{path}", self.headers.get("Range")))
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            if hub.failing > 0:
                hub.failing -= 1
                raise _RefusalError(hub.status, "", "")
            if path.startswith("cdn/"):
                files = {etag: (name, content) for etag, name, content in hub.contents()}
                name, content = files[path[4:]]
                self._transfer(bytes(len(content)) if name in hub.corrupted else content, {})
            elif path.startswith("api/"):
                self._api(path.removeprefix("api/").removeprefix("models/"))
            else:
                self._resolve(path)
        except _RefusalError as refusal:
            status, code, message = refusal.args
            headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}
            self._head(status, {name: text for name, text in headers.items() if text})

    do_HEAD = do_GET  # noqa: N815  # as http.server calls it

    def _repository(self, path: str) -> tuple[_Repository, list[str]]:
        """The repository that is asked for and the parts of the path behind it."""
        hub = self.stand_in
        if self.token and self.token not in hub.tokens:
            raise _RefusalError(401, "", "Invalid credentials in Authorization header")
        for name, repository in hub.repositories.items():
            if f"{path}/".startswith(f"{name}/"):
                return repository, path.removeprefix(name).strip("/").split("/")
        # The hub does not tell strangers what does not exist from what is private.
        if self.token:
            raise _RefusalError(404, "RepoNotFound", "Repository not found")
        raise _RefusalError(401, "", "Invalid username or password.")

    def _api(self, path: str) -> None:
        repository, rest = self._repository(path)
        _require_revision(repository, rest[1] if len(rest) > 1 else "main")
        answer: object = {
            "id": repository.name,
            "sha": repository.commit,
            "siblings": [{"rfilename": path} for path in repository.files],
            "private": False,
            "gated": "manual" if repository.gated else False,
        }
        if rest[0] == "tree":
            answer = [_tree_entry(*file) for file in repository.files.items()]
        content = json.dumps(answer).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _resolve(self, path: str) -> None:
        repository, rest = self._repository(path)
        if len(rest) < 3 or rest[0] != "resolve":
            raise _RefusalError(404, "", "")
        if repository.gated and repository.name not in self.stand_in.tokens.get(self.token, set()):
            raise _RefusalError(
                403 if self.token else 401, "GatedRepo", "Access to this model is restricted."
            )
        _require_revision(repository, rest[1])
        name = "/".join(rest[2:])
        if name not in repository.files:
            raise _RefusalError(404, "EntryNotFound", "Entry not found")
        content = repository.files[name]
        etag = _etag(name, content)
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{etag}"'}
        if self.stand_in.anonymous:
            headers = {}
        if not name.endswith(_LARGE):
            self._transfer(content, headers)
            return
        linked = {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content)), "Content-Length": "0"}
        # Another host, as with the hub: the client does not follow while it asks for a file's properties, and
        # sends no token there.
        host = self.stand_in.endpoint.replace("127.0.0.1", "localhost")
        self._head(302, {**headers, **linked, "Location": f"{host}/cdn/{etag}"})

    def _transfer(self, content: bytes, headers: dict[str, str]) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        rest = content[start:]
        sizes = {"Content-Length": str(len(rest))}
        if asked:
            sizes["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if asked else 200, {**headers, **sizes})
        if self.command == "HEAD":
            return
        hub = self.stand_in
        if hub.truncated > 0:
            hub.truncated -= 1
            self.close_connection = True
            rest = rest[: int(len(rest) * hub.share)]
        self.wfile.write(rest)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _require_revision(repository: _Repository, revision: str) -> None:
    if revision not in ("main", repository.commit):
        raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def _tree_entry(path: str, content: bytes) -> dict[str, Any]:
    etag, size = _etag(path, content), len(content)
    lfs = {"lfs": {"oid": etag, "size": size, "pointerSize": 134}} if path.endswith(_LARGE) else {}
    return {"type": "file", "path": path, "size": size, "oid": etag[:40], **lfs}
