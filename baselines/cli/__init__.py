"""The command line."""

from __future__ import annotations

from collections.abc import Sequence

from baselines.cli.errors import in_one_line

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; None for those of this process.

    Returns:
        0 on success; 1 if a threshold that the command was asked to enforce is missed; 2 on an
        error; 130 after Ctrl-C. Each but the first with one line on standard error that says why.
    """

    def run() -> None:
        from baselines.cli.app import run  # imported here so that Ctrl-C works while it loads

        run(argv)

    return in_one_line(run)
