"""Each clause of the contracts of teachers and readers is broken once, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from worlds import sequence_set

from baselines.data.batches import Histories, TrainBatch
from baselines.data.dataset import Dataset
from baselines.data.splits import Splits
from baselines.data.synthetic import synthetic_dataset
from baselines.teachers.adapters import CallableScorer
from baselines.teachers.config import BUILT_IN, GRU4RecConfig, SASRecConfig, TeacherConfig
from baselines.teachers.losses import catalogue_cross_entropy
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import build_teacher
from baselines.testing import ContractError, check_reader, check_teacher


@pytest.fixture(scope="module")
def world() -> Dataset:
    return synthetic_dataset(num_users=60, num_items=40, num_categories=2)


class Mean(TeacherModel):
    """The mean vector of the last four items times a vector of each item: keeps the contract."""

    label = "Mean"
    max_history: Any = 4

    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__()
        gen = torch.Generator().manual_seed(seed)
        shape = (len(dataset.catalog), 8)
        self.before = nn.Parameter(torch.randn(shape, generator=gen))
        self.after = nn.Parameter(torch.randn(shape, generator=gen))

    def means(self, past: Histories) -> Tensor:
        mask = past.mask.unsqueeze(-1)
        return (self.before[past.items] * mask).sum(dim=1) / mask.sum(dim=1)

    def loss(self, batch: TrainBatch) -> Tensor:
        last = batch.windows.items[batch.target_row, batch.target_pos - 1]
        return catalogue_cross_entropy(self.before[last], self.after, batch.target_items)

    def user_vectors(self, histories: Histories) -> Tensor:
        return self.means(histories.last(4))

    def item_vectors(self) -> Tensor:
        return self.after.detach()

    def score(self, histories: Histories) -> Tensor:
        return self.user_vectors(histories) @ self.after.T


class NoNumber(Mean):
    max_history = "four"


class Transposed(Mean):
    def score(self, histories: Histories) -> Tensor:
        return super().score(histories).T


class Broken(Mean):
    def score(self, histories: Histories) -> Tensor:
        return super().score(histories) / 0


class Drawn(Mean):
    def score(self, histories: Histories) -> Tensor:
        scores = super().score(histories)
        return scores + torch.rand(scores.shape)


class Writes(Mean):
    def score(self, histories: Histories) -> Tensor:
        scores = super().score(histories)
        histories.items[~histories.mask] = 7
        return scores


class OfTheBatch(Mean):
    def score(self, histories: Histories) -> Tensor:
        scores = super().score(histories)
        return scores - scores.mean(dim=0)


class ReadsPadding(Mean):
    def means(self, past: Histories) -> Tensor:
        return self.before[past.items].mean(dim=1)


class OfTheUser(Mean):
    def score(self, histories: Histories) -> Tensor:
        return super().score(histories) + histories.users[:, None]


class ReadsAll(Mean):
    def user_vectors(self, histories: Histories) -> Tensor:
        return self.means(histories)


class SeenOnly(Mean):
    def score(self, histories: Histories) -> Tensor:
        past = histories.last(4)
        seen = torch.zeros(len(past.items), len(self.after))
        seen.scatter_add_(1, past.items, past.mask.float())
        return super().score(histories).masked_fill(seen == 0, -torch.inf)


class OtherVectors(Mean):
    def item_vectors(self) -> Tensor:
        return -self.after.detach()


class Unseeded(Mean):
    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__(dataset, seed)
        nn.init.normal_(self.before)


class NoGradient(Mean):
    def loss(self, batch: TrainBatch) -> Tensor:
        return super().loss(batch).detach()


class Climbs(Mean):
    def loss(self, batch: TrainBatch) -> Tensor:
        return -super().loss(batch)

    def objective(self, batch: TrainBatch) -> Any:
        return replace(super().objective(batch), loss=self.before.sum() * 0 + self.spent())

    def spent(self) -> float:
        self.steps = getattr(self, "steps", 0) + 1
        return float(self.steps)


class Forgets(Mean):
    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__(dataset, seed)
        self.scale = torch.rand(len(dataset.catalog), generator=torch.Generator().manual_seed(seed))

    def item_vectors(self) -> Tensor:
        return self.after.detach() * self.scale[:, None]

    def score(self, histories: Histories) -> Tensor:
        return self.user_vectors(histories) @ self.item_vectors().T


class Demanding(Mean):
    def __init__(self, dataset: Dataset, seed: int, dim: int) -> None:
        super().__init__(dataset, seed)


def a_function(dataset: Dataset, seed: int, weight: float = 1.0) -> CallableScorer:
    num_items = len(dataset.catalog)
    return CallableScorer(
        lambda pasts: [[weight * past.count(i) for i in range(num_items)] for past in pasts],
        num_items,
    )


def of_seed_but_otherwise(dataset: Dataset, seed: int) -> CallableScorer:
    return a_function(dataset, seed, weight=float(torch.rand(())))


def no_scorer(dataset: Dataset, seed: int) -> int:
    return 3


def test_a_teacher_that_keeps_the_contract_passes() -> None:
    check_teacher(Mean)
    check_teacher(a_function, settings={"weight": 2.0})
    world = synthetic_dataset(num_users=30, num_items=50, num_categories=2)
    check_teacher(a_function(world, 0), dataset=world)


@pytest.mark.parametrize("model", BUILT_IN)
def test_teachers_that_ship_pass(model: str, world: Dataset) -> None:
    config = TeacherConfig(
        model=model, sasrec=SASRecConfig(max_history=5), gru4rec=GRU4RecConfig(max_history=5)
    )
    vectors = torch.randn(40, 8) if model == "hybrid" else None
    check_teacher(build_teacher(config, world, 0, vectors=vectors).eval(), dataset=world)


@pytest.mark.parametrize(
    ("teacher", "clause"),
    [
        (Demanding, "build"),
        (no_scorer, "build"),
        (CallableScorer, "build"),
        (NoNumber, "max history"),
        (Transposed, "shape"),
        (Broken, "finite"),
        (Drawn, "determinism"),
        (Writes, "inputs"),
        (OfTheBatch, "company"),
        (ReadsPadding, "padding"),
        (OfTheUser, "user numbers"),
        (ReadsAll, "history"),
        (SeenOnly, "seen items"),
        (OtherVectors, "vectors"),
        (Unseeded, "seed"),
        (of_seed_but_otherwise, "seed"),
        (NoGradient, "loss"),
        (Climbs, "learning"),
        (Forgets, "save and load"),
    ],
)
def test_the_broken_clause_is_named(teacher: Callable[..., Any], clause: str) -> None:
    with pytest.raises(ContractError) as refused:
        check_teacher(teacher)
    assert refused.value.clause == clause
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{teacher.__name__} breaks the contract of teachers")


def tables() -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    users = np.repeat(np.arange(6), 4)
    items = {"item_id": list("abcdefgh"), "title": [f"Thing {name}" for name in "abcdefgh"]}
    events = {
        "user_id": users.tolist(),
        "item_id": [items["item_id"][(3 * user + n) % 8] for n, user in enumerate(users.tolist())],
        "position": list(range(24)),
    }
    return items, events


def without_title_or_order() -> Any:
    items, events = tables()
    del events["position"]
    return items, events


def shuffled() -> Any:
    items, events = tables()
    order = torch.randperm(8).tolist()
    return {name: [column[i] for i in order] for name, column in items.items()}, events


def ready(world: Dataset, **splits: Any) -> Callable[[], Dataset]:
    def load() -> Dataset:
        return replace(world, splits=replace(world.splits, **splits))

    return load


def test_readers_that_keep_the_contract_pass(world: Dataset) -> None:
    check_reader(tables)
    check_reader(lambda: world)


def test_the_broken_clause_of_a_reader_is_named(world: Dataset) -> None:
    beyond = sequence_set([([1, 2, 99], 2)])
    readers = {
        "result": (dict, without_title_or_order, lambda: 1 / 0),
        "items": (ready(world, test=beyond),),
        "held out": (ready(world, train=world.splits.test),),
        "determinism": (shuffled,),
    }
    for clause, broken in readers.items():
        for reader in broken:
            with pytest.raises(ContractError, match="breaks the contract of readers") as refused:
                check_reader(reader)
            assert refused.value.clause == clause
            assert "\n" not in str(refused.value)
    assert isinstance(world.splits, Splits)
