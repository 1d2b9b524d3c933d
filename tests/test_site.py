"""The documentation site: its pictures, its pages of reference, and that every page is on it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from baselines.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAVIGATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def pages_of(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in pages_of(child)]  # type: ignore[attr-defined]


def run_script(name: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / name), *arguments], check=True, cwd=ROOT)


def test_every_page_is_on_the_site_once() -> None:
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(pages_of(NAVIGATION)) == sorted(written | {"options.md"})


def test_the_committed_pictures_are_those_that_the_packages_compute(tmp_path: Path) -> None:
    run_script("draw_concepts.py", str(tmp_path))
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = DOCS / "pictures"
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in kept.iterdir()}


def test_pictures_show_what_the_collaborative_tokenizer_gives() -> None:
    """By hand: e^2, e^1, e^0 over their sum, of the three soaps."""
    shown = (DOCS / "pictures" / "tokenizer.svg").read_text(encoding="utf-8")
    assert "share 0.67, 0.24, 0.09" in shown


def test_the_page_of_options_lists_every_command_and_option(tmp_path: Path) -> None:
    run_script("write_options.py", str(tmp_path / "options.md"))
    page = (tmp_path / "options.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `semid (.*)`$", page, re.MULTILINE) == list(COMMANDS)
    assert "| `--backbones.tiger.dim` |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `--")]
    assert all(re.fullmatch(r"\| `--[\w.]+` \| .+ \|", row) for row in rows)


def test_any_option_and_any_equation_is_two_clicks_from_the_first_page(tmp_path: Path) -> None:
    run_script("write_options.py", str(tmp_path / "options.md"))
    options = (tmp_path / "options.md").read_text(encoding="utf-8")
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    assert {"options.md", "equations.md"} <= set(re.findall(r"\]\(([^)#]+)\)", first))
    above, *below = re.split(r"\n(?=##+ )", options)
    headings = [part.splitlines()[0] for part in below]
    anchors = [
        found[1] if (found := re.search(r"\{ #(\S+) \}", heading)) else _slug(heading)
        for heading in headings
    ]
    assert re.findall(r"\]\(#([^)]+)\)", above) == anchors
    assert len(set(anchors)) == len(anchors)
    assert max(part.count("\n| `--") for part in below) <= 40, "few enough to look through"
    equations = (DOCS / "equations.md").read_text(encoding="utf-8")
    rows = [line for line in equations.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    assert all(re.search(r"\]\([\w/]+\.md#[^)]+\) \|$", row) for row in rows)


def _slug(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.strip("# `"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="the extra docs is not installed")
    run_script("write_options.py")
    build = [sys.executable, "-m", "zensical", "build", "--config-file", "mkdocs.yml", "--strict"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
