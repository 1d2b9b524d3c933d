from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import sequence_set

from baselines.data.sequences import SequenceSet


def slow_targets(sequences: list[tuple[list[int], int]]) -> list[tuple[int, int]]:
    """Sequence and event of each target, one position at a time."""
    found, event = [], 0
    for number, (items, first) in enumerate(sequences):
        for pos in range(len(items)):
            if pos >= first:
                found.append((number, event))
            event += 1
    return found


SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 7)), max_size=8
)


@given(SEQUENCES)
def test_targets_are_the_positions_from_the_first_target_on(
    sequences: list[tuple[list[int], int]],
) -> None:
    made = sequence_set(sequences)
    sequence, event = made.targets()
    expected = slow_targets(sequences)
    assert list(zip(sequence.tolist(), event.tolist(), strict=True)) == expected
    assert made.num_targets == len(expected)
    assert len(made) == len(sequences)
    assert made.lengths.tolist() == [len(items) for items, _ in sequences]


@given(SEQUENCES)
def test_a_repeated_target_is_one_that_its_own_history_holds(
    sequences: list[tuple[list[int], int]],
) -> None:
    expected = [
        items[pos] in items[:pos] for items, first in sequences for pos in range(first, len(items))
    ]
    assert sequence_set(sequences).repeated_targets().tolist() == expected


def test_equal_sequences_have_equal_hashes_and_others_differ() -> None:
    base = [([1, 2, 3], 1), ([4, 5], 1)]
    variants = [
        [([1, 2, 3], 1), ([4, 6], 1)],
        [([1, 2, 3], 2), ([4, 5], 1)],
        [([1, 2], 1), ([3, 4, 5], 1)],
    ]
    hashes = {sequence_set(world).content_hash() for world in [base, base, *variants]}
    assert len(hashes) == 1 + len(variants)


@pytest.mark.parametrize(
    ("offsets", "first_target", "users", "message"),
    [
        ([1, 3], [1], [0], "offsets must run from 0"),
        ([0, 2], [1], [0], "offsets must run from 0"),
        ([0, 3, 2, 3], [1, 1, 1], [0, 1, 2], "without decreasing"),
        ([0, 3], [1, 1], [0], "equally many sequences"),
        ([0, 3], [1], [0, 1], "equally many sequences"),
        ([0, 3], [0], [0], "at least 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    offsets: list[int], first_target: list[int], users: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceSet(
            items=np.arange(3),
            offsets=np.array(offsets),
            first_target=np.array(first_target),
            users=np.array(users),
        )
