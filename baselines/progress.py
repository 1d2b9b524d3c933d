"""Progress and time left for long work, on standard error and only where a person looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Tracker:
    """Handle of one progress bar."""

    def __init__(self, progress: Progress, total: int, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def advance(self, steps: int) -> None:
        """Count ``steps`` as done."""
        self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        """Show ``text`` beside the bar."""
        self._progress.update(self._task, note=text)


@contextmanager
def track(title: str, total: int) -> Iterator[Tracker]:
    """Show a progress bar with the time left while the body runs; silent without a terminal."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        yield Tracker(progress, total, title)
