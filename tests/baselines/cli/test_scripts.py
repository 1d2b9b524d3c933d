"""The commands as scripts and as a module."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("build_semids", "semantic id"),
        ("train_teacher", "Train a collaborative-filtering teacher"),
        ("compare_tca", "Train and rank every arm"),
    ],
)
def test_a_script_is_the_command_of_its_name(
    script: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert says in capsys.readouterr().out


def test_the_module_is_the_command_for_launchers_that_take_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["__main__.py", "compare", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(
            str(SCRIPTS.parent / "baselines" / "cli" / "__main__.py"), run_name="__main__"
        )
    assert ended.value.code == 0
    assert "Train and rank every arm" in capsys.readouterr().out


def test_a_script_hands_on_its_arguments_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["build_semids.py", "--data", "nowhere", "--out", "out"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "build_semids.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "no folder nowhere" in capsys.readouterr().err
