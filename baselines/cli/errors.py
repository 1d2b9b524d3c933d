"""How a command ends: an exit code, and one line on standard error if it did not succeed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

SUCCESS, FAILURE, BROKEN_PIPE, STOPPED = 0, 2, 141, 130
_LONGEST = 2000  # letters of a line


def in_one_line(run: Callable[[], None]) -> int:
    """Run a command, and say in one line what went wrong.

    Bad input raises ``ValueError`` or ``OSError``, whose text is the line. Anything else is a fault
    of the program: its traceback is written to a file, and the line names it.

    Returns:
        ``SUCCESS``, ``FAILURE``; or, as a shell has it, ``STOPPED`` after Ctrl-C and
        ``BROKEN_PIPE`` where nobody reads the output any more.
    """
    try:
        _run_and_flush(run)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return BROKEN_PIPE
    except BaseException as error:  # some of other languages are no Exception
        if _was_stopped(error):
            _say("stopped; the same command goes on from here")
            return STOPPED
        _say(_described(error))
        return FAILURE
    return SUCCESS


def _run_and_flush(run: Callable[[], None]) -> None:
    try:
        run()
    except SystemExit as ended:  # of the parser after --print_config, or of code of the user
        if ended.code:
            raise ValueError(f"the command was ended by exit({ended.code!r})") from ended
    sys.stdout.flush()


def _say(text: str) -> None:
    line = " ".join(text.split())
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]} ..."
    print(f"semid: {line}", file=sys.stderr)


def _was_stopped(error: BaseException | None) -> bool:
    """Whether Ctrl-C is the reason, which a module that is just loaded may have wrapped."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _described(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if _is_of_input(error):
        return text
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
        return True  # of pathlib; from Python 3.13 on an OSError
    return isinstance(error, (ValueError, OSError, ArgumentError, SafetensorError))


def _written(error: BaseException) -> str:
    """The name of a file with the traceback."""
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="semid-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError as failed:
        return f"no file, as none could be written ({failed})"
    return path
