"""Encoding on Ray, as far as no cluster is needed; test_ray_cluster.py has the rest.

Run: .venv/bin/python -m pytest tests/unit/cluster/test_ray_engine.py
"""

import socket
import sys
from pathlib import Path

import pytest

from pipeline.cluster.ray_engine import Pool, encode_with_ray, plan_pool, require_equal_machines
from pipeline.errors import PipelineError
from pipeline.params.schema import Params
from tests.pictures import Pictures
from tests.refusals import refusal


@pytest.mark.parametrize(
    ("resources", "device", "threads", "pool"),
    [
        ({"CPU": 8.0}, "cpu", 2, Pool(actors=4, device="cpu", threads=2)),
        ({"CPU": 2.0}, "auto", 4, Pool(actors=1, device="cpu", threads=4)),
        ({"CPU": 64.0, "GPU": 8.0}, "cuda:1", 16, Pool(actors=8, device="cuda", threads=16)),
        ({"CPU": 64.0, "GPU": 8.0}, "cpu", 16, Pool(actors=4, device="cpu", threads=16)),
    ],
)
def test_there_is_an_actor_for_each_gpu_or_for_each_process_worth_of_cores(
    resources: dict[str, float], device: str, threads: int, pool: Pool
) -> None:
    assert plan_pool(resources, device, threads) == pool


def test_a_cluster_without_the_gpus_asked_for_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"runtime\.device is cuda, but the Ray cluster has no GPU"):
        plan_pool({"CPU": 8.0}, "cuda", 1)


def test_without_ray_the_sentence_says_how_to_install_it(
    tmp_path: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PipelineError, match=r"runtime\.encode_engine is ray, .*make ray"):
        Pictures(tmp_path, tiny_params, 1).encode(engine=encode_with_ray)


def test_the_machine_and_the_library_are_named_that_are_not_those_of_the_run() -> None:
    """Versions and code were not compared, and any other fact was message to be the weights."""
    wanted = {"encoder": {"layer": -2}, "code": {"vision/load.py": "a"}, "libraries": {"torch": "2.9.1"}}
    require_equal_machines(wanted, wanted)
    for room, name, value, expected in [
        ("libraries", "torch", "2.8.0", "2.9.1"),
        ("encoder", "layer", -1, -2),
        ("code", "vision/load.py", "b", "a"),
    ]:
        message = rf"{socket.gethostname()}.* {room}.{name} is {value}, expected {expected}"
        refusal(require_equal_machines, {**wanted, room: {name: value}}, wanted, match=message)
