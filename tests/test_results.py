"""The tables of docs/results.md, and the bar in the README, equal what committed results give."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from baselines.cli import main

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"<!-- studies/([\w-]+)/table\.md -->\n(.*?\n)\n", RESULTS, re.DOTALL))
KEPT = sorted(path.parent.name for path in (ROOT / "studies").glob("*/table.md"))


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("study", KEPT)
def test_the_table_of_a_study_is_that_of_its_results(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies"
    shutil.copytree(ROOT / "studies", folder)
    kept = (folder / study / "table.md").read_text(encoding="utf-8")
    (folder / study / "table.md").unlink()
    monkeypatch.chdir(tmp_path)
    finished = [path.stem for path in (folder / study).glob("*.json")]
    assert main(["study", study, "--runs", ",".join(finished)]) == 0  # all are done: none is run
    assert (folder / study / "table.md").read_text(encoding="utf-8") == kept


@pytest.mark.parametrize("study", KEPT)
def test_the_page_shows_the_table_of_each_study_and_its_command(study: str) -> None:
    kept = table_of((ROOT / "studies" / study / "table.md").read_text(encoding="utf-8"))
    assert len(kept) > 2
    assert table_of(SHOWN[study]) == kept
    assert f"\nsemid study {study}\n" in RESULTS


def test_the_page_shows_no_other_study_and_stays_short() -> None:
    assert sorted(SHOWN) == KEPT
    assert len(RESULTS.splitlines()) <= 250


def test_the_readme_shows_counting_as_its_study_measured_it() -> None:
    record = json.loads((ROOT / "studies/bars/beauty-rules-content.json").read_text())
    (row,) = record["result"]["rows"]
    means = [row["metrics"]["removed"][name]["mean"] for name in ("R@10", "N@10")]
    (shown,) = re.findall(
        r"^\| counting alone.* \| (\.\d{4}) \| (\.\d{4}) \|$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert list(shown) == [f"{mean:.4f}".removeprefix("0") for mean in means]
