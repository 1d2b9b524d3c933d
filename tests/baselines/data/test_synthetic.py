from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from baselines.data.dataset import Dataset
from baselines.data.synthetic import Planted, synthetic_dataset


@pytest.fixture(scope="module")
def world() -> Dataset:
    return synthetic_dataset()


def subcategories(data: Dataset) -> list[str]:
    return [path[1] for path in data.catalog.fields["categories"].to_list()]


def recall(data: Dataset, scores: Any, cutoff: int = 10) -> float:
    """Share of test targets among the best ``cutoff`` items that are not in the history."""
    test, hits = data.splits.test, 0
    for number, event in zip(*test.targets(), strict=True):
        history = test.items[test.offsets[number] : event]
        found = np.array(scores(history), dtype=np.float64)
        found[history] = -np.inf
        hits += int(test.items[event]) in np.argsort(-found, kind="stable")[:cutoff]
    return hits / test.num_targets


def test_the_same_seed_gives_the_same_world_and_another_does_not() -> None:
    sizes = {"num_users": 60, "num_items": 50, "num_categories": 3}
    one, same, other = (synthetic_dataset(**sizes, seed=seed) for seed in (1, 1, 2))
    assert one.catalog.fields.equals(same.catalog.fields)
    assert one.splits.test.content_hash() == same.splits.test.content_hash()
    assert one.splits.test.content_hash() != other.splits.test.content_hash()
    assert not one.catalog.fields.equals(other.catalog.fields)


def test_the_world_has_the_promised_size(world: Dataset) -> None:
    assert world.interactions is not None
    lengths = np.diff(world.interactions.offsets)
    assert len(lengths) == 2000
    assert len(world.catalog) == 500
    assert lengths.min() >= 3
    assert lengths.mean() == pytest.approx(9, abs=0.5)
    assert lengths.max() <= 50


def test_text_tells_the_hierarchy(world: Dataset) -> None:
    fields = world.catalog.fields
    titles = fields["title"].to_list()
    assert len(set(titles)) == len(titles)
    assert all(
        title.startswith(f"{brand} ") for title, brand in zip(titles, fields["brand"], strict=True)
    )
    assert len(set(subcategories(world))) == 32
    of_brand: dict[str, set[str]] = {}
    for brand, path in zip(fields["brand"], fields["categories"].to_list(), strict=True):
        of_brand.setdefault(brand, set()).add(path[0])
    assert {len(categories) for categories in of_brand.values()} == {1}


def test_rows_say_nothing_about_the_hierarchy(world: Dataset) -> None:
    kinds = subcategories(world)
    neighbours = np.mean([one == other for one, other in pairwise(kinds)])
    assert neighbours < 0.1


def test_nobody_meets_an_item_twice(world: Dataset) -> None:
    assert world.interactions is not None
    pairs = list(zip(world.interactions.users, world.interactions.items, strict=True))
    assert len(set(pairs)) == len(pairs)


def test_days_make_ties(world: Dataset) -> None:
    assert world.interactions is not None
    users, times = world.interactions.users, world.interactions.times
    assert times is not None
    assert not (times % 86_400).any()
    same_user = np.diff(users) == 0
    assert (np.diff(times)[same_user] == 0).mean() == pytest.approx(1 / 3, abs=0.05)


def test_a_tenth_of_the_items_takes_a_third_of_the_events(world: Dataset) -> None:
    counts = np.sort(np.bincount(world.splits.train.items, minlength=500))[::-1]
    assert counts[:50].sum() / counts.sum() > 0.3


def test_cold_items_come_late() -> None:
    data = synthetic_dataset(split="global_time", planted=Planted(cold_share=0.2))
    counts = np.bincount(data.splits.train.items, minlength=500)
    assert 60 <= (counts == 0).sum() <= 110
    assert data.statistics["test_targets_unseen_in_train"] > 50
    none_late = synthetic_dataset(split="global_time", planted=Planted(cold_share=0.0))
    assert (np.bincount(none_late.splits.train.items, minlength=500) == 0).sum() < 10


def test_complements_follow_their_item_from_other_categories() -> None:
    data = synthetic_dataset(
        num_users=4000,
        num_items=100,
        mean_length=5,
        planted=Planted(complement_share=1.0, cold_share=0.0),
    )
    assert data.interactions is not None
    users, items = data.interactions.users, data.interactions.items
    same_user = np.diff(users) == 0
    pairs = Counter(zip(items[:-1][same_user].tolist(), items[1:][same_user].tolist(), strict=True))
    category = [path[0] for path in data.catalog.fields["categories"].to_list()]
    for item in range(100):
        followers = Counter({b: n for (a, b), n in pairs.items() if a == item})
        best = [follower for follower, _ in followers.most_common(3)]
        assert sum(followers[b] for b in best) > 0.75 * sum(followers.values())
        assert all(category[b] != category[item] for b in best)


def baselines(data: Dataset) -> tuple[float, float, float]:
    """Recall of popularity, the history's subcategories, and the last item's followers."""
    train, num_items = data.splits.train, len(data.catalog)
    counts = np.bincount(train.items, minlength=num_items)
    popularity = counts / counts.sum()
    steps = np.zeros((num_items, num_items))
    for start, stop in pairwise(train.offsets):
        np.add.at(steps, (train.items[start : stop - 1], train.items[start + 1 : stop]), 1)
    kind = np.unique(subcategories(data), return_inverse=True)[1]

    def by_text(history: Any) -> Any:
        recency = 0.7 ** np.arange(len(history))[::-1]
        return np.bincount(kind[history], weights=recency, minlength=32)[kind] * popularity

    return (
        recall(data, lambda history: popularity),
        recall(data, by_text),
        recall(data, lambda history: steps[history[-1]] + popularity),
    )


def test_sequence_and_text_each_carry_signal_beyond_popularity(world: Dataset) -> None:
    by_popularity, by_text, by_step = baselines(world)
    assert by_text > 2 * by_popularity
    assert by_step > 2.5 * by_popularity


def test_without_complements_the_last_item_tells_no_more_than_text() -> None:
    by_popularity, by_text, by_step = baselines(
        synthetic_dataset(planted=Planted(complement_share=0.0))
    )
    assert by_popularity < by_step < by_text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, "num_users must be at least 1, got 0"),
        ({"num_categories": 1}, "num_categories must be at least 2"),
        ({"mean_length": 3}, "mean_length must be at least 4"),
        ({"num_items": 31}, "at least 4 for each of 8 categories, got 31"),
        ({"split": "windows"}, "leave_one_out or global_time"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_dataset(**arguments)


@pytest.mark.parametrize(
    "strength",
    [{"complement_share": 1.5}, {"drift_rate": -0.1}, {"cold_share": 1.0}, {"zipf": -1.0}],
)
def test_strengths_out_of_range_are_refused_by_name(strength: dict[str, float]) -> None:
    ((name, value),) = strength.items()
    with pytest.raises(ValueError, match=f"^{name} must .*got {value}"):
        Planted(**strength)


def test_the_smallest_world_stands() -> None:
    data = synthetic_dataset(num_users=5, num_items=8, num_categories=2, mean_length=4)
    assert data.statistics["test_targets"] >= 4
