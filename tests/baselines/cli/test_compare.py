"""``semid compare``: what it prints and writes, and the examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baselines.cli import main
from baselines.reporting import writing

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
COMPARE = ["compare", "--config", "tiny.yaml", "--out", "out"]


def test_schemes_stand_beside_each_other_in_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schemes = "{codes: {scheme: 'file:codes.json'}, random: {scheme: random}}"
    arms = "[tiger@codes:ntp, tiger@random:ntp]"
    assert main([*COMPARE, "--schemes", schemes, "--arms", arms]) == 0
    printed = capsys.readouterr().out
    assert "TIGER@codes" in printed
    assert "TIGER@random" in printed
    assert "| @codes | file:codes.json | 33 |" in Path("out/comparison.md").read_text()


def test_compare_prints_its_answer_and_where_the_files_are(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_pages: tuple[str, ...],
) -> None:
    monkeypatch.setattr(writing, "_NEEDED", no_pages)
    options = ["--out", "mine", "--ids.scheme", "file:codes.json", "--seeds", "[3]"]
    assert main(["compare", "--config", "tiny.yaml", *options]) == 0
    printed = capsys.readouterr().out
    assert "alignment" in printed.splitlines()[0]
    for text in ("seen items removed", "Popularity", "(teacher)", "soft_ce", "N@10 vs own"):
        assert text in printed
    assert "files: mine/comparison.json, per_user.parquet" in printed
    assert printed.splitlines()[-1] == "report: mine/report.html"
    assert Path("mine/report.html").exists()
    settings = json.loads(Path("mine/config.json").read_text())
    assert settings["seeds"] == [3], "an option wins over the file"
    assert settings["training"]["epochs"] == 1
    assert Path("mine/comparison.md").read_text().startswith("# Comparison")
    found = json.loads(Path("mine/comparison.json").read_text())
    assert found["settings"]["ids"] == "file:codes.json, sizes 33"


def test_a_causal_encoder_learns_from_labels_and_time_ends_its_training(folder: Path) -> None:
    causal = ["--backbones.tiger.attention", "causal"]
    limit = ["--training.epochs", "9", "--training.max_minutes", "1e-6"]
    assert main([*COMPARE, *causal, *limit]) == 0
    found = json.loads(Path("out/comparison.json").read_text())
    trained = [row for row in found["rows"] if row["arm"].startswith("TIGER")]
    assert [row["arm"] for row in trained] == ["TIGER ntp", "TIGER+TCA soft_ce alpha=0.5"]
    for row in trained:
        (notes,) = row["evaluations"]
        assert (notes["epochs"], notes["stopped_by_time"]) == (1, True)
    lines = Path("out/comparison.md").read_text().splitlines()
    stopped = {line.split(" | ")[0] for line in lines if ", stopped by time" in line}
    assert stopped == {f"| {row['arm']}" for row in trained}


def test_a_folder_of_another_comparison_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, "--arms", "[tiger:ntp]"]) == 0
    capsys.readouterr()
    assert main([*COMPARE, "--arms", "[tiger:ntp]", "--training.epochs", "2"]) == 2
    assert "holds a comparison with other settings (training.epochs)" in capsys.readouterr().err


def test_half_of_the_items_can_be_cold_and_the_prior_divided_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*COMPARE, "--split", "cold:0.5", "--arms", "[tiger:ntp]"]
    assert main(argv) == 0
    assert "cold items" in capsys.readouterr().out
    data = json.loads(Path("out/data.json").read_text())
    assert data["protocol"] == "cold:0.5:0"
    assert data["dropped"]["cold_items"] > 0
    assert data["statistics"]["cold_test_targets"] > 0
    page = Path("out/comparison.md").read_text()
    assert "cold:0.5:0" in page
    assert "training events of cold items" in page

    def written() -> tuple[int, dict[str, Any], dict[str, Any]]:
        found = json.loads(Path("out/comparison.json").read_text())
        (row,) = (row for row in found["rows"] if row["arm"].startswith("TIGER"))
        (model,) = Path("out").glob("tiger*/model.safetensors")
        return model.stat().st_mtime_ns, found["settings"], row["metrics"]

    before, settings, metrics = written()
    assert "training prior divided out" not in settings
    assert main([*argv, "--evaluation.prior", "1"]) == 0
    after, settings, corrected = written()
    assert after == before, "ranked anew without training"
    assert settings["training prior divided out"] == 1
    assert corrected != metrics
    (card,) = Path("out").glob("tiger*/model.json")
    assert json.loads(card.read_text())["spec"]["evaluation"]["prior"] == 1
    assert main(argv) == 0
    assert "prior" not in json.loads(card.read_text())["spec"]["evaluation"]
    assert written()[2] == metrics


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--split", "global_time:0.8,0.1"], "split must be global_time, global_time:TRAIN,"),
        (["--split", "cold:1.5"], "split must be cold:SHARE or cold:SHARE:DRAW, with a share"),
        (["--split", "warm"], "split must be one of auto, leave_one_out,"),
        (["--evaluation.prior", "-1"], "evaluation.prior must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(
    option: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, *option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_lacks_nothing_but_its_data(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "nowhere", "--out", str(tmp_path / "out")]
    assert main(["compare", "--config", str(example), *options]) == 2
    assert capsys.readouterr().err.startswith("semid: no folder nowhere")


def test_an_arm_learns_from_prefixes_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--arms", "[tiger:soft_ce:0.5, 'tiger:soft_ce:0.5:on_policy=0.5']"]
    assert main([*COMPARE, *arms]) == 0
    rows = json.loads(Path("out/comparison.json").read_text())["rows"]
    labels = [row["arm"] for row in rows if row["arm"].startswith("TIGER")]
    plain = "TIGER+TCA soft_ce alpha=0.5"
    assert labels == [plain, f"{plain} on_policy=0.5"]
    configs = []
    for name in ("tiger-soft_ce-0.5-0", "tiger-soft_ce-0.5-on_policy0.5-0"):
        provenance = json.loads(Path("out", name, "provenance.json").read_text())
        configs.append(provenance["config"]["objective"])
    assert configs[1] == {**configs[0], "on_policy": 0.5}
    assert "on_policy" not in configs[0], "models made before it keep their hash"
    capsys.readouterr()
    assert main([*COMPARE, "--out", "new", *arms, "--mass.best_items", "0"]) == 2
    assert "got mass.best_items 0" in capsys.readouterr().err


def test_a_model_of_titles_cannot_learn_from_prefixes_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, "--arms", "lm:soft_ce:0.5:on_policy=0.5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "on_policy needs a backbone that generates codes, such as causal or tiger" in line


def test_an_item_head_is_mixed_in_at_a_weight_that_validation_chooses(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--backbones.causal.encoder.dim", "8", "--backbones.causal.encoder.ff_dim", "8"]
    argv = [*COMPARE, "--arms", "causal:ntp", "--fusion.arms", "causal:ntp", *small]
    argv += ["--backbones.causal.encoder.num_heads", "1", "--backbones.causal.item_head", "1"]
    assert main(argv) == 0
    (own,) = Path("out").glob("causal-ntp-0/item_weight.json")
    chosen = json.loads(own.read_text())
    assert set(chosen["validation"]) == {"0", "0.2", "0.4", "0.6", "0.8", "1"}

    def written() -> tuple[int, list[dict[str, Any]]]:
        rows = json.loads(Path("out/comparison.json").read_text())["rows"]
        mine = [row for row in rows if row["arm"].startswith("Causal")]
        (model,) = Path("out").glob("causal-ntp-0/model.safetensors")
        return model.stat().st_mtime_ns, mine

    before, (alone, fused) = written()
    assert fused["arm"].startswith(alone["arm"])
    for weight in ("0", "1"):
        assert main([*argv, "--evaluation.item_weight", weight]) == 0
        after, (row, _) = written()
        assert after == before, "ranked anew without training"
        card = json.loads(Path("out/causal-ntp-0/model.json").read_text())
        assert card["spec"]["evaluation"]["item_weight"] == float(weight)
    assert row["metrics"] != alone["metrics"] or chosen["weight"] == 1
    assert main(argv) == 0
    assert written()[1][0]["metrics"] == alone["metrics"]
    assert main(["pick", "out", "--row", alone["arm"], "--out", "best"]) == 0
    card = json.loads(Path("best/model.json").read_text())
    assert card["spec"]["evaluation"]["item_weight"] == chosen["weight"]
    capsys.readouterr()
    assert main([*argv, "--evaluation.item_weight", "2"]) == 2
    assert "item_weight must be auto or in [0, 1], got 2" in capsys.readouterr().err
