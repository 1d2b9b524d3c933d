from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.data.config import ColdStart
from baselines.data.dataset import Dataset, split_interactions
from baselines.data.interactions import Interactions
from baselines.data.leakage import event_times, leakage
from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits
from semid.catalog import Catalog

CATALOG = Catalog(item_ids=list(range(8)), fields=pl.DataFrame())
HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 7)), min_size=3, max_size=7),
    min_size=4,
    max_size=9,
)


def dataset_of(histories: list[list[tuple[int, int]]], split: str) -> Dataset:
    """Users with their (time, item) events."""
    rows = [
        {"user_id": user, "item_id": item, "timestamp": time}
        for user, events in enumerate(histories)
        for time, item in events
    ]
    interactions = Interactions.from_table(pl.DataFrame(rows), CATALOG)
    splits = split_interactions(interactions, split)
    return Dataset(name="x", catalog=CATALOG, splits=splits, interactions=interactions)


def slow_leakage(
    train: list[tuple[int, int, int]], test: list[tuple[int, int, int]]
) -> dict[str, int]:
    """From (user, item, time) of the training events and of the test targets."""
    items, users = {item for _, item, _ in train}, {user for user, _, _ in train}
    pairs = {(user, item) for user, item, _ in train}
    last, first = max(time for *_, time in train), min(time for *_, time in test)
    return {
        "test_targets": len(test),
        "test_targets_of_items_in_training": sum(item in items for _, item, _ in test),
        "test_targets_of_users_in_training": sum(user in users for user, _, _ in test),
        "test_targets_in_own_training": sum((user, item) in pairs for user, item, _ in test),
        "test_targets_before_the_last_training_event": sum(time < last for *_, time in test),
        "training_events_after_the_first_test_target": sum(time > first for *_, time in train),
    }


@given(HISTORIES, st.sampled_from(["leave_one_out", "users:0.5,0.25,0.25", "cold:0.4"]))
def test_leakage_is_that_of_plain_python(
    histories: list[list[tuple[int, int]]], split: str
) -> None:
    try:
        dataset = dataset_of(histories, split)
    except ValueError:  # a part without targets
        return
    cold = set(dataset.cold_items.tolist())
    train, test = [], []
    tested, trained = (
        set(part.users.tolist()) for part in (dataset.splits.test, dataset.splits.train)
    )
    for user, events in enumerate(histories):
        ordered = [(user, item, time) for time, item in sorted(events, key=lambda event: event[0])]
        if user in tested:
            test.append(ordered[-1])
        if user in trained:
            known = ordered if split.startswith("users") else ordered[:-2]
            train += [event for event in known if event[1] not in cold]
    assert leakage(dataset) == slow_leakage(train, test)


def test_a_split_by_time_leaks_neither_later_events_nor_by_design_users() -> None:
    histories = [[(time, time % 8) for time in range(10)], [(20, 1), (21, 2), (22, 3)]]
    found = leakage(dataset_of(histories, "global_time:0.7,0.15,0.15"))
    assert found == {
        "test_targets": 2,
        "test_targets_of_items_in_training": 2,
        "test_targets_of_users_in_training": 0,
        "test_targets_in_own_training": 0,
        "test_targets_before_the_last_training_event": 0,
        "training_events_after_the_first_test_target": 0,
    }


def windows(*rows: list[int], knows_users: bool = True, **settings: Any) -> Splits:
    parts = {
        name: SequenceSet(
            items=np.array(row),
            offsets=np.array([0, len(row)]),
            first_target=np.array([len(row) - 1]),
            users=np.array([0]),
        )
        for name, row in zip(("train", "valid", "test"), rows, strict=True)
    }
    return Splits(**parts, protocol="windows", dropped={}, knows_users=knows_users)


@pytest.mark.parametrize("knows_users", [True, False])
def test_windows_say_what_they_know(knows_users: bool) -> None:
    splits = windows([1, 2, 3], [2, 3, 4], [4, 3], knows_users=knows_users)
    dataset = Dataset(name="x", catalog=CATALOG, splits=splits, interactions=None)
    of_users = {"test_targets_of_users_in_training": 1, "test_targets_in_own_training": 1}
    assert leakage(dataset) == {
        "test_targets": 1,
        "test_targets_of_items_in_training": 1,
        **(of_users if knows_users else {}),
    }


def test_sequences_that_are_not_the_first_events_of_their_users_have_no_times() -> None:
    world = dataset_of([[(time, time) for time in range(6)]] * 3, "leave_one_out")
    assert event_times(world.splits.train, world) is not None
    assert event_times(windows([1, 2], [2, 3], [3, 4]).train, world) is None
    longer = windows([*range(6), 0], [2, 3], [3, 4]).train
    assert event_times(longer, world) is None


def test_times_of_a_cold_split_pass_over_cold_items() -> None:
    world = dataset_of(
        [[(time, time % 8) for time in range(u, u + 8)] for u in range(6)], "cold:0.4"
    )
    times = event_times(world.splits.train, world)
    assert ColdStart.parse("cold:0.4") is not None
    assert times is not None
    assert (times % 8 == world.splits.train.items).all()
