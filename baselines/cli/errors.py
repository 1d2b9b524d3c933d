"""How a command ends: an exit code, and one line on standard error if it failed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from baselines.cli.interrupts import ended_while_loading

SUCCESS, MISSED, FAILURE, BROKEN_PIPE, STOPPED = 0, 1, 2, 141, 130
_LONGEST = 2000  # characters of a line
_WHAT_TO_DO = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "; let this user read or write there"),
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; make room, or name another place to write to"
    ),
}


class Missed(Exception):
    """The command finished, but a condition that it was asked to enforce is not met."""


def in_one_line(run: Callable[[], None]) -> int:
    """Run a command, and report any error in one line.

    Bad input raises ``ValueError`` or ``OSError``, whose message is the line. Any other exception
    is a bug: its traceback is written to a file, which the line names.

    Returns:
        ``SUCCESS`` or ``FAILURE``; ``MISSED`` after that error; or, by shell convention,
        ``STOPPED`` after Ctrl-C and ``BROKEN_PIPE`` if the output's reader is gone.
    """
    try:
        with ended_while_loading(_stopped):
            _run_and_flush(run)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return BROKEN_PIPE
    except BaseException as error:  # errors of native extensions may not be an Exception
        if isinstance(error, KeyboardInterrupt):
            return _stopped()
        if isinstance(error, Missed):
            _say(str(error))
            return MISSED
        _say(_described(error))
        return FAILURE
    return SUCCESS


def _run_and_flush(run: Callable[[], None]) -> None:
    try:
        run()
    except SystemExit as ended:  # from the parser after --print_config, or from user code
        if ended.code:
            raise ValueError(f"the command was ended by exit({ended.code!r})") from ended
    sys.stdout.flush()


def _say(text: str) -> None:
    line = " ".join(text.split())
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]} ..."
    print(f"semid: {line}", file=sys.stderr)


def _stopped() -> int:
    _say("stopped; the same command goes on from here")
    return STOPPED


def _described(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if _is_of_input(error):
        return text + _WHAT_TO_DO.get(getattr(error, "errno", None) or 0, "")
    if isinstance(error, MemoryError) or ("memory" in text and isinstance(error, RuntimeError)):
        return (
            f"out of memory ({text}). Take smaller batches (batch_events, batch_size), more parts "
            "of a batch (accumulate) or a smaller model."
        )
    return (
        f"unexpected {type(error).__name__}: {text[:300]}. This is a fault of semid. "
        f"Please report it with its traceback, which is in {_written(error)}"
    )


def _is_of_input(error: BaseException) -> bool:
    from argparse import ArgumentError

    from safetensors import SafetensorError

    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return True  # from pathlib; an OSError since Python 3.13
    return isinstance(error, (ValueError, OSError, ArgumentError, SafetensorError))


def _written(error: BaseException) -> str:
    """Write the traceback to a file and return its name."""
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="semid-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError as failed:
        return f"no file, as none could be written ({failed})"
    return path
