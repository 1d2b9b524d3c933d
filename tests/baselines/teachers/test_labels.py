"""Honest labels: each training target is labelled by a teacher that has not seen its user."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from worlds import random_sequences

from baselines.cli import main
from baselines.contracts.scorer import LeavesOwnOut
from baselines.data.batches import histories_of_targets
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.teachers.calibration import calibrate
from baselines.teachers.config import ItemKNNConfig, MassConfig, TeacherConfig, teacher_training
from baselines.teachers.content import Content
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.itemknn import ItemKNN
from baselines.teachers.labels import Labeller, labeller, parts_of_users, settled_labels
from baselines.teachers.rules import Rules
from baselines.teachers.rules_and_content import RulesAndContent
from baselines.teachers.simple import Popularity

TINY = {
    "data": "synthetic:60x40",
    "seeds": [0],
    "arms": ["causal:ntp", "causal:soft_ce:0.5"],
    "ids": {"codebook_sizes": [4, 4]},
    "teacher": {"sasrec": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}},
    "teacher_training": {"epochs": 1},
    "backbones": {"causal": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}},
    "training": {"epochs": 1},
    "evaluation": {"beam": 10, "validation_beam": 5, "validation_targets": 20},
    "counted": False,
}


def labelled(
    dataset: Dataset, config: MassConfig, folder: Path, model: str, temperature: object = 1.0
) -> tuple[FittedTeacher, Labeller]:
    def fit(data: Dataset) -> FittedTeacher:
        return FittedTeacher.fit(
            data,
            TeacherConfig(model=model),
            teacher_training(),
            seed=0,
            folder=folder,
            temperature=temperature,  # type: ignore[arg-type]
        )

    return fit(dataset), labeller(config, fit(dataset), dataset, fit)


def test_in_sample_labels_are_the_teachers(tmp_path: Path) -> None:
    teacher, labels = labelled(
        synthetic_dataset(), MassConfig(labels="in_sample"), tmp_path, "popularity", 0.7
    )
    assert labels.scorer is not None
    assert (labels.scores_hash, labels.temperature) == (teacher.scores_hash, 0.7)


def test_crossfitted_labels_are_those_of_a_teacher_without_the_users_part(tmp_path: Path) -> None:
    dataset = synthetic_dataset(num_users=50, num_items=32)
    train = dataset.splits.train
    _, labels = labelled(dataset, MassConfig(labels="crossfit:3"), tmp_path, "itemknn")
    part = parts_of_users(dataset, 3)
    without = [
        ItemKNN(ItemKNNConfig(), train.select(part[train.users] != each), len(dataset.catalog))
        for each in range(3)
    ]
    for _, histories in histories_of_targets(train, 50, 64):
        found = labels.scorer.score(histories)
        for row, user in enumerate(histories.users.tolist()):
            alone = dataclasses.replace(
                histories,
                items=histories.items[row : row + 1],
                mask=histories.mask[row : row + 1],
                users=histories.users[row : row + 1],
            )
            expected = without[part[user]].score(alone)[0]
            torch.testing.assert_close(found[row], expected)


def test_every_user_is_in_one_part_and_parts_are_of_equal_size() -> None:
    dataset = synthetic_dataset(num_users=50, num_items=32)
    users = np.unique(dataset.splits.train.users)
    sizes = Counter(parts_of_users(dataset, 7)[users].tolist())
    assert sorted(sizes) == list(range(7))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert (parts_of_users(dataset, 7) == parts_of_users(dataset, 7)).all()
    with pytest.raises(ValueError, match=r"crossfit:60 need as many users, got 50"):
        parts_of_users(dataset, 60)


def test_popularity_without_the_users_own_events_is_counted_without_him(tmp_path: Path) -> None:
    dataset = synthetic_dataset(num_users=40, num_items=32)
    train = dataset.splits.train
    _, labels = labelled(dataset, MassConfig(labels="leave_own_out"), tmp_path, "popularity")
    for _, histories in histories_of_targets(train, 5, 64):
        found = labels.scorer.score(histories)
        for row, user in enumerate(histories.users.tolist()):
            others = train.select(train.users != user)
            expected = Popularity(others, 32).score(histories)[0]
            torch.testing.assert_close(found[row], expected)


def test_events_of_users_are_those_of_all_their_sequences() -> None:
    data = random_sequences(9, 12, longest=6, seed=3)
    data = dataclasses.replace(data, users=np.array([4, 1, 4, 0, 1, 4, 2, 6, 0, 0, 4, 5]))
    asked = np.array([4, 3, 0, 9])
    row, items = data.events_of(asked)
    for number, user in enumerate(asked.tolist()):
        own = [
            item
            for sequence in np.flatnonzero(data.users == user)
            for item in data.items[data.offsets[sequence] : data.offsets[sequence + 1]].tolist()
        ]
        assert items[row == number].tolist() == own


def test_the_temperature_is_that_of_the_honest_scores(tmp_path: Path) -> None:
    dataset = synthetic_dataset(num_users=80, num_items=32)
    config = MassConfig(labels="leave_own_out")
    teacher, labels = labelled(dataset, config, tmp_path, "popularity", "auto")
    expected = calibrate(labels.scorer, dataset.splits.valid).temperature
    assert labels.temperature == expected != teacher.temperature


@pytest.mark.parametrize("labels", ["honest", "crossfit", "crossfit:1", "crossfit:101", ""])
def test_unknown_labels_are_refused(labels: str) -> None:
    with pytest.raises(
        ValueError, match="labels must be auto, in_sample, leave_own_out or crossfit:K"
    ):
        MassConfig(labels=labels)


def test_auto_is_honest_where_that_costs_nothing(tmp_path: Path) -> None:
    assert MassConfig().labels == "auto"
    for model, honest in [("popularity", "leave_own_out"), ("itemknn", "in_sample")]:
        _, found = labelled(synthetic_dataset(), MassConfig(), tmp_path / model, model)
        _, named = labelled(synthetic_dataset(), MassConfig(labels=honest), tmp_path / model, model)
        assert found.scores_hash == named.scores_hash
    assert (
        settled_labels(MassConfig(top_k=3), Popularity, synthetic_dataset()).labels == "in_sample"
    )


def test_which_teachers_can_leave_events_out() -> None:
    for teacher in (Popularity, Rules, Content, RulesAndContent):
        assert issubclass(teacher, LeavesOwnOut)
    assert not issubclass(ItemKNN, LeavesOwnOut)


def test_a_comparison_leaves_own_events_out_of_rules_and_content(tmp_path: Path) -> None:
    teacher, mass = {"model": "rules+content"}, {"labels": "leave_own_out"}
    assert compare(tmp_path, teacher=teacher, mass=mass, temperature="auto") == 0
    (path,) = (tmp_path / "run").glob("causal-soft_ce*/provenance.json")
    honest = json.loads(path.read_text())
    assert honest["config"]["mass"] == {"labels": "leave_own_out", "top_k": None} | {
        "mask_history": False,
        "tail": "sampled",
    }
    assert honest["inputs"]["labels"] != honest["inputs"]["teacher"]


@pytest.mark.parametrize("labels", ["leave_own_out", "crossfit:2"])
def test_users_must_be_known(labels: str, tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        windows = {"history": ["1 2", "2 3"], "item_id": [3, 1]}
        pl.DataFrame(windows).write_parquet(tmp_path / f"{name}.parquet")
    pl.DataFrame({"item_id": [1, 2, 3], "title": ["a", "b", "c"]}).write_parquet(
        tmp_path / "items.parquet"
    )
    dataset = load_dataset(tmp_path)
    with pytest.raises(ValueError, match="have no user_id"):
        labelled(dataset, MassConfig(labels=labels), tmp_path / "teachers", "popularity")
    assert labelled(dataset, MassConfig(), tmp_path / "teachers", "popularity")


def compare(folder: Path, **changes: object) -> int:
    (folder / "tiny.json").write_text(json.dumps(TINY | changes))
    return main(["compare", "--config", f"{folder}/tiny.json", "--out", f"{folder}/run"])


def test_a_comparison_with_crossfitted_labels_is_not_trained_twice(tmp_path: Path) -> None:
    assert compare(tmp_path, mass={"labels": "crossfit:2"}) == 0
    run = tmp_path / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    assert len(before) == 5  # the teacher, one for each part, and two arms
    assert compare(tmp_path, mass={"labels": "crossfit:2"}) == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    rows = json.loads((run / "comparison.json").read_text())["rows"]
    notes = {row["arm"]: row["evaluations"][0] for row in rows}
    (aligned,) = (found for arm, found in notes.items() if "soft_ce" in arm)
    assert aligned["labels"] == "crossfit:2"
    assert aligned["labels_seconds"] >= 0
    assert not any("labels" in found for arm, found in notes.items() if "soft_ce" not in arm)


def test_arms_of_one_comparison_may_be_labelled_differently(tmp_path: Path) -> None:
    arms = ["causal:soft_ce:0.5:labelled=in_sample", "causal:soft_ce:0.5"]
    teacher = {"model": "popularity"}
    assert compare(tmp_path, arms=arms, teacher=teacher, temperature="auto") == 0
    honest, in_sample = (
        json.loads((tmp_path / "run" / folder / "provenance.json").read_text())
        for folder in ("causal-soft_ce-0.5-0", "causal-soft_ce-0.5-labelledin_sample-0")
    )
    assert honest["config"]["mass"]["labels"] == "leave_own_out"
    assert "labels" not in in_sample["config"]["mass"]
    assert "labels" not in in_sample["inputs"]
    rows = json.loads((tmp_path / "run" / "comparison.json").read_text())["rows"]
    labels = [row["evaluations"][0].get("labels") for row in rows if row["role"] == "arm"]
    assert labels == [None, "leave_own_out"]


@pytest.mark.parametrize(
    ("mass", "named"),
    [
        ({"labels": "leave_own_out"}, "counted and can leave a user's events out"),
        ({"labels": "crossfit:2", "top_k": 5}, "top_k needs one"),
        ({"labels": "crossfit:99", "mask_history": True}, "as many users"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_training(
    mass: dict[str, object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, mass=mass) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.rglob("model.safetensors"))
