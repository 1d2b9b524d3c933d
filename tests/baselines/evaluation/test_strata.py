"""Strata of targets, counted by hand, and warnings of subsets of users that are not shuffled."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from worlds import sequence_set

from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits
from baselines.evaluation.first_users import unshuffled_subsets
from baselines.evaluation.strata import strata_of, training_events


def members(test: SequenceSet, train: SequenceSet, num_items: int) -> dict[str, list[int]]:
    return {
        f"{stratum.kind}: {stratum.name}": np.flatnonzero(stratum.targets).tolist()
        for stratum in strata_of(test, training_events(train, num_items))
    }


def test_every_target_is_in_its_bands() -> None:
    counts = [0, 1, 5, 6, 20, 21]
    train = sequence_set([([item for item, n in enumerate(counts) for _ in range(n)], 1)])
    past = [1, 5, 6, 10, 11, 21]
    test = sequence_set(
        [([9] * length + [target], length) for target, length in enumerate(past)]
        + [([3, 9, 3], 2)]  # repeated
    )
    assert members(test, train, 10) == {
        "target frequency: unseen": [0],
        "target frequency: 1-5": [1, 2],
        "target frequency: 6-20": [3, 4, 6],
        "target frequency: 21+": [5],
        "history length: 1-5": [0, 1, 6],
        "history length: 6-10": [2, 3],
        "history length: 11-20": [4],
        "history length: 21+": [5],
        "repetition: new": [0, 1, 2, 3, 4, 5],
        "repetition: repeated": [6],
    }


def test_empty_strata_are_left_out() -> None:
    data = sequence_set([([0, 1, 2], 2)])
    assert members(data, data, 3) == {
        "target frequency: 1-5": [0],
        "history length: 1-5": [0],
        "repetition: new": [0],
    }


def test_overlapping_windows_of_a_user_count_an_item_once() -> None:
    windows = sequence_set([([0, 1], 1), ([0, 1, 2], 2), ([1, 2], 1)])
    assert training_events(windows, 4).tolist() == [2, 3, 2, 0]
    windows = dataclasses.replace(windows, users=np.array([0, 0, 1]))
    assert training_events(windows, 4).tolist() == [1, 2, 2, 0]


def splits(lengths: list[int], test_users: list[int], *, knows_users: bool = True) -> Splits:
    train = sequence_set([([0] * length, 1) for length in lengths])
    test = sequence_set([([0, 1], 1) for _ in test_users])
    return Splits(
        train=train,
        valid=train,
        test=dataclasses.replace(test, users=np.array(test_users)),
        protocol="windows",
        dropped={},
        knows_users=knows_users,
    )


SORTED = [9] * 10 + [3] * 30


def test_the_first_users_of_a_sorted_file_are_warned_of() -> None:
    (warning,) = unshuffled_subsets(splits(SORTED, list(range(10))))
    assert warning == (
        "the test targets belong to the first 10 of 40 users, who are not shuffled: their "
        "sequences have 9.0 items on average, each with 180.0 training events; those of the others "
        "3.0 and 180.0. The results hold for these users only; draw users at random."
    )


def test_first_users_who_differ_in_popularity_alone_are_warned_of() -> None:
    train = sequence_set([([0, 1], 1)] * 40)
    popular = sequence_set([([50, 50], 1)] * 10 + [([user, 0], 1) for user in range(30)])
    test = sequence_set([([50, 51], 1)] * 10)
    names = {"valid": train, "test": test, "protocol": "windows", "dropped": {}}
    assert unshuffled_subsets(Splits(train=train, **names)) == []
    (warning,) = unshuffled_subsets(Splits(train=popular, **names))
    assert (
        "2.0 items on average, each with 20.0 training events; those of the others 2.0" in warning
    )


@pytest.mark.parametrize(
    ("lengths", "users", "knows_users"),
    [
        ([9, 3, 3, 3] * 10, list(range(10)), True),  # shuffled
        (SORTED, [1, *range(10, 19)], True),  # drawn
        (SORTED, list(range(40)), True),  # everyone
        (SORTED, list(range(37)), True),  # nearly everyone
        (SORTED, list(range(10)), False),  # rows, not users
    ],
)
def test_other_subsets_are_not_warned_of(
    lengths: list[int], users: list[int], knows_users: bool
) -> None:
    assert unshuffled_subsets(splits(lengths, users, knows_users=knows_users)) == []


def test_a_validation_split_off_the_end_of_a_sorted_file_is_warned_of() -> None:
    lengths = [3] * 30 + [9] * 6
    both = [sequence_set([([0] * n, 1) for n in part]) for part in (lengths[:30], lengths[30:])]
    train, valid = both[0], dataclasses.replace(both[1], users=np.arange(30, 36))
    test = sequence_set([([0, 1], 1) for _ in lengths])
    found = unshuffled_subsets(
        Splits(train=train, valid=valid, test=test, protocol="windows", dropped={})
    )
    assert len(found) == 1
    assert found[0].startswith("the validation targets belong to the last 6 of 36 users")
