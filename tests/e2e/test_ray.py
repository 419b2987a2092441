"""The encode stage on Ray: it starts a cluster where there is none, and tells of one that does not answer.

Run: make test-ray
"""

from dataclasses import replace

import pytest

from pipeline.params.schema import Params
from tests.e2e.conftest import Project

pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` installs it")


@pytest.fixture
def ray_params(tiny_params: Params) -> Params:
    return replace(tiny_params, runtime=replace(tiny_params.runtime, encode_engine="ray"))


def test_the_stage_starts_a_cluster_where_there_is_none(project: Project, ray_params: Params) -> None:
    project.stage("prepare")
    project.stage("encode")
    store = project.folder / "data" / "features.h5"
    local = store.read_bytes()
    store.unlink()
    (project.folder / ".scratch").rename(project.folder / "aside")
    project.write_params(ray_params)
    assert "26 of 26 images encoded now" in project.stage("encode")
    assert store.read_bytes() == local


def test_a_cluster_that_does_not_answer_is_told_at_once(project: Project, ray_params: Params) -> None:
    project.write_params(ray_params)
    project.stage("prepare")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        project.environment["RAY_ADDRESS"] = address
        said = project.stage("encode", code=1)
        assert f"No Ray cluster answers at {address} ([Errno 111] Connection refused). Fix: check" in said
