"""Every teacher by name: fitted once, read again, resumed, and refused where it does not belong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import baselines.teachers.fit
from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import TrainBatch
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.nn.config import EncoderConfig
from baselines.teachers.bert4rec import BERT4Rec
from baselines.teachers.cache import cached_mass
from baselines.teachers.config import (
    BUILT_IN,
    BERT4RecConfig,
    BSARecConfig,
    GRU4RecConfig,
    HybridConfig,
    ItemKNNConfig,
    LightGCNConfig,
    MassConfig,
    SASRecConfig,
    TeacherConfig,
    teacher_training,
)
from baselines.teachers.fit import fit_teacher, read_teacher, scores_hash
from baselines.teachers.mass import mass_source
from baselines.teachers.registry import build_teacher
from baselines.teachers.simple import Popularity
from baselines.teachers.vectors import item_vectors
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance, ProvenanceError
from semid.trie import CodeTrie
from tca.objective import ObjectiveOutput

ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=2, ff_dim=16)
SHAPES = TeacherConfig(
    sasrec=SASRecConfig(loss="gbce", num_negatives=4, max_history=7, encoder=ENCODER),
    bsarec=BSARecConfig(cutoff=4, max_history=7, encoder=ENCODER),
    bert4rec=BERT4RecConfig(passes=2, max_history=7, encoder=ENCODER),
    gru4rec=GRU4RecConfig(dim=8, hidden_dim=9, max_history=7),
    lightgcn=LightGCNConfig(dim=8, num_layers=2, passes=2, max_history=7),
    itemknn=ItemKNNConfig(neighbours=9, decay=0.8, max_history=7),
)
TRAINING = TrainingConfig(epochs=3, lr=0.01, batch_events=256)


def named(model: str) -> TeacherConfig:
    return dataclasses.replace(SHAPES, model=model)


def world(num_users: int = 80, num_items: int = 40) -> Dataset:
    return synthetic_dataset(num_users=num_users, num_items=num_items, num_categories=2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return world()


@pytest.mark.parametrize("model", BUILT_IN)
def test_a_teacher_is_fitted_once_and_read_as_it_was(
    dataset: Dataset, tmp_path: Path, model: str
) -> None:
    config = named(model)
    fitted, state, lineage = fit_teacher(dataset, config, TRAINING, seed=1, folder=tmp_path)
    assert isinstance(fitted, ItemScorer)
    assert not fitted.training
    assert (lineage.seen, lineage.items) == (dataset.splits.train_hash, dataset.catalog.order_hash)
    assert lineage.config["model"] == model
    (own,) = tmp_path.glob(f"{model}-1-*")
    files = {path: path.stat().st_mtime_ns for path in own.iterdir()}
    again, state_again, lineage_again = fit_teacher(
        dataset, config, TRAINING, seed=1, folder=tmp_path
    )
    assert (state_again, lineage_again) == (state, lineage)
    assert {path: path.stat().st_mtime_ns for path in own.iterdir()} == files
    read, _ = read_teacher(dataset, seed=1, folder=own)
    assert type(read) is type(fitted)
    assert read.max_history == fitted.max_history
    for other in (again, read):
        ranks = rank_by_scores(other, dataset.splits.valid)
        assert ranks.metrics("removed", "expected")["N@10"].mean() == state.best
        for name, value in fitted.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


LEARN = [model for model in BUILT_IN if model not in ("popularity", "content")]


@pytest.mark.parametrize("model", LEARN)  # content reads no interactions
def test_every_model_learns_more_of_the_planted_world_than_popularity(
    tmp_path: Path, model: str
) -> None:
    dataset = world(num_users=400, num_items=60)
    wider = EncoderConfig(dim=32, num_layers=1, num_heads=2, ff_dim=32, dropout=0.1)
    config = TeacherConfig(
        model=model,
        sasrec=SASRecConfig(encoder=wider),
        bsarec=BSARecConfig(max_history=10, encoder=wider),
        bert4rec=BERT4RecConfig(passes=5, encoder=wider),
        gru4rec=GRU4RecConfig(dim=32, hidden_dim=32),
        lightgcn=LightGCNConfig(dim=16, passes=2),
    )
    training = TrainingConfig(epochs=12, patience=12, lr=0.01, batch_events=512)
    _, state, _ = fit_teacher(dataset, config, training, seed=0, folder=tmp_path)
    popularity = Popularity(dataset.splits.train, len(dataset.catalog))
    floor = rank_by_scores(popularity, dataset.splits.valid).metrics("removed", "expected")
    assert state.best > 1.2 * floor["N@10"].mean()


@pytest.mark.parametrize("model", BUILT_IN)
def test_the_record_of_a_config_makes_it_again(model: str) -> None:
    config = named(model)
    record = {"seed": 3, **config.record(), "training": {"epochs": 1}}
    again = TeacherConfig.of_record(record)
    assert again.record() == config.record()
    assert again.shape == config.shape


def test_the_record_of_a_sasrec_is_as_it_always_was_so_that_old_teachers_stay_valid() -> None:
    encoder = {"dim": 64, "num_layers": 2, "num_heads": 1, "ff_dim": 256, "dropout": 0.2}
    assert TeacherConfig().record() == {
        "model": "sasrec",
        "loss": "ce",
        "num_negatives": 1,
        "max_history": 50,
        "encoder": encoder,
    }


def test_an_epoch_takes_each_target_as_often_as_there_are_passes(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    objective = BERT4Rec.objective

    def count(self: BERT4Rec, batch: TrainBatch) -> ObjectiveOutput:
        drawn.extend(batch.target_id.tolist())
        return objective(self, batch)

    monkeypatch.setattr(BERT4Rec, "objective", count)
    training = dataclasses.replace(TRAINING, epochs=1)
    fit_teacher(dataset, named("bert4rec"), training, seed=0, folder=tmp_path)
    assert sorted(drawn) == sorted(list(range(dataset.splits.train.num_targets)) * 2)


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("model", ["bert4rec", "gru4rec", "lightgcn"])
def test_a_killed_training_goes_on_to_the_same_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    whole, *_ = fit_teacher(dataset, named(model), TRAINING, seed=0, folder=tmp_path / "whole")
    rank, calls = rank_by_scores, []

    def kill_in_the_second_validation(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return rank(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(baselines.teachers.fit, "rank_by_scores", kill_in_the_second_validation)
    with pytest.raises(Killed):
        fit_teacher(dataset, named(model), TRAINING, seed=0, folder=tmp_path / "killed")
    resumed, state, _ = fit_teacher(
        dataset, named(model), TRAINING, seed=0, folder=tmp_path / "killed"
    )
    assert state.epoch == 3
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (SHAPES.itemknn, {"decay": 0.3}),
        (HybridConfig(cf="popularity"), {"half_items": 9.0}),
        (HybridConfig(cf="itemknn"), {"half_history": 0.0}),
    ],
)
def test_what_is_counted_alike_but_scored_otherwise_is_another_teacher(
    dataset: Dataset,
    tmp_path: Path,
    config: ItemKNNConfig | HybridConfig,
    settings: dict[str, float],
) -> None:
    name: str = "itemknn" if isinstance(config, ItemKNNConfig) else "hybrid"
    trie = CodeTrie.from_paths(torch.arange(40)[:, None], 40)
    lineages, masses = [], []
    for shape in (config, dataclasses.replace(config, **settings)):
        teacher = dataclasses.replace(named(name), **{name: shape})
        made, _, lineage = fit_teacher(dataset, teacher, TRAINING, seed=0, folder=tmp_path)
        source = mass_source(made, trie, temperature=0.1, config=MassConfig())
        key = scores_hash(lineage)
        masses.append(cached_mass(source, dataset.splits.train, teacher=key, folder=tmp_path / "m"))
        lineages.append(lineage)
    assert lineages[0].content == lineages[1].content
    assert len(list((tmp_path / "m").iterdir())) == 2
    assert not torch.equal(*masses)


def test_several_models_of_one_seed_have_to_be_named(dataset: Dataset, tmp_path: Path) -> None:
    for model in ("itemknn", "popularity"):
        fit_teacher(dataset, named(model), TRAINING, seed=0, folder=tmp_path)
    with pytest.raises(ValueError, match=r"one teacher of seed 0 .*itemknn-0-.*popularity-0-"):
        read_teacher(dataset, seed=0, folder=tmp_path)
    (own,) = tmp_path.glob("popularity-0-*")
    assert isinstance(read_teacher(dataset, seed=0, folder=own)[0], Popularity)
    with pytest.raises(FileNotFoundError, match="teacher of seed 1"):
        read_teacher(dataset, seed=1, folder=own)


@pytest.mark.parametrize("model", ["gru4rec", "itemknn"])
def test_a_teacher_that_saw_held_out_interactions_is_taken_only_when_asked_for(
    dataset: Dataset, tmp_path: Path, model: str
) -> None:
    splits = dataset.splits
    more = dataclasses.replace(
        dataset,
        splits=dataclasses.replace(splits, train=splits.test),
    )
    training = dataclasses.replace(TRAINING, epochs=1)
    fitted, *_ = fit_teacher(more, named(model), training, seed=0, folder=tmp_path)
    with pytest.raises(
        ProvenanceError, match=r"may have seen held-out targets.*other_interactions"
    ):
        read_teacher(dataset, seed=0, folder=tmp_path)
    taken, lineage = read_teacher(dataset, seed=0, folder=tmp_path, other_interactions=True)
    assert lineage.seen == splits.test.content_hash()
    for name, value in fitted.state_dict().items():
        assert torch.equal(taken.state_dict()[name], value)


def test_another_catalogue_is_refused_whatever_is_asked_for(
    dataset: Dataset, tmp_path: Path
) -> None:
    fit_teacher(dataset, named("itemknn"), TRAINING, seed=0, folder=tmp_path)
    with pytest.raises(ProvenanceError, match="item order of the teacher"):
        read_teacher(world(num_items=41), seed=0, folder=tmp_path, other_interactions=True)


def test_lightgcn_needs_the_graph_that_it_was_trained_on(dataset: Dataset, tmp_path: Path) -> None:
    fit_teacher(dataset, named("lightgcn"), TRAINING, seed=0, folder=tmp_path)
    other = world(num_users=81)
    same_items = dataclasses.replace(other, catalog=dataset.catalog)
    with pytest.raises(ProvenanceError, match="needs the interactions it was trained on"):
        read_teacher(same_items, seed=0, folder=tmp_path, other_interactions=True)


def test_vectors_are_those_that_score_and_a_model_without_says_so(
    dataset: Dataset, tmp_path: Path
) -> None:
    made, _, lineage = fit_teacher(dataset, named("lightgcn"), TRAINING, seed=0, folder=tmp_path)
    vectors = item_vectors(made, dataset, lineage)
    assert vectors.vectors.shape == (40, 8)
    assert vectors.provenance.config["model"] == "lightgcn"
    counted, _, its = fit_teacher(dataset, named("itemknn"), TRAINING, seed=0, folder=tmp_path)
    with pytest.raises(ValueError, match="item-kNN has no item vectors; expected a teacher"):
        item_vectors(counted, dataset, its)


def test_a_default_teacher_is_a_sasrec_with_full_cross_entropy() -> None:
    assert build_teacher(TeacherConfig(), world(), seed=0).label == "SASRec ce"
    assert teacher_training().precision == "auto"


def test_provenance_tells_which_teacher_it_was(dataset: Dataset, tmp_path: Path) -> None:
    fit_teacher(dataset, named("itemknn"), TRAINING, seed=0, folder=tmp_path)
    (own,) = tmp_path.iterdir()
    found = Provenance.read(own)
    assert (found.kind, found.config["model"], found.config["decay"]) == ("teacher", "itemknn", 0.8)
    assert len(found.content) == 64
