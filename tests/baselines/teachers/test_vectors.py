"""Item vectors of a trained teacher: which teacher, which rows, and what they have seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import sequence_set

from baselines.data.dataset import Dataset
from baselines.data.splits import Splits
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.teachers.fit import fit_teacher, read_teacher
from baselines.teachers.sasrec import SASRec
from baselines.teachers.vectors import item_vectors
from baselines.training.config import TrainingConfig
from semid.embed import Embeddings
from semid.provenance import Provenance, ProvenanceError

SHAPE = SASRecConfig(max_history=7, encoder=EncoderConfig(dim=8, num_layers=1, ff_dim=16))
CONFIG = TeacherConfig(sasrec=SHAPE)
TRAINING = TrainingConfig(epochs=1, lr=0.01)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=60, num_items=40, num_categories=2)


@pytest.fixture(scope="module")
def teachers(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers")
    for seed in (0, 1, 12):
        fit_teacher(dataset, CONFIG, TRAINING, seed=seed, folder=folder)
    return folder


@pytest.mark.parametrize("seed", [0, 1])
def test_a_teacher_that_is_read_scores_as_the_one_that_was_trained(
    dataset: Dataset, teachers: Path, seed: int
) -> None:
    fitted, state, lineage = fit_teacher(dataset, CONFIG, TRAINING, seed=seed, folder=teachers)
    (own,) = teachers.glob(f"sasrec-{seed}-*")
    for folder in (teachers, own):
        found, its_lineage = read_teacher(dataset, seed=seed, folder=folder)
        assert its_lineage == lineage
        assert found.config == SHAPE
        assert not found.training
        for name, value in fitted.state_dict().items():
            assert torch.equal(value, found.state_dict()[name])
        ranks = rank_by_scores(found, dataset.splits.valid)
        assert ranks.metrics("removed", "expected")["N@10"].mean() == state.best


def test_no_teacher_and_several_teachers_are_refused(
    dataset: Dataset, teachers: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"Train it with semid teacher train .*\[2\]"):
        read_teacher(dataset, seed=2, folder=teachers)
    both = Path(shutil.copytree(teachers, tmp_path / "both"))
    other = TrainingConfig(epochs=1, lr=0.02)
    fit_teacher(dataset, CONFIG, other, seed=0, folder=both)
    with pytest.raises(ValueError, match=r"one teacher of seed 0 in .*, got sasrec-0-.*, sasrec-0"):
        read_teacher(dataset, seed=0, folder=both)
    assert read_teacher(dataset, seed=1, folder=both)


def test_an_unfinished_teacher_is_none(dataset: Dataset, teachers: Path, tmp_path: Path) -> None:
    begun = Path(shutil.copytree(teachers, tmp_path / "begun"))
    next(begun.glob("sasrec-0-*/state.json")).unlink()
    with pytest.raises(FileNotFoundError, match="expected a trained teacher of seed 0"):
        read_teacher(dataset, seed=0, folder=begun)


def test_a_teacher_of_other_data_is_refused(teachers: Path) -> None:
    same_items = synthetic_dataset(num_users=61, num_items=40, num_categories=2)
    with pytest.raises(ProvenanceError, match="does not match"):
        read_teacher(same_items, seed=0, folder=teachers)
    with pytest.raises(ProvenanceError, match="item order of the teacher"):
        read_teacher(synthetic_dataset(num_users=60, num_items=41), seed=0, folder=teachers)


def test_vectors_are_the_item_embeddings_and_say_what_they_have_seen(
    dataset: Dataset, teachers: Path, tmp_path: Path
) -> None:
    teacher, lineage = read_teacher(dataset, seed=0, folder=teachers)
    found = item_vectors(teacher, dataset, lineage)
    occurs = np.isin(np.arange(40), dataset.splits.train.items)
    expected = teacher.item_embedding.weight.detach().numpy()
    np.testing.assert_array_equal(found.vectors[occurs], expected[occurs])
    assert found.items == dataset.catalog.order_hash
    assert found.provenance.seen == dataset.splits.train_hash
    assert found.provenance.inputs == {"teacher": lineage.content}
    found.save(tmp_path / "vectors")
    assert Embeddings.load(tmp_path / "vectors").provenance == found.provenance


def test_an_item_that_training_never_saw_has_a_row_of_zeros() -> None:
    whole = synthetic_dataset(num_users=60, num_items=40, num_categories=2)
    train = sequence_set([([3, 1, 4], 1), ([1, 5, 9, 2, 6], 1)])
    dataset = Dataset(
        name="few",
        catalog=whole.catalog,
        splits=Splits(
            train=train,
            valid=whole.splits.valid,
            test=whole.splits.test,
            protocol=whole.splits.protocol,
            dropped={},
        ),
        interactions=None,
    )
    teacher = SASRec(SHAPE, 40, seed=0)
    lineage = Provenance(kind="teacher", content="c", seen=dataset.splits.train_hash)
    found = item_vectors(teacher, dataset, lineage)
    assert np.flatnonzero(found.vectors.any(axis=1)).tolist() == [1, 2, 3, 4, 5, 6, 9]
    assert found.provenance.config["unseen_items"] == 33
    assert teacher.item_embedding.weight.all(), "the teacher itself keeps its vectors"
