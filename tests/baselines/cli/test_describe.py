"""``semid data describe``: what it prints and writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from baselines.cli import main


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    folder = tmp_path / "shop"
    folder.mkdir()
    items = pl.DataFrame({"item_id": [1, 2, 3, 4], "title": ["a", "a", "<b>c</b>", None]})
    items.write_parquet(folder / "items.parquet")
    events = [(user, item, time) for user in (7, 8) for time, item in enumerate((1, 2, 3, 4))]
    table = pl.DataFrame(
        [*events, (7, 99, 0)], schema=["user_id", "item_id", "timestamp"], orient="row"
    )
    table.write_parquet(folder / "interactions.parquet")
    return folder


def test_a_data_set_is_described_on_the_console_as_json_and_as_a_card(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["data", "describe", "shop", "--out", "figures.json", "--card", "new/card.md"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    figures = json.loads(Path("figures.json").read_text())
    assert (figures["name"], figures["split"]) == ("shop", "leave_one_out")
    assert figures["sizes"]["density"] == 1
    assert figures["left_out"] == {"interactions_with_unknown_items": 1}
    card = Path("new/card.md").read_text()
    assert card.startswith("# shop\n\n- split: leave_one_out\n- order of equal times: file\n")
    assert "| density | 100.00% |" in card
    assert "|  | train | valid | test |" in card
    assert "| targets unseen in training | 0 | 2 | 2 |" in card
    assert "| coverage | 75.00% |" in card
    assert "| interactions with unknown items | 1 |" in card
    for line in ("density", "100.00%", "figures: figures.json", "data card: new/card.md"):
        assert line in printed


def test_figures_are_drawn_and_shown_on_the_card(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["data", "describe", "shop", "--card", "cards/card.md", "--figures", "my figures"]
    assert main(argv) == 0
    shown = re.findall(r"!\[(.+)\]\(<(.+)>\)", Path("cards/card.md").read_text())
    assert [title for title, _ in shown][:1] == ["Lengths of histories"]
    assert len(shown) == 4
    for _, path in shown:
        assert Path("cards", path).is_file()
        assert Path("cards", path).with_suffix(".png").is_file()
    assert "my figures/lorenz.svg" in capsys.readouterr().out.replace("\n", " ")


def test_the_split_is_that_of_the_options(shop: Path) -> None:
    argv = ["data", "describe", "--data", "shop", "--split", "global_time:0.4,0.3,0.3"]
    assert main([*argv, "--out", "figures.json"]) == 0
    figures = json.loads(Path("figures.json").read_text())
    assert figures["split"] == "global_time 0.4:0.3:0.3"
    assert figures["leakage"]["training_events_after_the_first_test_target"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["shop", "--out", "figures.csv"], "out must end in .json, got 'figures.csv'"),
        (["shop", "--card", "card.html"], "card must end in .md, got 'card.html'"),
        (["shpo"], "no folder shpo"),
        ([], "data"),
    ],
)
def test_what_cannot_be_described_is_one_line(
    shop: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "describe", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["shop"]
