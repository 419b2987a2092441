"""Progress: a bar on a terminal, else lines in the log."""

import io
import re
import sys

import pytest

from pipeline.hardware import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run() -> None:
    with progress.bar("epoch 1", "texts", 100, initial=40) as bar:
        for _ in range(3):
            bar.set_postfix(loss="2.345", refresh=False)
            bar.update(20)


def test_a_log_has_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    run()
    assert not log.messages  # it took no minute
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e-9)
    run()
    line = r"epoch 1: (60|80|100) of 100, [\d.]+ texts/s, loss=2.345, \d\d:\d\d left"
    assert len(log.messages) >= 3
    assert [message for message in log.messages if not re.fullmatch(line, message)] == []
    assert not pipe.getvalue()


def test_a_terminal_shows_a_bar_and_a_hidden_bar_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar("epoch 1", "texts", 100, hidden=True) as bar:
        bar.update(100)
    assert not terminal.getvalue()
    run()
    assert "texts/s" in terminal.getvalue()
