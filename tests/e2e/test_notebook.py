"""notebooks/quickstart.ipynb, run as it is on a smaller sample: `pytest tests/e2e/test_notebook.py`.

Its cells are not touched. What the settings leave empty they take from the environment: here a repository
made of this checkout, and parameters of a run that takes a minute. The repository brings its environment, so
that `make install` has nothing to do.
"""

import json
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from pipeline.params.loader import load_params
from tests.e2e.conftest import make_project
from tests.import_closure import ROOT
from tests.params_files import with_changes

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
_IDENTITY = ("GIT_AUTHOR", "GIT_COMMITTER")
OVERRIDES = (
    "data.scenes.train=12",
    "data.scenes.dev=2",
    "data.scenes.test=3",
    "train.epochs=1",
    "generate.max_new_tokens=8",
    "regions.images=1",
)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The notebook after all its cells have been run in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    sample = load_params(ROOT / "profiles" / "sample.yaml")
    project = make_project(folder / "repository", with_changes(sample, runtime={"device": "cpu"}))
    (project.folder / ".venv").symlink_to(sys.prefix)
    project.commit("an environment")
    (folder / "content").mkdir()
    # A fresh machine does not know who its user is.
    environment = {key: value for key, value in project.environment.items() if not key.startswith(_IDENTITY)}
    environment |= {
        "QUICKSTART_REPOSITORY": str(project.folder),
        "QUICKSTART_OVERRIDES": " ".join(f"-S {override}" for override in OVERRIDES),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder / "content")}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "jupyter"))
        return client.execute(env=environment)


def output_of(notebook: NotebookNode, cell_id: str) -> str:
    """What a cell printed on stdout."""
    cell = next(cell for cell in notebook.cells if cell.id == cell_id)
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def test_the_sample_is_trained_scored_and_asked(executed: NotebookNode) -> None:
    assert "Running stage 'report'" in output_of(executed, "train")
    summary = output_of(executed, "summary")
    for words in ("Best epoch: 1", "Test scores (3 images)", "one caption for all"):
        assert words in summary
    assert len(output_of(executed, "caption").splitlines()) == 1
    lines = output_of(executed, "ask").splitlines()
    assert [line.split(":")[0] for line in lines] == ["left", "right", "top-right"]
    for name in ("photo", "crop"):
        (cell,) = (cell for cell in executed.cells if cell.id == name)
        assert any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_the_notebook_is_committed_without_results_and_its_links_lead_somewhere() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    links = re.findall(r"\]\(([^)]+)\)", NOTEBOOK.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
    settings = "".join(next(cell for cell in notebook["cells"] if cell["id"] == "settings")["source"])
    assert re.findall(r'^[A-Z]+ = "(.*)"  # @param', settings, re.M) == ["", "", ""]
