"""Windows: every target once, with what stands before it and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import sequence_set

from baselines.data.batches import TrainBatch, Windows, histories_of_targets
from baselines.data.sequences import SequenceSet

Sequences = list[tuple[list[int], int]]

SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=16), st.integers(1, 9)), max_size=6
)
KINDS = {"per_target": Windows.per_target, "per_sequence": Windows.per_sequence}
WORLD: Sequences = [
    ([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], 1),
    ([8, 9], 1),
    ([7, 9, 3, 2, 3], 4),
    ([6], 1),
    ([], 2),
    ([2, 7, 1, 8, 2, 8], 3),
]


def slow_targets(sequences: Sequences) -> list[tuple[int, int, list[int]]]:
    """User, item and whole past of each target, in the order of target ids."""
    return [
        (user, items[pos], items[:pos])
        for user, (items, first) in enumerate(sequences)
        for pos in range(first, len(items))
    ]


def read(batch: TrainBatch) -> dict[int, tuple[int, int, list[int]]]:
    """User, item and past in the window of each target of a batch, by target id."""
    found: dict[int, tuple[int, int, list[int]]] = {}
    columns = (batch.target_row, batch.target_pos, batch.target_id, batch.target_items)
    for row, pos, number, item in zip(*(column.tolist() for column in columns), strict=True):
        assert batch.windows.mask[row, pos]
        real = batch.windows.mask[row, :pos]
        past = batch.windows.items[row, :pos][real].tolist()
        assert number not in found
        found[number] = (int(batch.windows.users[row]), item, past)
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(sequences=SEQUENCES, max_history=st.integers(1, 7))
def test_every_target_stands_in_one_window_behind_its_own_past(
    kind: str, sequences: Sequences, max_history: int
) -> None:
    windows = KINDS[kind](sequence_set(sequences), max_history)
    expected = slow_targets(sequences)
    if not expected:
        assert len(windows) == 0
        return
    found = read(windows.batch(np.arange(len(windows))))
    assert sorted(found) == list(range(len(expected)))
    for number, (user, item, past) in enumerate(expected):
        found_user, found_item, found_past = found[number]
        assert (found_user, found_item) == (user, item)
        assert 1 <= len(found_past) <= max_history
        assert found_past == past[-len(found_past) :]
        promised = max_history if kind == "per_target" else (max_history + 1) // 2
        assert len(found_past) >= min(len(past), promised)


@pytest.mark.parametrize("kind", KINDS)
@given(
    sequences=SEQUENCES,
    max_history=st.integers(1, 7),
    batch_events=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_an_epoch_is_all_windows_once(
    kind: str, sequences: Sequences, max_history: int, batch_events: int, seed: int
) -> None:
    windows = KINDS[kind](sequence_set(sequences), max_history)
    batches = list(windows.epoch(batch_events, np.random.default_rng(seed)))
    assert len(batches) == windows.num_batches(batch_events)
    ids = [number for batch in batches for number in batch.target_id.tolist()]
    assert sorted(ids) == list(range(len(slow_targets(sequences))))
    for batch in batches:
        rows, length = batch.windows.items.shape
        assert rows * length <= batch_events or rows == 1
    again = windows.epoch(batch_events, np.random.default_rng(seed))
    for batch, same in zip(batches, again, strict=True):
        assert torch.equal(batch.target_id, same.target_id)
        assert torch.equal(batch.windows.items, same.windows.items)


@given(sequences=SEQUENCES, batch_events=st.integers(1, 60), seed=st.integers(0, 99))
def test_windows_padded_to_a_width_are_drawn_in_equal_numbers_whatever_their_lengths(
    sequences: Sequences, batch_events: int, seed: int
) -> None:
    plain = Windows.per_target(sequence_set(sequences), 4)
    windows = plain.padded_to(5)
    batches = list(windows.epoch(batch_events, np.random.default_rng(seed)))
    assert len(batches) == windows.num_batches(batch_events)
    sizes = sorted(len(batch.windows.items) for batch in batches)
    assert all(size == max(batch_events // 5, 1) for size in sizes[1:])
    ids = [number for batch in batches for number in batch.target_id.tolist()]
    assert sorted(ids) == list(range(len(windows)))
    for batch in batches:
        assert batch.windows.items.shape[1] == 5
        assert (batch.target_pos == 4).all()
        for number, found in read(batch).items():
            assert found == read(plain.batch(np.array([number])))[number]


@pytest.mark.parametrize("kind", KINDS)
@given(batch_events=st.integers(1, 60), num_processes=st.integers(1, 5))
def test_processes_share_each_batch_or_learn_it_together(
    kind: str, batch_events: int, num_processes: int
) -> None:
    windows = KINDS[kind](sequence_set(WORLD * 3), 4)
    whole = windows.epoch(batch_events, np.random.default_rng(0))
    shares = [
        windows.epoch(
            batch_events, np.random.default_rng(0), process=process, num_processes=num_processes
        )
        for process in range(num_processes)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        expected, found = read(batch), [read(part) for part in parts]
        if len(batch.windows.items) < num_processes:
            assert all(part == expected for part in found)
        else:
            rows = [len(part.windows.items) for part in parts]
            assert max(rows) - min(rows) <= 1
            assert sum(map(len, found)) == len(expected)
            assert {number: target for part in found for number, target in part.items()} == expected


@pytest.mark.parametrize("kind", KINDS)
@given(batch_events=st.integers(1, 60), num_processes=st.integers(1, 3), number=st.integers(1, 5))
def test_a_batch_falls_into_parts_that_have_its_targets_and_none_is_empty(
    kind: str, batch_events: int, num_processes: int, number: int
) -> None:
    windows = KINDS[kind](sequence_set(WORLD * 3), 4)
    shares = [
        windows.epoch(
            batch_events, np.random.default_rng(0), process=process, num_processes=num_processes
        )
        for process in range(num_processes)
    ]
    for batches in zip(*shares, strict=True):
        parts = [list(batch.split(number)) for batch in batches]
        assert len({len(of_process) for of_process in parts}) == 1, "all take as many turns"
        fewest = min(len(batch.windows.items) for batch in batches)
        assert len(parts[0]) == min(number, fewest)
        for batch, of_process in zip(batches, parts, strict=True):
            assert all(len(part.target_id) for part in of_process)
            found = {key: value for part in of_process for key, value in read(part).items()}
            assert found == read(batch)
            assert sum(len(part.target_id) for part in of_process) == len(batch.target_id)
            assert sum(len(part.windows.items) for part in of_process) == len(batch.windows.items)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_is_another_order_of_batches_and_of_windows(kind: str) -> None:
    windows = KINDS[kind](sequence_set(WORLD * 5), 4)
    epochs = [list(windows.epoch(12, np.random.default_rng(seed))) for seed in (0, 1)]
    grouped = [{frozenset(batch.target_id.tolist()) for batch in epoch} for epoch in epochs]
    lengths = [[batch.windows.items.shape[1] for batch in epoch] for epoch in epochs]
    assert grouped[0] != grouped[1]
    assert lengths[0] != lengths[1]
    assert all(epoch_lengths != sorted(epoch_lengths) for epoch_lengths in lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_stands_on_the_left(kind: str) -> None:
    windows = KINDS[kind](sequence_set(WORLD), 4)
    made = windows.batch(np.arange(len(windows))).windows
    assert made.mask[:, -1].all()
    assert not (made.mask[:, :-1] & ~made.mask[:, 1:]).any()
    assert made.mask.sum(dim=1).tolist() == windows.lengths.tolist()
    assert made.mask.all(dim=1).any(), "the longest window needs no padding"


def test_a_sequence_that_fits_is_one_window_and_a_longer_one_moves_by_half() -> None:
    data = sequence_set([(list(range(5)), 1), (list(range(10, 21)), 1)])
    windows = Windows.per_sequence(data, 4)
    spans = zip(windows.start.tolist(), windows.first.tolist(), windows.stop.tolist(), strict=True)
    assert list(spans) == [(0, 1, 5), (5, 6, 10), (7, 10, 12), (9, 12, 14), (11, 14, 16)]
    assert windows.sequence.tolist() == [0, 1, 1, 1, 1]


@given(
    sequences=SEQUENCES.filter(lambda made: len(slow_targets(made)) > 0),
    max_history=st.integers(1, 20),
    batch_size=st.integers(1, 9),
    data=st.data(),
)
def test_histories_are_the_last_items_before_each_wanted_target(
    sequences: Sequences, max_history: int, batch_size: int, data: st.DataObject
) -> None:
    targets = slow_targets(sequences)
    chosen = data.draw(st.none() | st.lists(st.sampled_from(range(len(targets))), unique=True))
    subset = None if chosen is None else np.array(chosen, dtype=np.int64)
    wanted = targets if chosen is None else [targets[number] for number in chosen]
    found: dict[int, tuple[int, list[int]]] = {}
    for positions, past in histories_of_targets(
        sequence_set(sequences), max_history, batch_size, subset
    ):
        assert len(positions) <= batch_size
        for row, position in enumerate(positions.tolist()):
            assert position not in found
            found[position] = (int(past.users[row]), past.items[row][past.mask[row]].tolist())
    assert sorted(found) == list(range(len(wanted)))
    for position, (user, _, past) in enumerate(wanted):
        assert found[position] == (user, past[-max_history:])
    lengths = [len(past) for _, past in found.values()]
    assert lengths == sorted(lengths)


def world_batch() -> TrainBatch:
    windows = Windows.per_target(sequence_set(WORLD), 4)
    return windows.batch(np.arange(len(windows)))


def test_the_last_items_of_histories_and_what_stands_before_the_last() -> None:
    made = world_batch().windows
    for cut, columns in ((made.last(2), slice(-2, None)), (made.without_last(), slice(0, -1))):
        assert torch.equal(cut.items, made.items[:, columns])
        assert torch.equal(cut.mask, made.mask[:, columns])
        assert torch.equal(cut.users, made.users)
    assert torch.equal(made.last(99).items, made.items)


def test_a_batch_moves_with_all_that_belongs_to_it() -> None:
    moved = world_batch().to(torch.device("meta"))
    parts = [moved.windows.items, moved.windows.mask, moved.windows.users]
    parts += [moved.target_row, moved.target_pos, moved.target_id]
    assert {part.device.type for part in parts} == {"meta"}


def test_windows_read_the_users_of_their_sequences() -> None:
    base = sequence_set(WORLD)
    data = SequenceSet(
        items=base.items, offsets=base.offsets, first_target=base.first_target, users=base.users + 7
    )
    windows = Windows.per_sequence(data, 3)
    users = windows.batch(np.arange(len(windows))).windows.users
    assert users.tolist() == (windows.sequence + 7).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_built_once_for_a_set_and_a_length(kind: str) -> None:
    data, build = sequence_set(WORLD), KINDS[kind]
    windows = build(data, 3)
    assert build(data, 3) is windows
    assert build(data, 4) is not windows
    other = build(dataclasses.replace(data, items=data.items + 1), 3)
    assert other.data.items.tolist() == (data.items + 1).tolist()


def test_histories_are_kept_where_they_are_no_larger_than_the_sequences() -> None:
    held_out = sequence_set([([3, 1, 4, 1], 3), ([8, 9], 1), ([7, 9, 3], 2)])
    first, again = (list(histories_of_targets(held_out, 9, 2)) for _ in range(2))
    assert [past is same for (_, past), (_, same) in zip(first, again, strict=True)] == [True] * 2
    ((positions, past),) = histories_of_targets(held_out, 9, 2, subset=np.array([2, 1]))
    assert positions.tolist() == [1, 0], "another subset is another list"
    assert [row[real].tolist() for row, real in zip(past.items, past.mask, strict=True)] == [
        [8],
        [7, 9],
    ]
    every = sequence_set([([3, 1, 4, 1, 5, 9, 2, 6], 1)])
    first, again = (list(histories_of_targets(every, 9, 2)) for _ in range(2))
    assert not any(past is same for (_, past), (_, same) in zip(first, again, strict=True))
