"""One thing that `vlm doctor` found out."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """A fact about a topic on one line; what is not ok comes with the command or step that mends it."""

    level: Level
    topic: str
    text: str
    remedy: str | None = None

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.topic}: {self.text}"
        return " ".join((f"{line} -> {self.remedy}" if self.remedy else line).split("\n"))
