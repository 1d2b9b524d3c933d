"""Classes are trained, functions are taken as they are, and a folder knows which it was."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import baselines.teachers.scorer_teacher
from baselines.contracts.scorer import require_vectors
from baselines.data.batches import Histories, TrainBatch
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.teachers.adapters import CallableScorer
from baselines.teachers.calibration import fit_temperature
from baselines.teachers.config import HybridConfig, TeacherConfig
from baselines.teachers.fit import fit_teacher, read_teacher, scores_hash
from baselines.teachers.losses import catalogue_cross_entropy
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import build_teacher, teacher_class
from baselines.teachers.scorer_teacher import ScorerTeacher
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance, ProvenanceError

TRAINING = TrainingConfig(epochs=2, lr=0.05, batch_events=256)


class AfterLast(TeacherModel):
    """What follows an item, learned as a table of two factors."""

    label = "After last"
    max_history = 1

    def __init__(self, dataset: Dataset, seed: int, dim: int = 8, sharpness: float = 1.0) -> None:
        super().__init__()
        gen = torch.Generator().manual_seed(seed)
        shape = (len(dataset.catalog), dim)
        self.sharpness = sharpness
        self.before = nn.Parameter(torch.randn(shape, generator=gen) / dim)
        self.after = nn.Parameter(torch.randn(shape, generator=gen) / dim)

    def loss(self, batch: TrainBatch) -> Tensor:
        last = batch.windows.items[batch.target_row, batch.target_pos - 1]
        return catalogue_cross_entropy(self.before[last], self.after, batch.target_items)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        return self.sharpness * self.before[histories.items[:, -1]] @ self.after.T


class Nameless(AfterLast):
    label = None  # type: ignore[assignment]


class Lossless(TeacherModel):
    label = "Lossless"
    max_history = 1

    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(dataset.catalog)))

    def score(self, histories: Histories) -> Tensor:
        return self.weight.expand(len(histories.items), -1)


WEIGHT = 1.0  # what a model of another library has learned


def counts(dataset: Dataset, seed: int, power: float = 1.0) -> CallableScorer:
    num_items = len(dataset.catalog)
    popularity = np.bincount(dataset.splits.train.items, minlength=num_items) ** power

    def scores(pasts: list[list[int]]) -> list[list[float]]:
        items = range(num_items)
        return [[WEIGHT * popularity[i] * (i not in past) for i in items] for past in pasts]

    return CallableScorer(scores, num_items)


def too_few(dataset: Dataset, seed: int) -> CallableScorer:
    return CallableScorer(lambda pasts: [[0.0]] * len(pasts), 1)


def no_scorer(dataset: Dataset, seed: int) -> str:
    return "a model"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=80, num_items=40, num_categories=2)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """This file by a name that can be imported."""
    import sys

    found = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "outside", found)
    return found


def named(model: str, **settings: object) -> TeacherConfig:
    return TeacherConfig(model=f"outside:{model}", settings=settings)


def test_a_class_is_trained_and_read_again_where_it_is_named(
    dataset: Dataset, tmp_path: Path
) -> None:
    config = named("AfterLast", dim=4)
    fitted, state, lineage = fit_teacher(dataset, config, TRAINING, seed=1, folder=tmp_path)
    assert state.epoch == 2
    (own,) = tmp_path.iterdir()
    assert own.name.startswith("outside.AfterLast-1-")
    assert lineage.config["model"] == "outside:AfterLast"
    assert lineage.config["settings"] == {"dim": 4}
    untrained = build_teacher(config, dataset, 1)
    assert not torch.equal(fitted.state_dict()["after"], untrained.state_dict()["after"])

    with pytest.raises(ValueError, match=r"named by the caller, got 'outside:AfterLast'"):
        read_teacher(dataset, seed=1, folder=tmp_path)
    read, _ = read_teacher(dataset, seed=1, folder=tmp_path, model="outside:AfterLast")
    for name, value in fitted.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], value, rtol=0, atol=0)
    assert TeacherConfig.of_record(lineage.config) == config


def test_a_setting_that_only_says_how_to_score_makes_another_teacher(
    dataset: Dataset, tmp_path: Path
) -> None:
    lineages = [
        fit_teacher(
            dataset, named("AfterLast", sharpness=sharpness), TRAINING, seed=0, folder=tmp_path
        )[2]
        for sharpness in (1.0, 2.0)
    ]
    assert lineages[0].content == lineages[1].content
    assert scores_hash(lineages[0]) != scores_hash(lineages[1])


def test_a_function_is_taken_as_it_is_and_calibrated_as_any(
    dataset: Dataset, tmp_path: Path
) -> None:
    config = named("counts", power=2.0)
    fitted, state, lineage = fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)
    assert fitted.label == "outside:counts"
    assert state.epoch == 0
    assert "training" not in lineage.config
    ours, theirs = (
        rank_by_scores(scorer, dataset.splits.test).metrics("kept", "expected")
        for scorer in (fitted, counts(dataset, 0, power=2.0))
    )
    assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in theirs.items()}
    again = fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)[2]
    assert again == lineage
    read, _ = read_teacher(dataset, seed=0, folder=tmp_path, model="outside:counts")
    assert isinstance(read, ScorerTeacher)
    found = fit_temperature(
        fitted, dataset.splits.valid, teacher=scores_hash(lineage), folder=tmp_path
    )
    assert found.temperature > 0


def test_a_scorer_that_has_changed_is_refused_and_other_settings_or_source_are_another(
    dataset: Dataset, tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = named("counts")
    _, _, lineage = fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)
    _, _, other = fit_teacher(
        dataset, named("counts", power=2.0), TRAINING, seed=0, folder=tmp_path
    )
    assert len({scores_hash(lineage), scores_hash(other)}) == 2
    monkeypatch.setattr(module, "WEIGHT", 1.00001)
    fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)  # rounding is no change
    monkeypatch.setattr(module, "WEIGHT", 1.5)
    with pytest.raises(ProvenanceError, match="scores of outside:counts have changed"):
        fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)
    (own,) = [path for path in tmp_path.iterdir() if Provenance.read(path) == lineage]
    with pytest.raises(ProvenanceError, match="have changed since"):
        read_teacher(dataset, seed=0, folder=own, model="outside:counts")
    source = tmp_path / "edited.py"
    source.write_text("# edited")
    monkeypatch.setattr(module, "__file__", str(source))
    _, _, edited = fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)
    assert edited.config["source"] != lineage.config["source"]


@pytest.mark.parametrize("model", ["AfterLast", "counts"])
def test_a_hybrid_blends_one_from_outside(dataset: Dataset, tmp_path: Path, model: str) -> None:
    hybrid = HybridConfig(cf=f"outside:{model}", cf_temperature=0.5)
    config = TeacherConfig(model="hybrid", hybrid=hybrid)
    fitted, _, lineage = fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path)
    (own,) = tmp_path.glob("hybrid-0-*")
    with pytest.raises(ValueError, match="not run merely because a file names it"):
        read_teacher(dataset, seed=0, folder=own)
    read, _ = read_teacher(dataset, seed=0, folder=own, model=f"outside:{model}")
    past = Histories.alone(torch.arange(5))
    torch.testing.assert_close(read.score(past), fitted.score(past))
    assert TeacherConfig.of_record(lineage.config).record() == config.record()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("Nameless", "expected outside:Nameless to set label"),
        ("Lossless", "expected a loss of outside:Lossless, which has parameters to train"),
        ("TeacherModel", "expected a complete teacher, got 'outside:TeacherModel' without score"),
        ("CallableScorer", "expected a subclass of baselines.teachers.model.TeacherModel"),
        ("no_scorer", "expected outside:no_scorer to return an ItemScorer .* got str"),
        ("too_few", r"expected scores \(batch, item\) = \(16, 40\) of outside:too_few"),
    ],
)
def test_what_cannot_teach_is_refused_before_anything_is_written(
    dataset: Dataset, tmp_path: Path, model: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        fit_teacher(dataset, named(model), TRAINING, seed=0, folder=tmp_path / "teachers")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "teachers").exists()


def test_what_has_no_vectors_is_refused_by_its_class() -> None:
    for model in ("counts", "AfterLast"):
        with pytest.raises(ValueError, match="top_k needs a teacher whose scores are dot products"):
            require_vectors(teacher_class(named(model)), needed_by="top_k")
    assert teacher_class(named("counts")) is baselines.teachers.scorer_teacher.ScorerTeacher


def test_settings_of_ones_own_are_left_out_of_what_is_kept_where_there_are_none() -> None:
    from semid.settings import as_json

    assert "settings" not in as_json(TeacherConfig())
    assert as_json(named("counts", power=2.0))["settings"] == {"power": 2.0}
