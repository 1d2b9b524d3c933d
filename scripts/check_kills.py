"""Kill a comparison at random moments, and at every step it takes on disk; then let it go on.

    python scripts/check_kills.py                      # 200 kills, all crash states
    python scripts/check_kills.py --kills 5 --every 100

After each, the same command has to end with the table of an undisturbed run, and with nothing
hidden left. At a step, what was not flushed to disk by then is lost too, as when the power goes.
Prints each failure, then the counts.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss  # noqa: F401  (these are loaded once, for all copies)
import polars  # noqa: F401
import scipy.optimize  # noqa: F401
import sklearn.feature_extraction.text  # noqa: F401
import torch
import transformers  # noqa: F401
from tiny_run import compare, left_behind, semid, table

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
Command = Callable[[], tuple[int, str]]


class WithoutExchange(ctypes.CDLL):
    """The C library of a system that cannot exchange two names."""

    def __getattr__(self, name: str) -> Any:
        if name == "renameat2":
            raise AttributeError(name)
        return super().__getattr__(name)


def begin(work: Command) -> tuple[int, int]:
    """Let a copy of this process, which has torch loaded, run a command.

    This process runs none itself: the threads of polars do not live on in a copy.

    Returns:
        Its id, and the end of a pipe that what it says comes out of.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status, said = work()
            os.write(into, said.encode()[-4000:])
        finally:
            os._exit(status)
    os.close(into)
    return child, out


def ended(child: int, out: int) -> tuple[int, str]:
    """Exit status of a copy, negative for a signal, and what it said."""
    with open(out, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def run(work: Command) -> tuple[int, str]:
    """Run a command in a copy of this process to its end."""
    return ended(*begin(work))


def kill_at_random(out: Path, seconds: float, draw: random.Random) -> bool:
    """Go on with a comparison, and kill it some time; false if it had ended before."""
    child, pipe = begin(lambda: compare(out))
    time.sleep(draw.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    return ended(child, pipe)[0] == -signal.SIGKILL


def crash(command: Command, folder: Path, step: int) -> bool:
    """Run a command that dies just before a step in a folder; false if it ends before."""

    def work() -> tuple[int, str]:
        flushed: set[tuple[int, int]] = set()
        taken = 0
        flush = os.fsync

        def fsync(handle: int) -> None:
            flush(handle)
            found = os.fstat(handle)
            flushed.add((found.st_dev, found.st_ino))

        def watch(event: str, arguments: Sequence[Any]) -> None:
            nonlocal taken
            path = str(arguments[0]) if arguments else ""
            is_read = event == "open" and not _writes(arguments)
            if event not in STEPS or is_read or not path.startswith(str(folder)):
                return
            taken += 1
            if taken == step:
                os.fsync = flush
                _lose(folder, flushed, begun)
                os.kill(os.getpid(), signal.SIGKILL)

        begun = time.time_ns()
        os.fsync = fsync
        sys.addaudithook(watch)
        return command()

    status, said = run(work)
    assert status in (0, -signal.SIGKILL), said
    return status == -signal.SIGKILL


def _writes(arguments: Sequence[Any]) -> bool:
    _, mode, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(
        letter in (mode or "") for letter in "wax+"
    )


def _lose(folder: Path, flushed: set[tuple[int, int]], begun: int) -> None:
    """Empty every file that was written since and never flushed."""
    for path in folder.rglob("*"):
        found = path.lstat()
        is_ours = path.is_file() and found.st_mtime_ns > begun
        if is_ours and (found.st_dev, found.st_ino) not in flushed:
            os.truncate(path, 0)


def check_builds(folder: Path, every: int) -> tuple[int, list[str]]:
    """Crash states of ``semid build`` in place of ids that exist: old or new is always found.

    Returns:
        Their number, and what went wrong.
    """
    ids, failures = folder / "ids", []

    def build(seed: int) -> tuple[int, str]:
        scheme = ("--tokenizer", "random", "--ids.settings", f"{{seed: {seed}}}")
        return semid("build", "--data", "synthetic:40x32", "--out", str(ids), *scheme)

    def codes() -> bytes:
        return (ids / "semantic_ids.parquet").read_bytes()

    assert run(lambda: build(1))[0] == 0
    new = codes()
    for number in itertools.count(1):
        shutil.rmtree(folder)
        assert run(lambda: build(0))[0] == 0
        old = codes()
        if not crash(lambda: build(1), folder, number * every):
            return number - 1, failures
        found = run(lambda: semid("inspect", "--ids", str(ids)))
        if found[0] != 0 or codes() not in (old, new):
            failures.append(f"build, step {number * every}: {found}")
        found = run(lambda: build(1))
        if found[0] != 0 or codes() != new or left_behind(folder):
            failures.append(f"build, step {number * every}: {found}, {left_behind(folder)}")
    raise AssertionError


def check_comparisons(folder: Path, expected: Any, every: int) -> tuple[int, list[str]]:
    """Crash states of a whole comparison.

    Returns:
        Their number, and what went wrong.
    """
    out, failures = folder / "run", []
    for number in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if not crash(lambda: compare(out), folder, number * every):
            return number - 1, failures
        failures += _of_the_rest(out, expected, f"compare, step {number * every}")
    raise AssertionError


def _of_the_rest(out: Path, expected: Any, title: str) -> list[str]:
    """What goes wrong when a comparison goes on to its end."""
    status, said = run(lambda: compare(out))
    if status != 0:
        return [f"{title}: status {status}: {said[-600:]}"]
    if table(out) != expected:
        return [f"{title}: another table"]
    return [f"{title}: left {left_behind(out)}"] if left_behind(out) else []


def check_random(folder: Path, expected: Any, kills: int, seconds: float) -> list[str]:
    """Kill runs again and again until each has ended; what went wrong."""
    draw, failures, killed, run = random.Random(0), [], 0, 0
    while killed < kills:
        run += 1
        out = folder / f"run{run}"
        while killed < kills and kill_at_random(out, seconds, draw):
            killed += 1
        failures += _of_the_rest(out, expected, f"random kills, run {run}")
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="at random moments")
    parser.add_argument("--every", type=int, default=1, help="steps of semid build apart; 0: none")
    parser.add_argument("--every-of-compare", type=int, default=5, help="of semid compare")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for _ in range(2):  # the second finds all modules in memory, as all later runs do
            shutil.rmtree(folder / "whole", ignore_errors=True)
            begun = time.monotonic()
            status, said = run(lambda: compare(folder / "whole"))
            assert status == 0, said
            seconds = time.monotonic() - begun
        expected = table(folder / "whole")
        if arguments.every:
            states, found = check_builds(folder / "builds", arguments.every)
            print(f"{states} crash states of semid build: {len(found)} failures", flush=True)
            failures += found
            can_exchange, ctypes.CDLL = ctypes.CDLL, WithoutExchange
            states, found = check_builds(folder / "renamed", arguments.every)
            ctypes.CDLL = can_exchange
            print(f"{states} without an exchange of names: {len(found)} failures", flush=True)
            failures += found
        if apart := arguments.every_of_compare:
            states, found = check_comparisons(folder / "states", expected, apart)
            print(f"{states} crash states of semid compare: {len(found)} failures", flush=True)
            failures += found
        (folder / "killed").mkdir()
        found = check_random(folder / "killed", expected, arguments.kills, seconds)
        print(f"{arguments.kills} random kills: {len(found)} failures")
        failures += found
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
