"""The benchmarks run, small, and what they compare agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def figures_of(script: str, out: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, f"scripts/{script}", "--out", str(out), "--threads", "1", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def test_decoding_finds_what_generate_finds(tmp_path: Path) -> None:
    sizes = ["--items", "60", "--levels", "3", "--codebook", "8", "--layers", "1", "--dim", "16"]
    runs = ["--batch", "3", "--beams", "4", "40", "--rounds", "1", "--denied", "5"]
    figures = figures_of("bench_decode.py", tmp_path / "decode.json", *sizes, *runs)
    assert list(figures["beams"]) == ["4", "40"]
    for beam in figures["beams"].values():
        checks = beam["moved_items_and_largest_score_difference"]
        assert len(checks) == 2
        for moved, difference in checks.values():
            assert moved == 0
            assert difference < 1e-3


def test_alignment_is_the_loop_over_dictionaries(tmp_path: Path) -> None:
    sizes = ["--items", "120", "--levels", "3", "--codebook", "8", "--batch", "16"]
    figures = figures_of(
        "bench_tca.py", tmp_path / "tca.json", *sizes, "--repeats", "1", "--steps", "2"
    )
    assert figures["largest_error"] < 1e-5
    assert set(figures["training_step_over_ntp"]) > {"ntp", "soft_ntp", "soft_ce"}


def test_changed_tries_are_those_built_anew(tmp_path: Path) -> None:
    sizes = ["--items", "500", "--levels", "3", "--codebook", "8", "--changed", "50"]
    figures = figures_of("bench_trie.py", tmp_path / "trie.json", *sizes, "--rounds", "1")
    assert figures["as_built_anew"] == {"add": True, "remove": True}
    assert list(figures["costs"]) == ["build", "save", "load", "add", "remove"]
