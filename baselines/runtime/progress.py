"""Progress and remaining time, on standard error: bars on a terminal, else occasional lines.

The first line comes after ten seconds; later ones are at least thirty seconds apart, and become
rarer with time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from semid.distributed import distributed_state

_running: list[Progress] = []  # one display for all bars; nested work adds a line to it


class _Lines:
    """Schedule of the progress lines, if any are wanted."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self._began = time.monotonic()
        self._due = self._began + 10

    def is_due(self) -> bool:
        """Whether a line is due; if so, schedules the next one."""
        now = time.monotonic()
        if not self.wanted or now < self._due:
            return False
        self._due = now + min(max(30, (now - self._began) / 10), 600)
        return True


_lines = _Lines()


def begin(*, quiet: bool = False) -> None:
    """Start a command, and its clock.

    Args:
        quiet: Whether to show no progress at all.
    """
    global _lines
    _lines = _Lines(wanted=not quiet)


class Tracker:
    """Handle of one progress bar."""

    def __init__(self, progress: Progress, total: int, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def advance(self, steps: int) -> None:
        """Count ``steps`` as done."""
        self._progress.advance(self._task, steps)
        if self._progress.disable and _lines.is_due() and distributed_state().is_main_process:
            _write(_line(self._progress, self._task))

    def note(self, text: str) -> None:
        """Show ``text`` beside the bar."""
        self._progress.update(self._task, note=text)

    def resize(self, total: int) -> None:
        """Change the number of steps."""
        self._progress.update(self._task, total=total)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.remove_task(self._task)


@contextmanager
def track(title: str, total: int) -> Iterator[Tracker]:
    """Show progress and remaining time while the body runs: a bar, or lines without a terminal."""
    if _running:
        tracker = Tracker(_running[0], total, title)
        try:
            yield tracker
        finally:
            tracker.close()
        return
    is_shown = _lines.wanted and sys.stderr.isatty() and distributed_state().is_main_process
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not is_shown,
        get_time=lambda: time.monotonic(),
    ) as progress:
        _running.append(progress)
        try:
            yield Tracker(progress, total, title)
        finally:
            _running.clear()


@contextmanager
def track_epochs(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A progress bar as a callback for schemes that train by epoch (``on_epoch`` of ``RQVAE``)."""
    with track(title, 1) as tracker:

        def show(entry: dict[str, Any]) -> None:
            tracker.resize(int(entry["epochs"]))
            tracker.advance(1)
            used = " ".join(f"{share:.0%}" for share in entry["utilisation"])
            tracker.note(f"codes used {used}")

        yield show


def _line(progress: Progress, own: TaskID) -> str:
    """A line like ``SASRec ce, seed 0: 120 of 800 (15%), 4.1/s, 0:02:46 left, validation 0.03``."""
    tasks = {task.id: task for task in progress.tasks}
    title = ", ".join(task.description for task in tasks.values() if task.id <= own)
    task = tasks[own]
    parts = [f"{task.completed:.0f} of {task.total:.0f} ({task.percentage:.0f}%)"]
    if task.speed is not None and task.time_remaining is not None:
        left = timedelta(seconds=round(task.time_remaining))
        rate = f"{task.speed:,.0f}" if task.speed >= 10 else f"{task.speed:.2g}"
        parts += [f"{rate}/s", f"{left} left"]
    if task.fields["note"]:
        parts.append(task.fields["note"])
    return f"{title}: {', '.join(parts)}"


def _write(line: str) -> None:
    Console(stderr=True).print(line, soft_wrap=True, markup=False, highlight=False)
