"""The verbs that make and use one model: train, pick, evaluate, recommend, explain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from baselines.cli import main
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.claim import claimed
from baselines.experiments.folder import ComparisonFolder
from baselines.models.recommender import Recommender
from baselines.models.trained import TrainedModel
from semid.provenance import Provenance

SETTINGS = """
ids: {codebook_sizes: [4, 4]}
teacher: {sasrec: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}}
teacher_training: {epochs: 1}
backbones:
  causal: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}
training: {epochs: 1}
evaluation: {beam: 32, validation_beam: 5, validation_targets: 20}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small shop, a model of it and a finished comparison."""
    folder = tmp_path_factory.mktemp("verbs")
    write_plain_layout(synthetic_dataset(num_users=40, num_items=32), folder / "shop")
    (folder / "tiny.yaml").write_text(f"data: {folder}/shop\n{SETTINGS}")
    tiny = ["--config", str(folder / "tiny.yaml")]
    assert main(["train", *tiny, "--out", f"{folder}/model", "--arm", "causal:soft_ce:0.5"]) == 0
    arms = ["--arms", "causal:ntp,causal:soft_ce:0.5", "--seeds", "0", "--resamples", "20"]
    fused = ["--fusion.arms", "causal:ntp", "--fusion.weights", "0.3,0.7"]
    assert main(["compare", *tiny, "--out", f"{folder}/run", *arms, *fused]) == 0
    return folder


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory of one's own that shows the same files."""
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_makes_the_arm_of_a_comparison_a_folder_of_its_own(here: Path) -> None:
    alone = TrainedModel.load(here / "model")
    arm = TrainedModel.load(here / "run" / "causal-soft_ce-0.5-0")
    assert alone.identity == arm.identity
    assert alone.about["data"] == ComparisonFolder.read(here / "run").data
    parts = ("embeddings", "teachers", "mass")
    shutil.copytree(here / "model", here / "copy", ignore=shutil.ignore_patterns(*parts))
    found = Recommender.from_pretrained(here / "copy").recommend([[1, 2]], k=3)
    assert found[0] == Recommender.from_pretrained(here / "model").recommend([[1, 2]], k=3)[0]


