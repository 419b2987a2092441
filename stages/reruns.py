"""What re-runs when something changes, and the graph of the stages: dvc.yaml and params.yaml as Markdown.

No DVC stage. `--write` puts both where docs/architecture.md has them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import click

from pipeline.errors import PipelineError
from stages.console import with_sentences

PAGE = Path("docs/architecture.md")
_COMMAND = "python -m stages.reruns --write"
_CODE = ("pipeline/", "stages/")

Flow = dict[str, dict[str, Any]]


@click.command()
@click.option("--write", is_flag=True, help=f"Put them into {PAGE} instead.")
@with_sentences
def main(write: bool) -> None:
    """Print which stages run when a parameter, a file or a module changes, and the stages' graph.

    \b
    Example: python -m stages.reruns
    Example: python -m stages.reruns --write
    """
    from pipeline.files.json_files import write_atomic

    flow, params = _read(Path("dvc.yaml"))["stages"], _read(Path("params.yaml"))
    if write:
        text = with_generated(PAGE.read_text(encoding="utf-8"), flow, params)
        write_atomic(PAGE, text.encode())
    else:
        click.echo(f"{stage_graph(flow)}\n{rerun_table(flow, params)}", nl=False)


def with_generated(page: str, flow: Flow, params: dict[str, Any]) -> str:
    """A page with graph and table in their places, whatever stands there.

    Raises PipelineError for a page that lacks the comments around them.
    """
    for name, content in (("graph", stage_graph(flow)), ("reruns", rerun_table(flow, params))):
        start, end = f"<!-- {name}: {_COMMAND} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise PipelineError(f"{PAGE} lacks the comments around its {name}: {start.strip()} and {end}.")
        page = f"{before}{start}\n{content}\n{end}{after}"
    return page


def stage_graph(flow: Flow) -> str:
    """Which stage hands which files to which, as a Mermaid flowchart."""
    lines = ["```mermaid", "flowchart LR", "  dataset[(dataset)] --> prepare"]
    for giver, of in flow.items():
        for taker, to in flow.items():
            files = sorted(_paths(of["outs"]) & _paths(to["deps"]))
            if files:
                lines.append(f'  {giver} -->|"{", ".join(Path(file).name for file in files)}"| {taker}')
    return "\n".join([*lines, "```", ""])


def rerun_table(flow: Flow, params: dict[str, Any]) -> str:
    """For each parameter, the dataset and each module: the stages that run, and those that may follow."""
    lines = ["| what changes | runs | then, where what they read is other than before |", "|---|---|---|"]
    for key, stages in _by_parameter(flow, params):
        lines.append(_row(f"`{key}`", stages, flow))
    dataset = [name for name, stage in flow.items() if any(d.startswith("${") for d in _paths(stage["deps"]))]
    lines.append(_row("the files of the dataset (`data.root`)", dataset, flow))
    for stages, modules in _by_module(flow):
        lines.append(_row(", ".join(f"`{module}`" for module in modules), stages, flow))
    return "\n".join([*lines, ""])


def _by_parameter(flow: Flow, params: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """Sections of the parameters, or keys of one where stages track single ones, with their stages."""
    for section, values in params.items():
        single = any(key.startswith(f"{section}.") for stage in flow.values() for key in stage["params"])
        for key in [f"{section}.{name}" for name in values] if single else [section]:
            yield key, [name for name, stage in flow.items() if {section, key} & set(stage["params"])]


def _by_module(flow: Flow) -> list[tuple[list[str], list[str]]]:
    """Modules by the stages whose code they are part of: those of few stages first."""
    stages_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, stage in flow.items():
        for path in _paths(stage["deps"]):
            if path.startswith(_CODE):
                stages_of[path].append(name)
    modules_of: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, stages in sorted(stages_of.items()):
        modules_of[tuple(stages)].append(path)
    order = list(flow)
    by_stage = sorted(modules_of.items(), key=lambda item: (len(item[0]), [order.index(s) for s in item[0]]))
    return [(list(stages), modules) for stages, modules in by_stage]


def with_followers(flow: Flow, changed: Collection[str]) -> list[str]:
    """The changed stages, those that read what they write, and so on, in the order of the file."""
    waiting: list[str] = []
    written: set[str] = set()
    for name, stage in flow.items():
        if name in changed or written & _paths(stage.get("deps", [])):
            waiting.append(name)
            written |= _paths(stage.get("outs", []))
    return waiting


def _row(change: str, stages: list[str], flow: Flow) -> str:
    following = [name for name in with_followers(flow, stages) if name not in stages]
    return f"| {change} | {', '.join(stages) or 'nothing'} | {', '.join(following)} |"


def _paths(entries: list[Any]) -> set[str]:
    """The paths of deps or outs, which may carry options."""
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    if not path.is_file():
        raise PipelineError(f"{path} does not exist; run from the project's root.")
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    main()
