"""The project's pages: their fenced blocks, shell commands, links and words in code font."""

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.import_closure import ROOT

_SHELL = ("bash", "sh", "shell")
_SEPARATORS = frozenset({"|", "||", "&", "&&", ";", "(", ")"})
_HERE = re.compile(r"<<-?\s*['\"]?(\w+)")
_REDIRECTIONS = frozenset({"<", ">", ">>", "<<", ">&", "&>"})


@dataclass(frozen=True)
class Block:
    """A fenced block: `page:line`, the words behind its fence, and what it holds."""

    place: str
    info: str
    content: str

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]


def pages() -> list[Path]:
    """All pages that a user reads."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page; of a notebook its cells of code."""
    name = relative(page)
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        sources = [("".join(cell["source"]), number) for number, cell in enumerate(cells, start=1)]
        kinds = [cell["cell_type"] for cell in cells]
        return [
            Block(f"{name}: cell {number}", "python", source)
            for (source, number), kind in zip(sources, kinds, strict=True)
            if kind == "code"
        ]
    fences = [token for token in _tokens(page) if token.type == "fence"]
    return [Block(f"{name}:{(t.map or [0])[0] + 1}", t.info.strip(), t.content) for t in fences]


def all_blocks() -> list[Block]:
    """The blocks of all pages and notebooks."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return [block for page in [*pages(), *notebooks] for block in blocks_of(page)]


def links_of(page: Path) -> list[str]:
    """What a page's links and images lead to."""
    attributes = ("href", "src")
    found = [token.attrs.get(name) for token in _inline(page) for name in attributes]
    return [str(target) for target in found if target]


def code_spans_of(page: Path) -> list[str]:
    """The words of a page that stand in code font, outside of blocks."""
    return [token.content for token in _inline(page) if token.type == "code_inline"]


def anchors_of(page: Path) -> set[str]:
    """What `page.md#...` may say: the headings, as GitHub spells them."""
    tokens = _tokens(page)
    titles = [b.content for a, b in itertools.pairwise(tokens) if a.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands_in(block: Block) -> list[list[str]]:
    """The words of each simple command of a block: of consoles, shell scripts and notebooks' `!` lines."""
    if block.language == "console":
        lines = _logical_lines(block.content, "$ ")
    elif block.language in _SHELL:
        lines = _logical_lines(block.content)
    elif block.content.startswith("%%bash"):
        lines = _logical_lines(block.content.partition("\n")[2])
    elif block.language == "python":
        lines = _logical_lines(block.content, "!")
    else:
        return []
    return [words for line in lines for words in simple_commands(line)]


def code_of(block: Block) -> str:
    """The Python of a block, without a notebook's own lines (`!`, `%`)."""
    if block.content.startswith("%%bash"):
        return ""
    return "\n".join(line for line in block.content.splitlines() if not line.lstrip().startswith(("!", "%")))


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands that a line of shell is made of, without assignments, redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter(lexer)
    for token in tokens:
        if token in _SEPARATORS:
            yield from [words] if words else []
            words = []
        elif token in _REDIRECTIONS:
            next(tokens, None)
            if words and words[-1].isdigit():
                words.pop()
        elif words or not re.match(r"[A-Za-z_]+=", token):
            words.append(token)
    yield from [words] if words else []


def _logical_lines(text: str, mark: str = "") -> Iterator[str]:
    """Lines that begin with a mark, without it and with the lines that continue them."""
    waiting = ""
    for line in text.splitlines():
        if waiting:
            waiting = f"{waiting}\n{line}"
        elif line.startswith(mark):
            waiting = line.removeprefix(mark)
        if waiting and _is_complete(waiting):
            yield waiting.split("\n")[0] if _HERE.search(waiting) else waiting.replace("\\\n", " ")
            waiting = ""
    assert not waiting, f"unfinished: {waiting}"


def _is_complete(text: str) -> bool:
    document = _HERE.search(text)
    if document:
        return text.splitlines()[-1].strip() == document[1]
    if text.endswith(("\\", "|", "&&")):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quotation mark is still open
        return False
    return True


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _inline(page: Path) -> list[Token]:
    return [child for token in _tokens(page) for child in token.children or []]
