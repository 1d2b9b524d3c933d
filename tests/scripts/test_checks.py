"""The checks of damage and of kills, small; in full they are run by hand."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


def test_no_id_moves_over_generations_and_new_items_are_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    out = tmp_path / "figures.json"
    sizes = ["--data", "synthetic:60x60", "--items", "8", "--threads", "1", "--out", str(out)]
    model = ["--backbones.causal.encoder.dim", "8", "--evaluation.beam", "10"]
    try:
        module = importlib.import_module("check_generations")
        assert module.main(["--folder", str(tmp_path / "run"), *sizes, *model]) == 0
    finally:
        torch.set_num_threads(threads)
    figures = json.loads(out.read_text())
    for check in figures["checks"]:
        assert (check["moved"], check["shared"]) == (0, 0)
        assert (check["same_trie"], check["same_in_model"]) == (True, True)
        assert check["step"]["new"] == 8
    rows = figures["rows"]
    assert [row["items"] for row in rows.values()] == [36, 44, 52, 60, 60]
    assert rows["trained on generation 0"]["new_recommended"] == 0
    assert rows["trained on generation 0"]["parts"][1:] == [0, 0, 0]
    assert rows["generation 3"]["new_recommended"] > 0


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
