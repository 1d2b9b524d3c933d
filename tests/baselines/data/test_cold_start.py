"""Cold-start splits: what is taken out of training, and what stays whole."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from baselines.data.dataset import Dataset
from baselines.data.left_out import data_notes
from baselines.data.loading import load_dataset
from baselines.data.synthetic import synthetic_dataset
from semid.arrays import IntArray

STRATA = [(2**power, 2 ** (power + 1) - 1) for power in range(10)]


def shop(split: str) -> Dataset:
    return synthetic_dataset(num_users=300, num_items=120, num_categories=4, split=split)


@pytest.fixture(scope="module")
def whole() -> Dataset:
    return shop("leave_one_out")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("draw", [0, 1, 2])
def test_the_share_holds_in_every_stratum_of_frequency(
    whole: Dataset, share: float, draw: int
) -> None:
    cold = shop(f"cold:{share}:{draw}").cold_items
    events = np.bincount(whole.splits.train.items, minlength=len(whole.catalog))
    assert (events[cold] > 0).all()
    counted = 0
    for least, most in STRATA:
        members = np.flatnonzero((events >= least) & (events <= most))
        counted += len(members)
        assert abs(np.isin(members, cold).sum() - share * len(members)) <= 1
    assert counted == (events > 0).sum()


def without(items: IntArray, cold: IntArray) -> list[int]:
    return [int(item) for item in items if item not in cold]


def test_training_is_leave_one_out_without_the_cold_items(whole: Dataset) -> None:
    data = shop("cold:0.5")
    cold, train, before = data.cold_items, data.splits.train, whole.splits.train
    expected = {
        int(user): left
        for user, (begin, end) in zip(before.users, itertools.pairwise(before.offsets), strict=True)
        if (left := without(before.items[begin:end], cold))
    }
    found = {
        int(user): train.items[begin:end].tolist()
        for user, (begin, end) in zip(train.users, itertools.pairwise(train.offsets), strict=True)
    }
    assert found == expected
    assert train.num_targets == sum(len(items) - 1 for items in expected.values())
    for part in ("valid", "test"):
        held_out, own = getattr(whole.splits, part), getattr(data.splits, part)
        assert own.content_hash() == held_out.content_hash()
    assert data.catalog.order_hash == whole.catalog.order_hash


def test_what_is_taken_out_is_counted(whole: Dataset) -> None:
    data = shop("cold:0.5")
    cold, before = data.cold_items, whole.splits.train
    events = int(np.isin(before.items, cold).sum())
    assert data.dropped["cold_items"] == len(cold)
    assert data.dropped["training_events_of_cold_items"] == events
    users = len(before) - len(data.splits.train)
    assert data.dropped["users_with_only_cold_items_in_training"] == users
    test = data.splits.test
    targets = int(np.isin(test.items[test.targets()[1]], cold).sum())
    assert data.statistics["cold_test_targets"] == targets > 0
    assert "cold_test_targets" not in whole.statistics
    assert len(whole.cold_items) == 0
    assert f"{len(cold)} cold items, {events:,} training events of" in data_notes(data)["left out"]


def test_a_name_means_the_same_items_and_draws_differ() -> None:
    drawn = [shop(f"cold:0.5:{draw}") for draw in range(3)]
    for one, other in itertools.combinations(drawn, 2):
        assert set(one.cold_items) != set(other.cold_items)
        assert one.splits.train_hash != other.splits.train_hash
    again = shop("cold:0.50")
    assert again.splits.protocol == drawn[0].splits.protocol == "cold:0.5:0"
    assert again.splits.train_hash == drawn[0].splits.train_hash


@pytest.mark.parametrize(
    "split",
    [
        *("cold", "cold:", "cold:half", "cold:nan"),
        *("cold:0", "cold:1", "cold:-0.5"),
        *("cold:.5:-1", "cold:.5:x", "cold:.5:1:2"),
    ],
)
def test_bad_names_are_refused(split: str) -> None:
    with pytest.raises(ValueError, match=r"such as cold:0\.5 or .* got '") as caught:
        load_dataset("synthetic:60x40", split=split)
    assert "\n" not in str(caught.value)


def test_a_share_that_takes_nothing_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes out none of the \d+ items .* larger share"):
        load_dataset("synthetic:60x40", split="cold:0.001")


def test_windows_cannot_be_split_this_way(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n1,a\n2,b\n")
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("history,item_id\n1,2\n")
    with pytest.raises(ValueError, match=r"cold:0\.5 takes items out .* the windows in") as caught:
        load_dataset(tmp_path, split="cold:0.5")
    assert "\n" not in str(caught.value)
