"""Items that share users, against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.data.cooccurrence import nearest_cooccurring
from baselines.data.sequences import SequenceSet


def sequences(*each: list[int]) -> SequenceSet:
    return SequenceSet(
        items=np.concatenate([np.array(items, dtype=np.int64) for items in each]),
        offsets=np.cumsum([0, *map(len, each)]),
        first_target=np.ones(len(each), dtype=np.int64),
        users=np.arange(len(each)),
    )


@pytest.mark.parametrize("shrinkage", [0.0, 2.0])
def test_nearest_are_those_of_most_shared_users(shrinkage: float) -> None:
    rng = np.random.default_rng(0)
    histories = [rng.integers(12, size=rng.integers(2, 7)).tolist() for _ in range(30)]
    train = sequences(*histories)
    rows, values = nearest_cooccurring(train, 14, count=3, shrinkage=shrinkage)
    users = [{u for u, items in enumerate(histories) if item in items} for item in range(14)]
    for item in range(14):
        alike = {
            other: len(users[item] & users[other])
            / (np.sqrt(len(users[item]) * len(users[other])) + shrinkage)
            for other in range(14)
            if other != item and users[item] & users[other]
        }
        best = sorted(alike, key=lambda other: (-np.float64(alike[other]), other))[:3]
        assert rows[item][: len(best)].tolist() == best
        assert values[item] == pytest.approx([alike[b] for b in best] + [0] * (3 - len(best)))


def test_some_rows_are_those_of_all() -> None:
    train = sequences([0, 1, 2], [1, 2], [3, 0])
    every = nearest_cooccurring(train, 5, count=2)
    some = nearest_cooccurring(train, 5, count=2, of=np.array([3, 1]))
    for whole, part in zip(every, some, strict=True):
        assert whole[[3, 1]].tolist() == part.tolist()
