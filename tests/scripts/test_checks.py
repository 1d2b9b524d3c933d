"""The checks of damage and of kills, small; in full they are run by hand."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize(
    "options",
    [
        ["--runs", "finished", "--only", "causal-ntp-0/test", "--damages", "digit", "swapped"],
        ["--runs", "arm-begun", "--only", "causal-soft_ce-0.5-0/", "--damages", "scaled"],
    ],
)
def test_damaged_files_are_refused_or_made_again(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    assert importlib.import_module("check_damage").main(options) == 0


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_table_and_leaves_nothing() -> None:
    """In a process of its own, as the threads of this one would not live on in copies of it."""
    options = ["--kills", "2", "--every", "0", "--every-of-compare", "250"]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "check_kills.py"), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
