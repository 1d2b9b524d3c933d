import io
import sys
import time

import pytest

from baselines.runtime import progress
from baselines.runtime.progress import track, track_epochs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    progress.begin()
    return found


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by a test, not a fixture: pytest puts its own stream in place between the two."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", stream)
    progress.begin()
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


def test_a_quiet_command_shows_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    progress.begin(quiet=True)
    with track("work", 1) as tracker:
        tracker.advance(1)
    assert stream.getvalue() == ""


def test_without_a_terminal_short_work_shows_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("work", 100) as tracker:
        for _ in range(9):
            clock.now += 1
            tracker.advance(1)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_a_line_comes_at_times_with_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("SASRec ce, seed 0", 1000) as tracker:
        tracker.note("validation 0.0312")
        for _ in range(100):
            clock.now += 1
            tracker.advance(2)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4, "after 10, 40, 70 and 100 seconds"
    assert told[0] == ("SASRec ce, seed 0: 20 of 1000 (2%), 2/s, 0:08:10 left, validation 0.0312")
    assert told[-1].startswith("SASRec ce, seed 0: 200 of 1000 (20%), 2/s, 0:06:40 left")


def test_lines_come_less_often_the_longer_a_command_takes(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    gaps, last = [], clock.now
    with track("work", 10**6) as tracker:
        for _ in range(3 * 3600):
            clock.now += 1
            tracker.advance(1)
            if capsys.readouterr().err:
                gaps.append(clock.now - last)
                last = clock.now
    assert gaps == sorted(gaps)
    assert gaps[:3] == [10, 30, 30]
    assert gaps[-1] == 600


def test_many_short_works_in_a_row_are_reported_too(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        with track("all", 1), track(f"part {number}", 2) as tracker:
            for _ in range(2):
                clock.now += 1
                tracker.advance(1)
    assert capsys.readouterr().err.startswith("all, part 4: 2 of 2 (100%)")


def test_a_quiet_command_writes_no_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress.begin(quiet=True)
    with track("work", 100) as tracker:
        clock.now += 50
        tracker.advance(1)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_a_resume_does_not_count_in_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("work", 1000) as tracker:
        tracker.advance(500)
        for _ in range(10):
            clock.now += 1
            tracker.advance(1)
    assert capsys.readouterr().err == "work: 510 of 1000 (51%), 1/s, 0:08:10 left\n"
