"""Examples of helps and pages are run as they stand, in a project with tiny models.

Run: .venv/bin/python -m pytest tests/e2e/test_examples.py
"""

import json
import re
import shlex
import shutil
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

import pipeline.regions.captioner
from pipeline.captions import SPLITS
from pipeline.files.json_files import write_jsonl
from pipeline.params.schema import Params
from tests.command_lines import VLM
from tests.e2e.conftest import Project, make_project
from tests.import_closure import ROOT
from tests.pages import python_blocks
from tests.pictures import noise
from tests.tiny_captioner import save_scores
from vlm.app.serve import listen
from vlm.main import main

HELPS = "\n".join(command.help or "" for command in VLM.values())
EXAMPLES = sorted(set(re.findall(r"^ *Example[^:]*: vlm (.*)$", HELPS, re.M)))
PYTHON = {page: python_blocks(ROOT / page)[0] for page in ("README.md", "docs/regions.md")} | {
    "help(pipeline.regions.captioner)": (pipeline.regions.captioner.__doc__ or "").split("\n\n", 1)[1]
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params, tiny_checkpoint: Path) -> Project:
    """What examples need of a run, and photographs next to it."""
    project = make_project(tmp_path_factory.mktemp("examples") / "project", tiny_params)
    folder = project.folder
    project.stage("prepare")
    project.stage("encode")
    shutil.copy(tiny_checkpoint, folder / "data")
    rows = [json.loads(line) for line in (folder / "data/captions.jsonl").read_text().splitlines()]
    test = [row for row in rows if row["split"] == "test"]
    captions = [{"image_id": row["image_id"], "caption": row["captions"][0]} for row in test]
    write_jsonl(folder / "data/predictions/epoch_001_test.jsonl", captions)
    save_scores(folder / "metrics/evaluate.json")
    (folder / "photos").mkdir()
    photos = [{"image": f"{split}.jpg", "split": split, "captions": ["a dog runs"]} for split in SPLITS]
    for seed, split in enumerate(SPLITS):
        noise(7, 5, seed).resize((400, 300)).save(folder / "photos" / f"{split}.jpg")
    write_jsonl(folder / "photos/captions.jsonl", photos)
    shutil.copy(folder / "photos" / "test.jpg", folder / "photo.jpg")
    return project


@pytest.fixture(autouse=True)
def here(trained: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is the current folder."""
    for name, value in trained.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(trained.folder)


class StoppedServer:
    """A web server that is told to stop as soon as it listens."""

    def run(self, sockets: list[socket.socket]) -> None:
        assert [listening.getsockname()[0] for listening in sockets] == ["127.0.0.1"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_of_a_help_runs(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The port of the example may be in use here.
    monkeypatch.setattr("vlm.app.serve.listen", lambda host, _port: listen(host, 0))
    monkeypatch.setattr("vlm.app.serve.make_server", lambda _application: StoppedServer())
    result = CliRunner().invoke(main, shlex.split(example), prog_name="vlm")
    assert result.exit_code == 0, result.output
    assert result.output.strip()


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = PYTHON[page]
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.count("\n") > code.count("print(")  # one of them is in a loop
