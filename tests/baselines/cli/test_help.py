"""Help: on a screen or two, in no time, and without what it does not need."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from baselines.cli import main
from baselines.cli.commands import COMMANDS

HEAVY = ("torch", "numpy", "polars", "transformers", "accelerate")
PARSED = """
import sys
from baselines.cli.commands import COMMANDS
from baselines.cli.parsing import parser_of, settings_of
command = COMMANDS["compare"]
parser = parser_of(command.config, prog="semid compare", says=command.says)
settings_of(parser, command.config, ["--seeds", "0,1", "--training.epochs", "3"])
print(*sys.modules)
"""


def processor_seconds(*command: str) -> tuple[float, str]:
    """Of a fresh interpreter, its own start included; and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, env=os.environ
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.parametrize("command", [["--help"], ["compare", "--help"], ["compare", "--help-all"]])
def test_help_takes_less_than_a_second_of_processor_time(command: list[str]) -> None:
    seconds, printed = processor_seconds("-m", "baselines.cli", *command)
    assert "usage: semid" in printed
    assert seconds < 1.5, "a third of that on any machine of today; the rest is for a busy one"


def test_options_are_read_without_what_computes() -> None:
    _, loaded = processor_seconds("-c", PARSED)
    assert "baselines.experiments.config" in loaded.split()
    assert not set(HEAVY) & set(loaded.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_two_screens_and_shows_an_example_that_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    (example,) = (line.split() for line in lines if line.startswith("  semid "))
    assert main([*example[1:], "--print_config"]) == 0


def test_all_options_are_in_the_long_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help-all"]) == 0
    printed = capsys.readouterr().out
    for option in ("--backbones.causal.encoder.dropout", "--fusion.controls", "--mass.top_k"):
        assert option in printed


def test_a_group_of_commands_says_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teacher", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "teacher export" in printed
    assert "compare" not in printed
