"""Windows of a user put together: each event once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import sequence_set

from baselines.data.sequences import SequenceSet
from baselines.data.streams import user_streams


def windows(*of_users: list[list[int]]) -> SequenceSet:
    """Windows of users 0, 1, ..., mixed, each with its last item as target."""
    rows = [(user, items) for user, own in enumerate(of_users) for items in own]
    rows = [row for turn in range(3) for row in rows[turn::3]]
    made = sequence_set([(items, len(items) - 1) for _, items in rows])
    return SequenceSet(
        items=made.items,
        offsets=made.offsets,
        first_target=made.first_target,
        users=np.array([user for user, _ in rows]),
    )


def as_lists(data: SequenceSet) -> list[tuple[int, list[int]]]:
    parts = np.split(data.items, data.offsets[1:-1])
    return [(user, part.tolist()) for user, part in zip(data.users.tolist(), parts, strict=True)]


@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    history=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_sliding_windows_in_any_order_give_the_sequences_back(
    lengths: list[int], history: int, order: object
) -> None:
    own = [list(range(20 * user, 20 * user + length)) for user, length in enumerate(lengths)]
    cut = [
        [items[max(0, end - history) : end + 1] for end in range(1, len(items))] for items in own
    ]
    for each in cut:
        order.shuffle(each)  # type: ignore[attr-defined]
    found = user_streams(windows(*cut))
    assert sorted(as_lists(found)) == list(enumerate(own))
    assert (found.first_target == 1).all()


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([[1, 2, 3], [7, 8, 9]], [[1, 2, 3], [7, 8, 9]]),
        ([[1, 2, 3], [7, 8, 9], [3, 5, 7]], [[1, 2, 3, 5, 7, 8, 9]]),
        ([[1, 2, 3, 4], [2, 3], [1, 2, 3, 4]], [[1, 2, 3, 4]]),
        ([[1, 1, 2], [1, 2, 1]], [[1, 1, 2, 1]]),
        ([[4, 2], [2, 4]], [[4, 2, 4]]),
    ],
)
def test_windows_are_joined_by_what_they_share(
    own: list[list[int]], expected: list[list[int]]
) -> None:
    assert sorted(items for _, items in as_lists(user_streams(windows(own)))) == expected


def test_users_with_one_sequence_keep_it() -> None:
    data = sequence_set([([5, 5, 1], 2), ([5, 1], 1)])
    found = user_streams(data)
    assert found.items is data.items
    assert found.first_target.tolist() == [1, 1]
    assert user_streams(data) is found
