"""The checks of readers, small: the same content through each, and damaged files."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from scripts.shop_formats import WITHOUT_TIMES, WRITERS

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(name)


def test_every_format_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("check_readers", monkeypatch).main(["--prepare.user_core", "4"]) == 0
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("| format | events | users | items | left out | items.parquet |")
    found = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines}
    assert set(found) == {*WRITERS, *WITHOUT_TIMES, "package.module:function"}
    for cells in found.values():
        assert cells[:3] == ["10 → 4", "3 → 1", "4 → 4"]
        assert cells[3].startswith("core of 4 per user and 1 per item (6 events; all of 2 users")
    assert len({cells[-1] for name, cells in found.items() if name not in WITHOUT_TIMES}) == 1
    assert "no times, ratings" in found["pairs"][-1]


def test_other_content_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = script("check_readers", monkeypatch)
    formats = {"parquet": WRITERS["parquet"], "other": WITHOUT_TIMES["letter"]}
    monkeypatch.setattr(module, "WRITERS", formats)
    assert module.main([]) == 1
    assert "other content: other" in capsys.readouterr().out


def test_damaged_files_are_refused_or_read_as_python_reads_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("fuzz_readers", monkeypatch)
    assert module.main(["--number", "57", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("57 inputs in ")
    assert "0 failures" in said


def test_a_row_that_is_read_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = script("fuzz_readers", monkeypatch)
    source = WRITERS["csv"](tmp_path / "source")
    assert module.fault_of(source, tmp_path / "out") is None
    real = module.rows
    monkeypatch.setattr(module, "rows", lambda path, says: real(path, says)[:-1])
    assert "10 events where Python reads" in module.fault_of(source, tmp_path / "other")
