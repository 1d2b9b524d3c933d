"""Progress and time left for long work, on standard error and only where a person looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from baselines.runtime.distributed import processes

_running: list[Progress] = []  # one display for all bars: work inside work adds a line to it


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

    def resize(self, total: int) -> None:
        """Change the number of steps."""
        self._progress.update(self._task, total=total)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.remove_task(self._task)


@contextmanager
def track(title: str, total: int) -> Iterator[Tracker]:
    """Show a progress bar with the time left while the body runs; silent without a terminal."""
    if _running:
        tracker = Tracker(_running[0], total, title)
        try:
            yield tracker
        finally:
            tracker.close()
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not (sys.stderr.isatty() and processes().is_main_process),
    ) as progress:
        _running.append(progress)
        try:
            yield Tracker(progress, total, title)
        finally:
            _running.clear()


@contextmanager
def track_epochs(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A callback for schemes that train by epochs (``on_epoch`` of ``RQVAE``), as a bar."""
    with track(title, 1) as tracker:

        def show(entry: dict[str, Any]) -> None:
            tracker.resize(int(entry["epochs"]))
            tracker.advance(1)
            used = " ".join(f"{share:.0%}" for share in entry["utilisation"])
            tracker.note(f"codes used {used}")

        yield show
