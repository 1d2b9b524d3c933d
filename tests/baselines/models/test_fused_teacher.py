"""A finished model, with or without a teacher in its beam, as a teacher."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from baselines.cli import main
from baselines.contracts.scorer import LeavesOwnOut
from baselines.data.batches import Histories, histories_of_targets
from baselines.data.synthetic import synthetic_dataset
from baselines.models.fused_teacher import FusedTeacher
from baselines.models.search import best_items
from baselines.models.trained import Partner, TrainedModel
from baselines.teachers.fitted import FittedTeacher
from semid.provenance import ProvenanceError
from tests.tiny_models import ENCODER, fit_model, shop, with_teacher

TEMPERATURE, WEIGHT = 0.7, 0.4  # of tests.tiny_models.with_teacher


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return fit_model(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def fused(alone: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """With rules in its beam, saved whole."""
    folder = tmp_path_factory.mktemp("fused")
    model = with_teacher(alone, folder, "rules")
    model.save(folder / "model")
    return dataclasses.replace(model, folder=folder / "model")


def training_histories() -> Histories:
    _, histories = next(histories_of_targets(shop().splits.train, 9, 12))
    return histories


def in_item_order(model: TrainedModel, histories: Histories) -> Tensor:
    """What the model's search says about every item; its beam holds every path."""
    found = best_items(model, histories, k=48)
    assert (found.items >= 0).all()
    return torch.zeros_like(found.scores).scatter_(1, found.items, found.scores)


def sharers(model: TrainedModel) -> Tensor:
    """Number of items with the codes of each; ``(item,)``."""
    codes = model.items.ids.codes
    return (codes[:, None] == codes[None]).all(dim=-1).sum(dim=1)


def test_without_a_partner_scores_are_the_generators_log_probabilities(alone: TrainedModel) -> None:
    histories = training_histories()
    found = FusedTeacher(shop(), 0, path=str(alone.folder)).score(histories)
    assert_close(found, in_item_order(alone, histories) - sharers(alone).log())
    assert_close(found.exp().sum(dim=1), torch.ones(len(found)))


def test_scores_are_the_weighted_log_probabilities_of_both(
    alone: TrainedModel, fused: TrainedModel
) -> None:
    histories = training_histories()
    paths = in_item_order(alone, histories) - sharers(alone).log()
    assert fused.partner is not None
    assert isinstance(fused.partner.model, FittedTeacher)
    rules = (fused.partner.model.model.score(histories) / TEMPERATURE).log_softmax(dim=1)
    chosen = FusedTeacher(shop(), 0, path=str(fused.folder))
    assert_close(chosen.score(histories), WEIGHT * paths + (1 - WEIGHT) * rules)
    given = FusedTeacher(shop(), 0, path=str(fused.folder), weight=0.9)
    assert_close(given.score(histories), 0.9 * paths + 0.1 * rules)


def test_own_events_are_left_out_of_the_counts_alone(fused: TrainedModel) -> None:
    histories, train = training_histories(), shop().splits.train
    teacher = FusedTeacher(shop(), 0, path=str(fused.folder))
    rules = teacher.partner
    assert isinstance(rules, LeavesOwnOut)
    honest = (rules.score_without_own(histories, train) / TEMPERATURE).log_softmax(dim=1)
    in_sample = (teacher.partner.score(histories) / TEMPERATURE).log_softmax(dim=1)
    change = teacher.score_without_own(histories, train) - teacher.score(histories)
    assert change.abs().max() > 0.01
    assert_close(change, (1 - WEIGHT) * (honest - in_sample), atol=1e-5, rtol=1e-4)


def test_what_cannot_be_taught_back_is_refused(alone: TrainedModel, tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError, match="training part of the model"):
        FusedTeacher(synthetic_dataset(num_users=61, num_items=48), 0, path=str(alone.folder))
    with pytest.raises(ValueError, match="expected weight 1 of a model without a partner"):
        FusedTeacher(shop(), 0, path=str(alone.folder), weight=0.5)
    with pytest.raises(ValueError, match="need a counted partner in its beam, got none"):
        FusedTeacher(shop(), 0, path=str(alone.folder)).score_without_own(
            training_histories(), shop().splits.train
        )
    two = dataclasses.replace(alone, partner=Partner(model=alone, weight=0.5))
    two.save(tmp_path / "two")
    with pytest.raises(ValueError, match="got a second generator"):
        FusedTeacher(shop(), 0, path=str(tmp_path / "two"))


def compare(model: TrainedModel, folder: Path, labels: str) -> int:
    """A comparison in ``folder / "run"`` whose teacher is a finished model."""
    shape = {"max_history": 9, "encoder": dataclasses.asdict(ENCODER)}
    settings = {
        "data": "synthetic:60x48",
        "out": str(folder / "run"),
        "seeds": [0],
        "arms": ["causal:ntp", "causal:soft_ce:0.5"],
        "ids": {"codebook_sizes": [4, 4]},
        "mass": {"labels": labels},
        "teacher": {
            "model": "baselines.models.fused_teacher:FusedTeacher",
            "settings": {"path": str(model.folder)},
        },
        "backbones": {"causal": shape},
        "training": {"epochs": 1, "precision": "fp32"},
        "evaluation": {"beam": 10, "validation_beam": 5, "validation_targets": 20},
        "counted": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return main(["compare", "--config", str(folder / "settings.json")])


def test_a_student_learns_from_honest_labels_of_a_finished_model(
    fused: TrainedModel, tmp_path: Path
) -> None:
    assert compare(fused, tmp_path, "leave_own_out") == 0
    run = tmp_path / "run"
    rows = json.loads((run / "comparison.json").read_text())["rows"]
    assert [row["role"] for row in rows] == ["reference", "teacher", "arm", "arm"]
    assert rows[1]["arm"] == "Causal + Rules (teacher)"
    assert rows[3]["evaluations"][0]["labels"] == "leave_own_out"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    assert len(before) == 3  # the teacher and two arms
    assert compare(fused, tmp_path, "leave_own_out") == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("leave_own_out", "need a counted partner"), ("crossfit:2", "training part of the model")],
)
def test_labels_that_would_not_be_honest_are_refused(
    alone: TrainedModel,
    tmp_path: Path,
    labels: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare(alone, tmp_path, labels) == 2
    assert expected in capsys.readouterr().err
