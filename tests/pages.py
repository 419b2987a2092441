"""The project's pages: their fenced blocks, shell commands, links and words in code font."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.import_closure import ROOT

_SEPARATORS = frozenset({"|", "||", "&", "&&", ";", "(", ")"})
_REDIRECTIONS = frozenset({"<", ">", ">>", ">&", "&>"})


class Block(NamedTuple):
    """A fenced block: `page:line`, its language, and what it holds."""

    place: str
    language: str
    content: str


def pages() -> list[Path]:
    """All pages that a user reads."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(f"{relative(page)}:{(t.map or [0])[0] + 1}", t.info.partition(" ")[0], t.content)
        for t in _tokens(page)
        if t.type == "fence"
    ]


def links_of(page: Path) -> list[str]:
    """What a page's links and images lead to."""
    targets = [token.attrs.get(name) for token in _inline(page) for name in ("href", "src")]
    return [str(target) for target in targets if target]


def code_spans_of(page: Path) -> list[str]:
    """The words of a page that stand in code font, outside of blocks."""
    return [token.content for token in _inline(page) if token.type == "code_inline"]


def anchors_of(page: Path) -> set[str]:
    """What `page.md#...` may say: the headings, as GitHub spells them."""
    titles = [b.content for a, b in itertools.pairwise(_tokens(page)) if a.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def python_blocks(page: Path) -> list[str]:
    return [token.content for token in _tokens(page) if token.type == "fence" and token.info == "python"]


def table_rows(page: Path, header: str) -> list[list[str]]:
    """The cells of each row of the table with that header."""
    table = page.read_text(encoding="utf-8").split(f"{header}\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[1:]]


def commands_in(block: Block) -> list[list[str]]:
    """The words of each simple command of a console: lines that begin with `$`, and their continuations."""
    commands: list[list[str]] = []
    waiting = ""
    for line in block.content.splitlines() if block.language == "console" else ():
        if waiting:
            waiting += f"\n{line}"
        elif line.startswith("$ "):
            waiting = line.removeprefix("$ ")
        if waiting and _is_complete(waiting):
            commands += simple_commands(waiting.replace("\\\n", " "))
            waiting = ""
    assert not waiting, f"{block.place} is unfinished: {waiting}"
    return commands


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands that a line of shell is made of, without assignments, redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in lexer:
        if token in _SEPARATORS:
            yield from [words] if words else []
            words = []
        elif token in _REDIRECTIONS:
            next(lexer, None)
            words = words[:-1] if words and words[-1].isdigit() else words
        elif words or not re.match(r"[A-Za-z_]+=", token):
            words.append(token)
    yield from [words] if words else []


def _is_complete(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quotation mark is still open
        return False
    return not text.endswith(("\\", "|", "&&"))


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _inline(page: Path) -> list[Token]:
    return [child for token in _tokens(page) for child in token.children or []]
