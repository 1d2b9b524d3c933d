"""The folder of a comparison grows, moves, and is read without its data."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from baselines.cli import main
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.folder import ComparisonFolder
from baselines.experiments.run import run_comparison
from baselines.models.trained import TrainedModel

pytestmark = pytest.mark.slow

ENCODER = {"dim": 8, "num_layers": 1, "num_heads": 1, "ff_dim": 8}
TIGER = {"num_layers": 1, "dim": 8, "num_heads": 1, "head_dim": 8, "ff_dim": 8, "max_history": 4}
SETTINGS: dict[str, Any] = {
    "data": "shop",
    "arms": ["causal:ntp", "causal:soft_ce:0.5"],
    "seeds": [0],
    "ids": {"scheme": "rqkmeans", "codebook_sizes": [4, 4]},
    "teacher": {"model": "sasrec", "sasrec": {"max_history": 9, "encoder": ENCODER}},
    "teacher_training": {"epochs": 1, "precision": "fp32"},
    "training": {"epochs": 1, "precision": "fp32"},
    "backbones": {"causal": {"max_history": 9, "encoder": ENCODER}},
    "evaluation": {"beam": 10, "validation_beam": 5, "validation_targets": 20, "certified": 2},
    "resamples": 20,
}
GROWN: dict[str, Any] = {
    "arms": ["causal:ntp", "causal:soft_ce:0.5", "tiger:ntp", "causal@random:ntp"],
    "seeds": [0, 1],
    "schemes": {"random": {"scheme": "random", "codebook_sizes": [4, 4]}},
    "backbones": {**SETTINGS["backbones"], "tiger": TIGER},
    "evaluation": {**SETTINGS["evaluation"], "cutoffs": [3, 10], "metrics": ["ndcg", "coverage"]},
    "fusion": {"arms": ["causal:ntp"], "weights": [0.3, 0.7], "controls": True},
    "resamples": 30,
}


def compare(out: Path, **changes: Any) -> int:
    settings = out.with_name(f"{out.name}.json")
    settings.write_text(json.dumps({**SETTINGS, **changes}))
    return main(["compare", "--config", str(settings), "--out", str(out)])


def table(out: Path) -> Any:
    text = (out / "comparison.json").read_text()
    return json.loads(re.sub(r'"\w*seconds\w*": [\d.]+', '"seconds": 0', text))


def files(out: Path, *patterns: str) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and what it holds."""
    paths = (path for pattern in patterns for path in out.rglob(pattern) if path.is_file())
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths
    }


