"""The titles of a comparison's arms, written and judged from the command line."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny_lm import write_model

from baselines.cli import main
from baselines.data.batches import Windows
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.config import FluencyConfig
from baselines.experiments.fluency_study import study_fluency
from baselines.experiments.folder import ComparisonFolder
from baselines.lm.fluency import fluency, valid_titles
from baselines.models.merging import load_adapter
from semid.decoding import beam_search, rank_items

ARMS = ("LM msl", "LM+TCA soft_ntp alpha=0.1")
FOLDERS = ("lm-msl", "lm-soft_ntp-0.1")
FREELY, WITHIN = "freely", "within the catalogue"
HISTORIES = 12


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shop"
    write_plain_layout(synthetic_dataset(num_users=20, num_items=24, num_categories=2), folder)
    return folder


def compare(shop: Path, out: Path, *options: str, arms: str) -> int:
    return main(
        [
            "compare",
            *("--data", str(shop), "--out", str(out), "--arms", arms, "--seeds", "[0,1]"),
            *("--ids.codebook_sizes", "[4,4]", "--resamples", "20"),
            *("--teacher_training.epochs", "1", "--training.epochs", "2", "--training.lr", "0.02"),
            *("--evaluation.beam", "10", "--evaluation.validation_beam", "5"),
            *("--evaluation.validation_targets", "10", "--evaluation.certified", "4"),
            *("--backbones.lm.model", str(shop.parent / "model")),
            *("--backbones.lm.template", "{history} "),  # ends in a token that titles have
            *("--training.eval_every", "2"),
            *options,
        ]
    )


@pytest.fixture(scope="module")
def done(shop: Path) -> Path:
    write_model(shop.parent / "model", titles_of(load_dataset(shop)), std=0.05)
    out = shop.parent / "run"
    assert compare(shop, out, arms="[causal:ntp,lm:msl,lm:soft_ntp:0.1]") == 0
    command = ["lm", "fluency", "--run", str(out), "--histories", str(HISTORIES)]
    assert main([*command, "--batch_size", "5", "--resamples", "50"]) == 0
    return out


def titles_of(dataset: Dataset) -> list[str]:
    return dataset.catalog.texts("{title}")


def study(done: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((done / "fluency" / "fluency.json").read_text())
    return found


def row(done: Path, writer: str, how: str) -> dict[str, Any]:
    (found,) = (r for r in study(done)["rows"] if (r["writer"], r["how"]) == (writer, how))
    return dict(found)


def written(done: Path, name: str, how: str) -> list[str]:
    found: list[str] = json.loads((done / "fluency" / f"{name}.json").read_text())[how]
    return found


def targets(shop: Path, number: int = HISTORIES) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Which test targets are in the sample, and their titles."""
    dataset = load_dataset(shop)
    test = dataset.splits.test
    chosen = np.sort(np.random.default_rng(0).permutation(test.num_targets)[:number])
    items = Windows.per_target(test, 5).batch(chosen).target_items
    return chosen, [titles_of(dataset)[item] for item in items]


def test_the_rows_are_the_catalogue_the_base_and_every_arm_in_both_ways(done: Path) -> None:
    assert [(row["writer"], row["how"]) for row in study(done)["rows"]] == [
        ("the catalogue", "the true next titles"),
        *((writer, FREELY) for writer in ("the base model", *ARMS)),
        *((writer, WITHIN) for writer in ("the base model", *ARMS)),
    ]
    assert study(done)["first"] == ARMS[0]
    assert all(row(done, arm, FREELY)["seeds"] == [0, 1] for arm in ARMS)
    page = (done / "fluency" / "fluency.md").read_text()
    assert page.count("\n| ") == 2 + len(study(done)["rows"])
    assert "12 of 20" in page


def test_the_figures_are_those_of_the_titles_that_were_written(shop: Path, done: Path) -> None:
    titles = titles_of(load_dataset(shop))
    _, wanted = targets(shop)
    judge = ComparisonFolder.read(done).fresh(ComparisonFolder.read(done).arms[1], 0).eval()
    for writer, folders in (
        ("the base model", ["base"]),
        (ARMS[0], [f"{FOLDERS[0]}-{seed}" for seed in (0, 1)]),
        (ARMS[1], [f"{FOLDERS[1]}-{seed}" for seed in (0, 1)]),
    ):
        for how in (FREELY, WITHIN):
            found = row(done, writer, how)
            for name, of_seed in zip(folders, found["of_seeds"], strict=True):
                texts = written(done, name, how)
                assert len(texts) == HISTORIES
                read = fluency(judge.base, judge.tokenizer, texts)
                assert of_seed["perplexity"] == pytest.approx(read.perplexity, rel=1e-4)
                assert of_seed["text_perplexity"] == pytest.approx(read.text_perplexity, rel=1e-4)
                valid = valid_titles(texts, titles)
                assert (of_seed["exact"], of_seed["normalised"]) == (valid.exact, valid.normalised)
                assert of_seed["distinct"] == len(set(texts)) / HISTORIES
                hits = sum(a == b for a, b in zip(texts, wanted, strict=True))
                assert of_seed["hit"] == pytest.approx(hits / HISTORIES)
            seeds = found["of_seeds"]
            for name in ("exact", "hit"):
                mean = sum(of_seed[name] for of_seed in seeds) / len(seeds)
                assert found[name]["mean"] == pytest.approx(mean)
                assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
            logs = [math.log(of_seed["text_perplexity"]) for of_seed in seeds]
            mean = math.exp(sum(logs) / len(logs))
            assert found["text_perplexity"]["mean"] == pytest.approx(mean)
    own = fluency(judge.base, judge.tokenizer, wanted)
    found = row(done, "the catalogue", "the true next titles")
    assert found["text_perplexity"]["mean"] == pytest.approx(own.text_perplexity, rel=1e-4)
    assert found["perplexity"] == pytest.approx(own.perplexity, rel=1e-4)
    assert found["hit"]["mean"] == found["exact"]["mean"] == 1


