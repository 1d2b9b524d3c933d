"""However a command ends: one line, an exit code, and no traceback on the screen."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baselines.cli import app, main
from baselines.cli.errors import in_one_line

INTERRUPTED_AT = """
import builtins, os, signal, sys
load = builtins.__import__
def interrupted(name, *rest, **named):
    if name == sys.argv[1]:
        builtins.__import__ = load
        try:
            os.kill(os.getpid(), signal.SIGINT)
            load("colorsys")
        except BaseException:
            pass  # as libraries do that go on without another
    return load(name, *rest, **named)
builtins.__import__ = interrupted
from baselines.cli import main
sys.exit(main(["compare", "--arms", "causal:ntp", "--out", "."]))
"""


class Panic(BaseException):
    """As polars' own, no ``Exception``."""


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize("error", [KeyError("x"), Panic("the pool\nis gone"), RecursionError()])
def test_a_fault_of_the_program_is_a_line_that_names_the_file_of_its_traceback(
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert in_one_line(raising(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"semid: unexpected {type(error).__name__}")
    assert said.count("\n") == 1
    (file,) = tmp_path.iterdir()
    assert said.endswith(f"in {file}\n")
    assert "Traceback (most recent call last)" in file.read_text()


def test_a_traceback_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert in_one_line(raising(KeyError("x"))) == 2
    assert "no file, as none could be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "semid: two lines\n"),
        (ValueError(), "semid: ValueError\n"),
        (MemoryError("of 8 TiB"), "semid: out of memory (of 8 TiB). Take smaller batches"),
        (RuntimeError("can't allocate memory: 9 bytes"), "semid: out of memory (can't allocate"),
        (SystemExit("a scheme"), "semid: the command was ended by exit('a scheme')\n"),
        (ValueError("x" * 10_000), "semid: xxxx"),
    ],
    ids=["lines", "empty", "memory", "allocator", "exit", "long"],
)
def test_what_was_expected_is_said_without_a_file(
    error: BaseException, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_one_line(raising(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    assert len(said) < 2100


@pytest.mark.parametrize(
    "module", ["baselines.cli.commands", "docstring_parser", "jsonargparse", "torch"]
)
def test_ctrl_c_while_modules_are_loaded_is_a_line_and_130(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, module], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "semid: stopped; the same command goes on from here\n"


def test_ctrl_c_is_one_line_wherever_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        assert in_one_line(run) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "semid: stopped; the same command goes on from here\n"


@pytest.mark.parametrize(
    "given",
    [["compare", "--help"], ["compare", "--print_config"], ["data", "describe", "synthetic:60x40"]],
)
def test_output_that_nobody_reads_any_more_is_no_error(given: list[str]) -> None:
    command = [sys.executable, "-m", "baselines.cli", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_whatever_a_command_raises_passes_through_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*given: Any) -> None:
        raise ValueError("that went wrong")

    monkeypatch.setattr(app, "run", broken)
    assert main(["compare"]) == 2
    assert capsys.readouterr().err == "semid: that went wrong\n"
