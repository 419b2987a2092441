"""docs/flickr8k.md explains every sentence with which downloading and the choice of a GPU can fail."""

import ast
import re

import pytest

from tests.import_closure import ROOT

MODULES = (
    "hardware/device",
    "files/disk_errors",
    "vision/encoder",
    "vision/transformers_encoder",
    "pretrained/hub",
    "datasets/hub_dataset",
    "model/language_model",
    "model/probe",
    "pretrained/pretrained",
    "text/prompt",
    "training/trainer",
)
PAGE = ROOT / "docs" / "flickr8k.md"
# What a user of the real run does not meet: a language model of another kind, a local folder's files.
ELSEWHERE = {
    "{} cannot be used as a causal language model: {}",
    "{} holds no tokenizer; expected tokenizer.json or vocabulary files.",
    "{} holds no .safetensors weights; other formats are not read.",
    "{} {}; {}",
    "{}",  # handed on from where it was written
}


def sentences(module: str) -> list[str]:
    """What a module's PipelineErrors say, with {} for what is filled in."""
    tree = ast.parse((ROOT / "pipeline" / f"{module}.py").read_text(encoding="utf-8"))
    said = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "PipelineError":
            said.append(spelt(node.args[0]))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith(
            ("_explain", "_unreachable", "no_safetensors")
        ):
            said += [spelt(n.value) for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
    return said


def spelt(node: ast.expr) -> str:
    """The text of an expression of strings."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(spelt(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return spelt(node.left) + spelt(node.right)
    if isinstance(node, ast.IfExp):
        return spelt(node.body)
    return "{}"


SENTENCES = sorted({sentence for module in MODULES for sentence in sentences(module)} - ELSEWHERE)


def fragments() -> list[str]:
    """The first column of the table."""
    table = PAGE.read_text(encoding="utf-8").split("| it says | because | do |\n")[1].split("\n\n")[0]
    return re.findall(r"^\| `(.+?)` \|", table, re.M)


def test_there_are_sentences_and_rows() -> None:
    assert len(SENTENCES) > 25
    assert len(fragments()) > 20


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_has_its_row(sentence: str) -> None:
    assert any(fragment in sentence for fragment in fragments())


@pytest.mark.parametrize("fragment", fragments())
def test_every_row_quotes_a_sentence(fragment: str) -> None:
    assert any(fragment in sentence for sentence in SENTENCES)