def test_train_resumes_and_refuses_other_settings(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    shutil.copytree(world / "model" / "ids", tmp_path / "strange" / "ids")
    weights = tmp_path / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = ["train", "--config", str(world / "tiny.yaml"), "--out", str(tmp_path / "model")]
    assert main([*again, "--arm", "causal:soft_ce:0.5"]) == 0
    assert weights.stat().st_mtime_ns == before
    for options in (["--arm", "causal:ntp"], ["--arm", "causal:soft_ce:0.5", "--seed", "1"]):
        assert main([*again, *options]) == 2
    assert main([*again, "--arm", "causal@other:ntp"]) == 2
    assert "Leave out @other" in capsys.readouterr().err
    strange = ["train", "--data", "synthetic", "--out", str(tmp_path / "strange")]
    assert main(strange) == 2
    assert "holds other files" in capsys.readouterr().err


def test_train_leaves_a_folder_alone_where_another_command_is_at_work(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed(here / "busy", {"seeds": [7]}):
        assert main(["train", "--config", "tiny.yaml", "--out", "busy"]) == 2
    assert "is at work in busy" in capsys.readouterr().err
    assert not (here / "busy").exists()


def test_a_teacher_is_trained_on_the_order_of_ties_that_is_named(here: Path) -> None:
    shutil.copytree(here / "shop", here / "tied")
    events = here / "tied" / "interactions.parquet"
    pl.read_parquet(events).with_columns(timestamp=0).write_parquet(events)
    small = ["--teacher.model", "itemknn", "--out", "teachers"]
    assert main(["teacher", "train", "--data", "tied", "--ties", "item", *small]) == 0
    (teacher,) = (here / "teachers").glob("itemknn-0-*")
    seen = Provenance.read(teacher).seen
    assert seen == load_dataset("tied", ties="item").splits.train_hash
    assert seen != load_dataset("tied").splits.train_hash


def test_evaluate_reports_the_metrics_it_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--metrics", "recall,coverage", "--cutoffs", "1,10", "--out", "few"]
    assert main(["evaluate", "--model", "model", "--data", "shop", *asked]) == 0
    assert "R@1 " in capsys.readouterr().out
    found = json.loads((here / "few" / "metrics.json").read_text())
    assert list(found["metrics"]["removed"]) == ["R@1", "R@10"]
    assert all(0 < value <= 1 for value in found["lists"].values())
    assert len(found["lists"]) == 2
    wrong = ["--cutoffs", "0"]
    assert main(["evaluate", "--model", "model", "--data", "shop", *wrong]) == 2
    assert "cutoffs must be a whole number of at least 1" in capsys.readouterr().err


def test_evaluate_gives_the_metrics_of_the_table(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", "model", "--data", "shop", "--out", "found"]) == 0
    printed = capsys.readouterr().out
    assert "ranked targets: 40" in printed
    found = json.loads((here / "found" / "metrics.json").read_text())["metrics"]
    table = json.loads((here / "run" / "comparison.json").read_text())["rows"]
    (row,) = (row for row in table if row["arm"] == "Causal+TCA soft_ce alpha=0.5")
    for policy, means in found.items():
        for name, value in means.items():
            assert value == pytest.approx(row["metrics"][policy][name]["mean"])
    ranks = pl.read_parquet(here / "found" / "ranks.parquet")
    assert ranks.columns == [
        *("user_id", "item_id", "better_removed", "tied_removed", "better_kept", "tied_kept")
    ]
    dataset = load_dataset("shop")
    test = dataset.splits.test
    assert ranks["item_id"].to_list() == [
        dataset.catalog.item_ids[row] for row in test.items[test.targets()[1]]
    ]
    hits = (ranks["better_removed"] < 5).sum()
    assert hits / 40 == pytest.approx(found["removed"]["R@5"], abs=0.03)  # but for ties


def test_evaluate_gives_the_strata_and_the_metrics_by_id_of_the_comparison(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--arms", "causal:ntp", "--seeds", "0", "--counted", "false", "--out", "shared"]
    assert main(["compare", "--config", "tiny.yaml", "--ids.collisions", "keep", *own]) == 0
    capsys.readouterr()
    model = ["--model", "shared/causal-ntp-0", "--data", "shop"]
    assert main(["evaluate", *model, "--out", "found"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((here / "found" / "metrics.json").read_text())
    compared = json.loads((here / "shared" / "comparison.json").read_text())
    (arm,) = (row for row in compared["rows"] if row["role"] == "arm")
    by_id = arm["evaluations"][0]["by_id"]
    for policy, values in found["by_id"].items():
        assert values == pytest.approx(by_id[policy])
        assert all(value >= found["metrics"][policy][name] for name, value in values.items())
        assert f"{policy}, by ID" in printed
    assert found["by_id"] != found["metrics"]
    assert len(found["strata"]) == len(compared["strata"]) >= 3
    for one, expected in zip(found["strata"], compared["strata"], strict=True):
        assert [one[name] for name in ("kind", "name", "users")] == [
            expected[name] for name in ("kind", "name", "users")
        ]
        means = expected["metrics"][arm["arm"]]
        for policy in ("removed", "kept"):
            for name in ("R@10", "N@10"):
                assert one["metrics"][policy][name] == pytest.approx(means[policy][name]["mean"])
        shown = (means[policy]["N@10"]["mean"] for policy in ("removed", "kept"))
        line = next(
            line for line in printed.splitlines() if f"{one['kind']}: {one['name']} " in line
        )
        assert all(f"{value:.4f}" in line for value in shown)
        assert f" {one['users']} " in line


def test_pick_takes_the_run_by_place_and_says_what_it_took(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = "Causal ntp, teacher in the beam"
    assert main(["pick", "run", "--row", row, "--out", "picked"]) == 0
    assert f"picked: {row}, seed 0" in capsys.readouterr().out
    assert TrainedModel.load(here / "picked").partner is not None
    assert main(["pick", "run", "--out", "best"]) == 0
    assert main(["pick", "run", "--row", "Popularity", "--out", "x"]) == 2
    assert "no generator's" in capsys.readouterr().err
    assert main(["pick", "shop", "--out", "x"]) == 2
    assert "expected the folder of a comparison" in capsys.readouterr().err
    assert main(["pick", "model", "--out", "x"]) == 2
    assert "which is a model already. Use it as it is: semid rec" in capsys.readouterr().err
    assert main(["pick", "run", "--out", "shop"]) == 2
    assert "holds other files" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_recommend_writes_the_lists_of_every_user(here: Path, suffix: str) -> None:
    out, histories = f"lists.{suffix}", "shop/interactions.parquet"
    options = ["--model", "model", "--histories", histories, "--out", out, "--k", "3"]
    assert main(["recommend", *options]) == 0
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[suffix]
    found = read(out)
    events = pl.read_parquet(histories).group_by("user_id", maintain_order=True)
    order = events.agg(pl.col("item_id").sort_by("timestamp"))
    lists = Recommender.from_pretrained("model").recommend(order["item_id"].to_list(), k=3)
    assert found["item_id"].to_list() == [item.item_id for items in lists for item in items]
    assert found["title"].to_list() == [item.title for items in lists for item in items]
    assert found["user_id"].to_list() == [user for user in order["user_id"] for _ in range(3)]


def test_recommend_and_explain_print_what_they_are_asked(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (here / "stock.txt").write_text("7\n8\n")
    (here / "boosts.csv").write_text("item_id,boost\n8,50\n")
    typed = ["recommend", "--model", "model", "--history", "3,5", "--within", "stock.txt"]
    assert main([*typed, "--boosts", "boosts.csv"]) == 0
    printed = capsys.readouterr().out
    (first, second) = (line.split("│") for line in printed.splitlines() if "│" in line)
    assert [first[3].strip(), second[3].strip()] == ["8", "7"]
    assert "1 users have fewer than 10 items" in printed
    user = ["--histories", "shop/interactions.parquet", "--user", "5", "--k", "2"]
    assert main(["recommend", "--model", "model", *user]) == 0
    assert capsys.readouterr().out.count("│ 5 ") == 2
    assert main(["explain", "--model", "model", "--history", "3, 5", "--item", "7"]) == 0
    assert "| level | code | choices | probability |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["recommend", "--model", "shop", "--history", "1"], "a folder without model.json"),
        (["recommend", "--model", "nowhere", "--history", "1"], "no such folder"),
        (["recommend", "--model", "model/model.json", "--history", "1"], "no such folder"),
        (["recommend", "--model", "model"], "either --histories FILE or --history"),
        (["recommend", "--model", "model", "--history", "x"], "got 'x'"),
        (["recommend", "--model", "model", "--history", "999"], "--empty popular"),
        (["recommend", "--model", "model", "--history", ""], "be item IDs separated by commas"),
        (["recommend", "--model", "model", "--history", "1,,2"], "separated by commas, got '1,,2'"),
        (["recommend", "--model", "model", "--history", "[1,2]"], "item IDs separated by commas."),
        (["explain", "--model", "model", "--history", " ", "--item", "1"], "item IDs separated"),
        (["evaluate", "--model", "model", "--data", "shop", "--metrics", ""], "be metrics separ"),
        (["recommend", "--model", "model", "--history", "1", "--k", "0"], "k must be"),
        (["recommend", "--model", "model", "--history", "1", "--out", "x.txt"], "must end in"),
        (["recommend", "--model", "model", "--history", "1", "--user", "1"], "is one of a file"),
        (["explain", "--model", "model", "--history", "1", "--item", "99"], "that the model knows"),
        (["evaluate", "--model", "model", "--data", "nowhere"], "no folder nowhere"),
        (["train", "--data", "synthetic", "--out", "x", "--arm", "casual:ntp"], "causal"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(
    here: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert line in said
    assert "\n" not in said


@pytest.mark.slow
def test_two_processes_write_the_file_of_one(here: Path) -> None:
    options = ["--model", "model", "--histories", "shop/interactions.parquet", "--out"]
    script = here / "small_chunks.py"
    script.write_text(
        "import sys\nfrom baselines.cli import main\nfrom baselines.models import bulk\n"
        "bulk.CHUNK = 7\nsys.exit(main(sys.argv[1:]))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    for number in ("1", "2"):
        command = [*launch, number, str(script), "recommend", *options, f"lists{number}.csv"]
        subprocess.run(command, check=True, env=env, capture_output=True)
    assert (here / "lists1.csv").read_bytes() == (here / "lists2.csv").read_bytes()
