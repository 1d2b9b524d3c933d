"""Console messages of a running command: notices about its data, and progress."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

QUIET = "--quiet"
"""The option, common to all commands, that turns off progress."""


class CommandConsole(Console):
    """The console of a command, which leaves it to the command what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        """Raise ``BrokenPipeError``, as a plain print does."""
        raise BrokenPipeError


def figures_table(title: str, first: str, figures: Iterable[str]) -> Table:
    """A table of figures without rows, whose first column is not broken."""
    from rich.box import SIMPLE_HEAD

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column(first, no_wrap=True)
    for heading in figures:
        table.add_column(heading, justify="right", overflow="fold")
    return table


class _Notices(logging.Handler):
    """Prints notices about the data, one line each; warnings in yellow."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        self._console.print(
            record.getMessage(), style=style, soft_wrap=True, markup=False, highlight=False
        )


@contextmanager
def speaking(console: Console, *, quiet: bool) -> Iterator[None]:
    """Let the body report what it drops from its data or serves and, unless quiet, its progress."""
    from baselines.runtime import progress  # loads torch: not for --help

    progress.begin(quiet=quiet)
    notices = _Notices(console)
    loggers = [logging.getLogger(name) for name in ("baselines.data", "baselines.serving")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(notices)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(notices)
            logger.setLevel(level)
