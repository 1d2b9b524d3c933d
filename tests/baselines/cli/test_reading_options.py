"""How data are read, said on the command line: formats of dates, and logs that repeat events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baselines.cli import main

TRAIN = ["teacher", "train", "--data", "shop", "--out", "teachers", "--teacher.model", "popularity"]
EXPORT = ["teacher", "export", "--data", "shop", "--teachers", "teachers", "--out", "vectors"]
COMPARE = ["compare", "--data", "shop", "--out", "out", "--arms", "[causal:ntp]", "--seeds", "[0]"]
COMPARE += ["--ids.scheme", "random", "--ids.codebook_sizes", "[4, 4]", "--evaluation.beam", "4"]
COMPARE += ["--backbones.causal.encoder.dim", "8", "--backbones.causal.encoder.num_layers", "1"]
COMPARE += ["--training.epochs", "1", "--resamples", "20", "--evaluation.validation_beam", "4"]
LM = ["lm", "train", "--data", "shop", "--out", "lm"]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop whose dates may be day first or month first, and whose log was written twice."""
    folder = tmp_path / "shop"
    folder.mkdir()
    items = "".join(f"{item},thing {item}\n" for item in range(12))
    (folder / "items.csv").write_text("item_id,title\n" + items)
    events = "".join(
        f"{user},{(user + step) % 12},0{step + 1}/0{9 - step}/2014\n"
        for user in range(9)
        for step in range(5)
    )
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\n" + events * 2)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("command", [TRAIN, EXPORT, COMPARE, LM], ids=lambda c: " ".join(c[:2]))
def test_dates_of_an_open_order_are_refused_until_their_format_is_given(
    command: list[str], shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    assert "'01/09/2014' in row 0" in capsys.readouterr().err
    assert main([*command, "--time_format", "%d/%m"]) == 2
    assert "times must be dates like '%d/%m'" in capsys.readouterr().err
    assert not any(Path(name).exists() for name in ("teachers", "vectors", "out", "lm"))


@pytest.mark.parametrize("time_format", ["%d/%m/%Y", "%m/%d/%Y"])
def test_a_teacher_is_trained_on_dates_of_a_named_format_and_events_read_once(
    time_format: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for repeats in ("keep", "exact"):
        options = ["--time_format", time_format, "--repeats", repeats]
        assert main([*TRAIN, "--out", repeats, *options]) == 0
        tables.append(capsys.readouterr().out.partition("teachers:")[0])
    assert tables[0] != tables[1]
    assert main([*TRAIN, "--repeats", "all"]) == 2


def test_a_comparison_begun_before_a_count_was_known_goes_on(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*COMPARE, "--time_format", "%d/%m/%Y"]
    assert main(command) == 0
    before, table = Path("out/data.json"), json.loads(Path("out/comparison.json").read_text())
    data = json.loads(before.read_text())
    assert data["statistics"]["repeated_interactions"] == 45
    assert data["statistics"]["repeated_test_targets"] == 9
    for name in ("repeated_interactions", "repeated_test_targets"):
        data["statistics"].pop(name)
    data.pop("noted")
    data.pop("seal")
    before.write_text(json.dumps(data))
    assert "repeats" not in json.loads(Path("out/config.json").read_text())
    assert main(command) == 0
    again = json.loads(Path("out/comparison.json").read_text())
    for rows in (again["rows"], table["rows"]):
        for row in rows:
            for said in row["evaluations"]:
                del said["test_seconds"]
    assert again["rows"] == table["rows"]
    capsys.readouterr()
    assert main([*command, "--repeats", "exact"]) == 2
    assert "other settings (repeats)" in capsys.readouterr().err