def weights(out: Path) -> dict[str, tuple[int, bytes]]:
    return files(out, "model.safetensors", "state.json", "provenance.json", "mass.npy")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data and a finished comparison of them."""
    folder = tmp_path_factory.mktemp("place")
    write_plain_layout(
        synthetic_dataset(num_users=40, num_items=32, num_categories=2), folder / "shop"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert compare(folder / "run") == 0
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working directory."""
    shutil.copytree(place, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_seeds_arms_schemes_metrics_and_fusion_are_added_and_left_out_with_nothing_trained_again(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, first = weights(here / "run"), table(here / "run")
    assert compare(here / "run", **GROWN) == 0
    assert "leaves out" not in caplog.text
    assert compare(here / "fresh", **GROWN) == 0
    assert table(here / "run") == table(here / "fresh")
    grown = weights(here / "run")
    assert {name: grown[name] for name in before} == before
    assert {name.split("/")[0] for name in grown.keys() - before.keys()} == {
        *("causal-ntp-1", "causal-soft_ce-0.5-1", "tiger-ntp-0", "tiger-ntp-1"),
        *("causal@random-ntp-0", "causal@random-ntp-1", "ids-random", "teachers", "mass"),
    }
    kept = json.loads((here / "run" / "config.json").read_text())
    assert (kept["seeds"], kept["arms"]) == (GROWN["seeds"], GROWN["arms"])
    assert compare(here / "run") == 0
    (line,) = (each for each in caplog.messages if "leaves out" in each)
    left_out = line.removeprefix("the table leaves out ").split(": finished, and kept in")[0]
    assert {"TIGER ntp", "Causal ntp, teacher in the beam", "seed 1"} <= {*left_out.split("; ")}
    assert not {"Causal ntp", "seed 0"} & {*left_out.split("; ")}
    assert table(here / "run") == first
    assert weights(here / "run") == grown, "what is left out of the table is kept"


def test_a_half_done_comparison_grows(here: Path) -> None:
    (here / "run" / "comparison.json").unlink()
    shutil.rmtree(here / "run" / "causal-soft_ce-0.5-0")
    before = weights(here / "run")
    assert compare(here / "run", arms=["causal:soft_ce:0.5", "causal:msl"]) == 0
    assert compare(here / "fresh", arms=["causal:soft_ce:0.5", "causal:msl"]) == 0
    assert table(here / "run") == table(here / "fresh")
    assert {name: weights(here / "run")[name] for name in before} == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"evaluation": {**SETTINGS["evaluation"], "beam": 11}}, "evaluation.beam"),
        ({"training": {"epochs": 2, "precision": "fp32"}}, "training.epochs"),
        ({"teacher": {"model": "itemknn"}}, "teacher.model, teacher.sasrec"),
        ({"teacher_training": {"epochs": 2, "precision": "fp32"}}, "teacher_training.epochs"),
        ({"ids": {"scheme": "random", "codebook_sizes": [4, 4]}}, "ids.scheme"),
        ({"ids": {"codebook_sizes": [4, 8]}}, "ids.codebook_sizes"),
        ({"masked": False, "tau": 0.5}, "masked, tau"),
        ({"mass": {"top_k": 9}, "split": "leave_one_out"}, "mass.top_k, split"),
        (
            {"backbones": {"causal": {"max_history": 8, "encoder": ENCODER}}},
            "backbones.causal.max_history",
        ),
    ],
)
def test_what_something_was_made_with_is_refused_by_name_and_nothing_is_changed(
    here: Path, changes: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(here / "run", "*")
    assert compare(here / "run", seeds=[0, 1], **changes) == 2
    assert f"other settings ({named}" in capsys.readouterr().err
    assert files(here / "run", "*") == before


def test_a_scheme_is_refused_when_it_changes_and_not_before_it_is_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unused = {"mine": {"scheme": "random", "codebook_sizes": [4, 4]}}
    assert compare(here / "run", schemes=unused) == 0
    made = {"mine": {"scheme": "random", "codebook_sizes": [8, 8]}}
    arms = ["causal:ntp", "causal@mine:ntp"]
    assert compare(here / "run", schemes=made, arms=arms) == 0
    assert compare(here / "run", schemes=unused, arms=arms) == 2
    assert "other settings (schemes.mine.codebook_sizes)" in capsys.readouterr().err


def test_the_seed_whose_teacher_made_ids_stays_the_first(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letter = {
        "scheme": "letter",
        "codebook_sizes": [4, 4],
        "cf_embeddings": "teacher",
        "settings": {"epochs": 2},
    }
    settings = {"schemes": {"letter": letter}, "arms": ["causal@letter:ntp"]}
    assert compare(here / "run", **settings) == 0
    assert compare(here / "run", seeds=[1, 0], **settings) == 2
    said = capsys.readouterr().err
    assert "the first of seeds, whose teacher schemes.letter was made from" in said
    assert compare(here / "run", seeds=[0, 1], **settings) == 0
    assert compare(here / "fresh", seeds=[0, 1], **settings) == 0
    assert table(here / "run") == table(here / "fresh")


def test_a_comparison_that_is_growing_is_not_finished(here: Path) -> None:
    run = here / "run"
    settings = json.loads((run / "config.json").read_text())
    del settings["seal"]
    (run / "config.json").write_text(json.dumps({**settings, "seeds": [0, 1]}))
    with pytest.raises(ValueError, match="is not finished"):
        ComparisonFolder.read(run)


def test_a_folder_goes_on_where_it_is_moved_to_and_from_any_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, first = weights(here / "run"), table(here / "run")
    (here / "elsewhere").mkdir()
    shutil.move(here / "run", here / "elsewhere" / "moved")
    shutil.move(here / "shop", here / "market")
    monkeypatch.chdir(here / "elsewhere")
    assert compare(Path("moved"), data="../market") == 0
    assert weights(Path("moved")) == before
    again = table(Path("moved"))
    assert again["settings"].pop("data") == "market"
    assert first["settings"].pop("data") == "shop"
    assert again == first


def test_shared_folders_may_move(here: Path) -> None:
    shared = {"teachers": "teachers", "mass_cache": "masses"}
    assert compare(here / "out", **shared) == 0
    before = weights(here)
    for name in shared.values():
        shutil.move(name, f"the_{name}")
    moved = {name: f"the_{folder}" for name, folder in shared.items()}
    assert compare(here / "out", **moved) == 0
    assert {name.removeprefix("the_"): found for name, found in weights(here).items()} == before


def test_files_that_ids_were_made_from_may_move(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {str(item): [item % 4, item // 4] for item in range(1, 33)}
    Path("codes.json").write_text(json.dumps(codes))
    settings = {"arms": ["causal:ntp"], "ids": {"scheme": "file:codes.json"}}
    assert compare(here / "out", **settings) == 0
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    moved = {**settings, "ids": {"scheme": "file:../codes.json"}, "data": "../shop"}
    assert compare(here / "out", **moved) == 0
    Path("codes.json").write_text(json.dumps({**codes, "1": [3, 0]}))
    assert compare(here / "out", **{**moved, "ids": {"scheme": "file:codes.json"}}) == 2
    assert "made from other codes_file than now" in capsys.readouterr().err


def add_an_event(shop: Path) -> None:
    events = pl.read_parquet(shop / "interactions.parquet")
    pl.concat([events, events.tail(1)]).write_parquet(shop / "interactions.parquet")


def test_its_data_are_found_from_any_working_directory(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here / "run"
    data = json.loads((run / "data.json").read_text())
    assert data["working_directory"] != os.getcwd(), "it was made elsewhere, and copied"
    monkeypatch.chdir(here)
    assert compare(run) == 0
    monkeypatch.chdir(tmp_path)
    found = ComparisonFolder.read(run)
    assert found.dataset.splits.test.content_hash() == data["test"]
    assert [arm.label for arm in found.arms] == ["Causal ntp", "Causal+TCA soft_ce alpha=0.5"]


@pytest.mark.parametrize("fate", ["a new event", "gone"])
def test_models_are_read_without_their_data(here: Path, fate: str) -> None:
    dataset = load_dataset("shop")
    assert compare(here / "run") == 0  # here and not where it was copied from
    add_an_event(here / "shop") if fate == "a new event" else shutil.rmtree(here / "shop")
    found = ComparisonFolder.read(here / "run")
    row = next(row for row in table(found.folder)["rows"] if row["arm"] == found.arms[1].label)
    model = TrainedModel.load(found.trained(found.arms[1], 0))
    ranks, _ = model.evaluate(dataset, here / "again", "again")
    expected = row["metrics"]["removed"]["N@10"]["mean"]
    assert ranks.metrics("removed", "expected")["N@10"].mean() == pytest.approx(expected)
    said = "other data than shop holds now" if fate == "a new event" else "data that are gone"
    with pytest.raises(ValueError, match=said):
        found.dataset  # noqa: B018


def notebook() -> Dataset:
    return synthetic_dataset(num_users=40, num_items=32, num_categories=2, seed=3)


def test_a_data_set_of_a_notebook_is_compared_on(here: Path) -> None:
    config = dataclasses.replace(ComparisonFolder.read("run").config, out="given")
    comparison = run_comparison(config, dataset=notebook())
    assert comparison.settings["data"] == notebook().name
    kept = [
        json.loads((here / "given" / f"{name}.json").read_text()) for name in ("config", "data")
    ]
    assert kept[0]["data"] == kept[1]["name"] == notebook().name
    assert kept[1]["given"] is True
    before, first = weights(here / "given"), table(here / "given")
    run_comparison(config, dataset=notebook())
    assert table(here / "given") == first
    assert weights(here / "given") == before
    with pytest.raises(ValueError, match="data that code has made"):
        ComparisonFolder.read("given").dataset  # noqa: B018
    found = ComparisonFolder.read("given", notebook()).dataset
    assert found.splits.test.content_hash() == kept[1]["test"]
    with pytest.raises(ValueError, match="begun on other data"):
        run_comparison(config, dataset=load_dataset("shop"))
    write_plain_layout(notebook(), "written")
    assert compare(here / "given", data="written") == 0, "the same data, read from a folder"
    assert weights(here / "given") == before


def test_a_file_that_names_a_reader_does_not_run_it(here: Path) -> None:
    assert compare(here / "read", data=f"{__name__}:notebook") == 0
    found = ComparisonFolder.read("read")
    with pytest.raises(ValueError, match=r"data that code has made \(.*:notebook\)"):
        found.dataset  # noqa: B018
    given = ComparisonFolder.read("read", notebook()).dataset
    assert given.splits.train_hash == notebook().splits.train_hash
    write_plain_layout(notebook(), "written")
    assert compare(here / "read", data="written") == 0
    assert ComparisonFolder.read("read").dataset.splits.train_hash == given.splits.train_hash
