"""What a GPU has to show, in one command: the most valuable measurements first, as many as the time allows.

Each part is a separate program, and each result is in the file as soon as it is there: a program that
fails, or a machine that is taken away, costs one part.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import calculated, common
from benchmarks.common import benchmark
from pipeline.hardware.device import choose_placement
from pipeline.model.packing import pack
from pipeline.training.cost import peak_memory


def parts(device: str, tiny: bool, work: Path) -> dict[str, list[str]]:
    """The command of each part, the most valuable first."""

    def module(name: str, large: str, small: str) -> list[str]:
        return ["-m", f"benchmarks.{name}", "--device", device, *(small if tiny else large).split()]

    few = "--model tiny --images 8 --rounds 1 --steps 1 --peer 2 --batch 2"
    once = "--model llama --images 320 --rounds 1 --steps 12"
    return {
        "tests": ["-m", "pytest", "-q", "tests/cuda"],
        "training": module("training", f"{once} --peer 16 --peer 40 --batch 8 --batch 32 --eager", few),
        "training in 8 GiB": module("training", f"{once} --gib 8 --peer 4 --peer 16 --batch 8", few),
        "generation": module("generation", "--images 256 --batch-size 256", "--tiny --images 4 --beams 1"),
        "encoding": module("encoding", "--images 512 --rounds 3", "--images 2 --rounds 1"),
        "profiles": module("gpu", "--profiles", "--profiles --tiny"),
        "run": module("rehearsal", f"--work {work}/run", f"--work {work}/run --tiny --images 8"),
    }


@benchmark
@click.option("--minutes", default=9.0, help="What is not reached by then is left out.")
@click.option("--device", default="cuda")
@click.option("--tiny", is_flag=True, help="Tiny models: tries all parts and measures nothing.")
@click.option("--results", default="gpu.jsonl", type=click.Path(path_type=Path))
@click.option("--profiles", is_flag=True, help="The part of the profiles alone.")
def main(minutes: float, device: str, tiny: bool, results: Path, profiles: bool) -> None:
    """Measure everything on this machine's GPU, the most valuable first.

    \b
    Example: python -m benchmarks.gpu --minutes 9
    Example: python -m benchmarks.gpu --device cpu --tiny
    """
    placement = choose_placement(device)
    with tempfile.TemporaryDirectory() as folder:
        if profiles:
            names, llama = calculated.PROFILES, common.save_models(Path(folder), placement.device, tiny)[1]
            rows = [common.in_a_process(measured_profile, name, llama, device) for name in names]
            common.print_rows(rows, placement)
            return
        deadline = time.monotonic() + 60 * minutes
        results.write_text("", encoding="utf-8")
        os.environ[common.RESULTS] = str(results.resolve())
        for part, words in parts(device, tiny, Path(folder)).items():
            os.environ[common.PART] = part
            start = time.monotonic()
            outcome = _run(words, deadline - start)
            common.record({"outcome": outcome, "seconds": time.monotonic() - start})
            click.echo(f"{part}: {outcome} after {time.monotonic() - start:.0f} s", err=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    failed = any(row.get("outcome") == "failed" for row in rows)
    click.echo(summary(rows))
    sys.exit(failed)


def _run(words: list[str], seconds: float) -> str:
    """Run a part with the time that is left, and say how it ended."""
    if seconds <= 0:
        return "not reached"
    # A new group: what the part started ends with it.
    process = subprocess.Popen([sys.executable, *words], stdout=sys.stderr, process_group=0)
    try:
        return "failed" if process.wait(seconds) else "finished"
    except subprocess.TimeoutExpired:
        return "stopped"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)


def summary(rows: list[dict[str, Any]]) -> str:
    """All results in a table, and the parts that did not finish."""
    missing = [row["part"] for row in rows if row.get("outcome", "finished") != "finished"]
    lines = [
        {"part": row.pop("part"), "result": ", ".join(f"{k} {common.cell(v)}" for k, v in row.items())}
        for row in rows
    ]
    ending = f"not finished: {', '.join(missing)}" if missing else "everything was reached"
    return f"{common.table(lines)}\n{ending}"


def measured_profile(name: str, llama: Path, device: str) -> dict[str, Any]:
    """The peak and the time of a step of a profile with the longest images, in the memory of its card."""
    params, card = common.profile(name), calculated.PROFILES[name]
    placement = common.Task(llama, str(llama), device, calculated.ALLOWED * card).placement()
    patches, width = common.ENCODERS[params.encoder.name][:2]
    model = common.random_captioner(params, llama, width, placement).train()
    if params.train.gradient_checkpointing:
        model.language_model.checkpoint_layers()
    rows = [[[3] * length for length in calculated.captions_of_a_row(params)]] * params.train.batch_size
    batch = pack(rows, model.prompt.prefix_length(patches)).to(placement.device)
    features = torch.randn(len(rows), patches, width, device=placement.device)
    optimizer = torch.optim.AdamW(model.trainable_parameters())
    for _ in range(3):
        start = time.perf_counter()
        (model.loss(features, batch) / len(batch.labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        peak = peak_memory(placement) / 1e9  # waits for nothing
        if placement.device.type == "cuda":
            torch.cuda.synchronize()
    return {"profile": name, "GB": peak, "card GB": card, "s a step": time.perf_counter() - start}


if __name__ == "__main__":
    main()
