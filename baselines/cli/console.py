"""What a command says while it works: what became of its data, and how far it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

QUIET = "--quiet"
"""The option of every command that leaves out progress."""


class _Notices(logging.Handler):
    """Prints what reading data has to say, a line each; what is alarming in yellow."""

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
    """Let the body say what it leaves out of its data and, unless quiet, how far it is."""
    from baselines.runtime import progress  # loads torch: not for --help

    progress.begin(quiet=quiet)
    notices, logger = _Notices(console), logging.getLogger("baselines.data")
    level = logger.level
    logger.addHandler(notices)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(notices)
        logger.setLevel(level)
