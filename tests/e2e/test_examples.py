"""Examples of helps and pages are run as they stand, in a project with tiny models.

Run: .venv/bin/python -m pytest tests/e2e/test_examples.py
"""

import json
import re
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import pipeline.regions.captioner
from pipeline.files.json_files import write_jsonl
from pipeline.params.schema import Params
from tests.command_lines import VLM
from tests.e2e.conftest import Project, make_project
from tests.import_closure import ROOT
from vlm.app.serve import listen
from vlm.main import main

EXAMPLES = sorted(
    {
        call
        for command in VLM.values()
        for call in re.findall(r"^ *Example[^:]*: vlm (.*)$", command.help or "", re.M)
    }
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params, tiny_checkpoint: Path) -> Project:
    """What a run leaves behind as far as examples need it, and photographs beside it."""
    project = make_project(tmp_path_factory.mktemp("examples") / "project", tiny_params)
    folder = project.folder
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    project.commit("profiles")
    project.stage("prepare")
    project.stage("encode")
    shutil.copy(tiny_checkpoint, folder / "data")
    rows = [json.loads(line) for line in (folder / "data/captions.jsonl").read_text().splitlines()]
    said = [
        {"image_id": row["image_id"], "caption": row["captions"][0]} for row in rows if row["split"] == "test"
    ]
    write_jsonl(folder / "data/predictions/epoch_001_test.jsonl", said)
    (folder / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise, start=1):
        Image.fromarray(pixels).resize((400, 300)).save(folder / "photos" / f"{number}.jpg")
    shutil.copy(folder / "photos" / "1.jpg", folder / "photo.jpg")
    return project


@pytest.fixture
def here(trained: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as the current folder; what an example changes in it is put back."""
    for name, value in trained.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(trained.folder)
    yield trained.folder
    trained.run("git", "checkout", "-q", "params.yaml")


class AtOnce:
    """A web server that is told to stop as soon as it listens."""

    def run(self, sockets: list[socket.socket]) -> None:
        assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1"]


@pytest.mark.parametrize("command", VLM)
def test_every_command_has_an_example(command: str) -> None:
    assert [example for example in EXAMPLES if example.startswith(command)]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_of_a_help_runs(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The port of the example may be in use here.
    monkeypatch.setattr("vlm.app.serve.listen", lambda host, _port: listen(host, 0))
    monkeypatch.setattr("vlm.app.serve.make_server", lambda _application: AtOnce())
    result = CliRunner().invoke(main, shlex.split(example), prog_name="vlm")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def python_in(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", ["README.md", "docs/regions.md"])
def test_the_python_of_a_page_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = python_in(ROOT / page)
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.count("\n") > code.count("print(")  # one of them is in a loop


@pytest.mark.usefixtures("here")
def test_the_python_of_the_captioner_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """What its module says by itself, `help(pipeline.regions.captioner)`."""
    code = (pipeline.regions.captioner.__doc__ or "").split("\n\n", 1)[1]
    exec(compile(code, "captioner", "exec"), {})
    assert capsys.readouterr().out.count("\n") > code.count("print(")
