import io
import sys

import pytest

from baselines.runtime.progress import track, track_epochs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by a test, not a fixture: pytest puts its own stream in place between the two."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_work_inside_work_shares_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with track("outer", 1) as outer, track("inner", 2) as inner:
        inner.advance(2)
        outer.advance(1)
        outer.note("nearly done")
    shown = stream.getvalue()
    assert "outer" in shown
    assert "inner" in shown
    assert "nearly done" in shown


def test_a_display_ends_with_the_work_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with pytest.raises(RuntimeError), track("outer", 1), track("inner", 1):
        raise RuntimeError
    with track("again", 1) as tracker:
        tracker.advance(1)
    assert "again" in stream.getvalue()


def test_epochs_of_a_fit_are_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with track_epochs("ids") as show:
        show({"epochs": 2, "utilisation": [0.5, 1.0]})
        show({"epochs": 2, "utilisation": [0.75, 1.0]})
    assert "2/2" in stream.getvalue()
    assert "75% 100%" in stream.getvalue()


def test_nothing_is_shown_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with track("work", 1) as tracker:
        tracker.advance(1)
    assert capsys.readouterr().err == ""