def test_arms_are_measured_against_the_first_arm_history_by_history(done: Path) -> None:
    for how in (FREELY, WITHIN):
        first = row(done, ARMS[0], how)
        assert first["perplexity_ratio"] is None
        for writer in ("the base model", ARMS[1]):
            found = row(done, writer, how)
            ratio = found["text_perplexity"]["mean"] / first["text_perplexity"]["mean"]
            assert found["perplexity_ratio"]["mean"] == pytest.approx(ratio)
            for name in ("exact", "hit"):
                gain = found[name]["mean"] - first[name]["mean"]
                assert found[f"{name}_gain"]["mean"] == pytest.approx(gain)


def test_within_the_catalogue_every_title_exists_and_is_the_beams_best(
    shop: Path, done: Path
) -> None:
    for writer in ("the base model", *ARMS):
        assert row(done, writer, WITHIN)["exact"]["mean"] == 1
    assert row(done, "the base model", FREELY)["exact"]["mean"] == 0
    config = FluencyConfig(run=str(done), histories=6, beam=24, resamples=20)
    before = (done / "fluency" / f"{FOLDERS[0]}-1.json").read_text()
    study_fluency(config)
    finished = ComparisonFolder.read(done)
    arm, titles = finished.arms[1], titles_of(finished.dataset)
    backbone = finished.fresh(arm, 1)
    load_adapter(finished.trained(arm, 1), backbone)  # type: ignore[arg-type]
    chosen, _ = targets(shop, 6)
    windows = Windows.per_target(finished.dataset.splits.test, backbone.max_history)
    start = backbone.start(windows.batch(chosen).windows.without_last())
    ranked = beam_search(start, backbone.trie, beam=24, renormalize="none")
    best = rank_items(ranked, backbone.trie, k=1).items[:, 0]
    found = written(done, f"{FOLDERS[0]}-1", WITHIN)
    assert found == [titles[item] for item in best]
    (done / "fluency" / f"{FOLDERS[0]}-1.json").write_text(before)


def test_what_was_written_is_kept_and_read_again(
    shop: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FluencyConfig(run=str(done), histories=4, batch_size=3, resamples=20)
    first = study_fluency(config)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr("baselines.experiments.fluency_study.write_titles", forbidden)
    assert study_fluency(config) == first
    with pytest.raises(AssertionError, match="written again"):
        study_fluency(FluencyConfig(run=str(done), histories=5))


def test_data_and_base_are_found_from_any_working_directory(
    shop: Path,
    done: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As if it had run in the folder of data and base, and moved since."""
    place, run = tmp_path / "place", tmp_path / "moved"
    shutil.copytree(shop, place / "shop")
    shutil.copytree(shop.parent / "model", place / "model")
    shutil.copytree(done, run, ignore=shutil.ignore_patterns("fluency"))
    for name in ("config.json", "data.json"):
        values = json.loads((run / name).read_text())
        del values["seal"]
        if name == "config.json":
            values["data"] = "shop"
            values["backbones"]["lm"]["model"] = "model"
        else:
            values["working_directory"] = str(place)
        (run / name).write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    config = FluencyConfig(run="moved", histories=4, resamples=20)
    expected = study_fluency(dataclasses.replace(config, run=str(done)))
    assert study_fluency(config).rows == expected.rows
    events = pl.read_parquet(place / "shop" / "interactions.parquet")
    pl.concat([events, events.tail(1)]).write_parquet(place / "shop" / "interactions.parquet")
    assert main(["lm", "fluency", "--run", "moved"]) == 2
    said = capsys.readouterr().err.strip()
    assert "the comparison in moved was made on other data than" in said
    assert "\n" not in said.split("semid: ")[-1]


def test_what_cannot_be_judged_is_refused_in_one_line(
    shop: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(run: Path, *options: str) -> str:
        assert main(["lm", "fluency", "--run", str(run), *options]) == 2
        return capsys.readouterr().err

    assert "expected the folder of a comparison" in refused(tmp_path)
    assert "expected the folder of a comparison" in refused(tmp_path / "nothing")
    assert "histories must be a whole number of at least 1" in refused(done, "--histories", "0")
    assert compare(shop, tmp_path / "causal", "--training.epochs", "1", arms="[causal:ntp]") == 0
    assert "lm: arms that write titles" in refused(tmp_path / "causal")
    (tmp_path / "causal" / "comparison.json").unlink()
    assert "is not finished" in refused(tmp_path / "causal")
    settings = json.loads((done / "config.json").read_text())
    del settings["seal"]
    settings["backbones"]["lm"]["items"] = "codes"
    half = tmp_path / "half"
    half.mkdir()
    for name in ("data.json", "comparison.json"):
        (half / name).write_text((done / name).read_text())
    (half / "config.json").write_text(json.dumps(settings))
    assert "that write codes" in refused(half)
    settings["training"]["epochs"] = "many"
    (half / "config.json").write_text(json.dumps(settings))
    assert "settings that cannot be read" in refused(half)
    (half / "config.json").write_text((done / "config.json").read_text())
    (half / "data.json").write_text("{}")
    assert "other data" in refused(half)
