"""The encode stage on Ray: it starts a cluster where none runs, and names one that does not answer.

Run: make test-ray
"""

import pytest

from pipeline.params.schema import Params
from tests.e2e.conftest import Project
from tests.params_files import with_changes, write_params

pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` installs it")


@pytest.fixture
def ray_params(tiny_params: Params) -> Params:
    return with_changes(tiny_params, runtime={"encode_engine": "ray"})


def test_the_stage_starts_a_cluster_where_there_is_none(project: Project, ray_params: Params) -> None:
    project.stage("prepare")
    project.stage("encode")
    store = project.folder / "data" / "features.h5"
    local = store.read_bytes()
    store.unlink()
    (project.folder / ".scratch").rename(project.folder / "aside")
    write_params(project.folder / "params.yaml", ray_params)
    assert "26 of 26 images encoded now" in project.stage("encode")
    assert store.read_bytes() == local


def test_a_cluster_that_does_not_answer_is_told_at_once(project: Project, ray_params: Params) -> None:
    write_params(project.folder / "params.yaml", ray_params)
    project.stage("prepare")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        project.environment["RAY_ADDRESS"] = address
        assert address in project.stage("encode", code=1)
