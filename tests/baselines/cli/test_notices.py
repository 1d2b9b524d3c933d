"""What was left out of the data is on the console and in the page; progress is not for --quiet."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest

from baselines.cli import main

COMPARE = ["compare", "--data", "shop", "--out", "out", "--arms", "[causal:ntp]", "--seeds", "[0]"]
COMPARE += ["--ids.scheme", "random", "--ids.codebook_sizes", "[4, 4]", "--evaluation.beam", "4"]
COMPARE += ["--backbones.causal.encoder.dim", "8", "--backbones.causal.encoder.num_layers", "1"]
COMPARE += ["--training.epochs", "1", "--resamples", "20", "--evaluation.validation_beam", "4"]
TEACHER = ["--teacher.model", "popularity"]
TRAIN = ["teacher", "train", "--data", "shop", "--out", "teachers", *TEACHER]
EXPORT = ["teacher", "export", "--data", "shop", "--teachers", "teachers", "--out", "vectors"]
LM = ["lm", "train", "--data", "shop", "--out", "lm", "--training.epochs", "1"]
LM += ["--model.vocab_size", "270", "--model.dim", "16", "--model.num_layers", "1"]
LM += ["--texts.held_out", "0.2", "--model.context", "64"]


def write(folder: Path, unknown: int) -> None:
    """A shop of 12 items and 100 events, some of which name their item in the other case."""
    folder.mkdir()
    items = "".join(f"item{number},thing {number}\n" for number in range(12))
    (folder / "items.csv").write_text("item_id,title\n" + items)
    events = [f"u{user},item{(user + step) % 12},{step}" for user in range(20) for step in range(5)]
    for row in range(unknown):
        events[5 * row + 4] = events[5 * row + 4].replace("item", "ITEM")
    text = "\n".join(["user_id,item_id,timestamp", *events, events[0]]) + "\n"
    (folder / "interactions.csv").write_text(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("shop")]


@pytest.mark.parametrize("command", [TRAIN, LM], ids=["teacher train", "lm train"])
def test_a_command_says_what_it_leaves_out(
    command: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "shop", unknown=1)
    assert main(command) == 0
    assert lines(capsys.readouterr().out) == [
        "shop, left out: 1 interaction with unknown items, 1 interaction with near equal items",
        "shop, noted: 1 repeated interaction",
    ]


def test_a_comparison_says_it_on_the_console_and_in_the_page(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "shop", unknown=20)
    assert main([*COMPARE, *TEACHER]) == 0
    left_out = (
        "20 interactions with unknown items, 20 interactions with near equal items; "
        "WARNING: these are 19.8% of the events"
    )
    assert f"shop, left out: {left_out}" in lines(capsys.readouterr().out)
    page = (here / "out" / "comparison.md").read_text()
    assert f"| left out | {left_out} |" in page
    assert "| noted | 1 repeated interaction" in page
    settings = json.loads((here / "out" / "comparison.json").read_text())["settings"]
    assert settings["left out"] == left_out


def test_what_is_whole_needs_no_word(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teacher", "train", "--data", "synthetic:40x32", "--out", "t", *TEACHER]) == 0
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("place", ["before", "after"])
def test_progress_is_not_for_quiet_commands(
    place: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "shop", unknown=0)
    minutes = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 60.0 * next(minutes))
    assert main(TRAIN) == 0
    assert "test: 20 of 20 (100%)" in capsys.readouterr().err
    words = ["--quiet", *TRAIN] if place == "before" else [*TRAIN, "--quiet"]
    assert main(words) == 0
    assert capsys.readouterr().err == ""
