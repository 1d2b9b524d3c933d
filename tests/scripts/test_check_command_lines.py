"""Random command lines end with an exit code and one line; thousands of them: the script."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baselines.cli import main

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def check() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("check_command_lines")


@pytest.mark.parametrize("seed", range(8))
def test_random_command_lines_end_in_one_line(
    seed: int,
    check: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rng = random.Random(seed)
    for _ in range(15):
        line = check.random_line(rng, trains=False)
        if line.config is not None:
            Path("c.yaml").write_bytes(line.config)
        code = main(line.argv)
        ending = check.Ending(code=code, error=capfd.readouterr().err, seconds=0.0)
        assert check.fault(line, ending, tmp_path) is None, line.argv


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, "semid: x"),
        (2, "Traceback (most recent call last)\nsemid: x"),
        (2, "semid: unexpected KeyError: 'x'. This is a fault of semid. Please report it"),
        (2, ""),
        (2, "semid: x\nsemid: y"),
    ],
)
def test_an_ending_that_is_none_is_found(code: int, error: str, check: Any, tmp_path: Path) -> None:
    line = check.Line(argv=("build",))
    assert check.fault(line, check.Ending(code=code, error=error, seconds=0.1), tmp_path)
    slow = check.Ending(code=2, error="semid: x", seconds=3.1)
    assert "seconds" in check.fault(line, slow, tmp_path)
    right = check.Ending(code=2, error="semid: x", seconds=0.1)
    assert check.fault(line, right, tmp_path) is None
    (tmp_path / "out").mkdir()
    assert check.fault(line, right, tmp_path) == "out left behind"
