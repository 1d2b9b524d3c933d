"""Contexts drawn at random: which items stay, which are targets, and whose labels they have."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import random_sequences, sequence_set

from baselines.data.batches import TrainBatch, Windows
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from baselines.training.config import TrainingConfig
from baselines.training.contexts import draw_contexts
from baselines.training.loop import TrainingTask, train
from semid.provenance import Provenance
from tca.objective import ObjectiveOutput

DATA = random_sequences(30, 40, longest=9)
RISING = itertools.count()
FORMS = [Windows.per_sequence(DATA, 6), Windows.per_target(DATA, 6)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def whole(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


def histories(batch: TrainBatch) -> list[list[int]]:
    """The real items of each window."""
    pairs = zip(batch.windows.items, batch.windows.mask, strict=True)
    return [items[mask].tolist() for items, mask in pairs]


def contexts(batch: TrainBatch) -> dict[int, tuple[list[int], int]]:
    """By target id, the history and the item of each target."""
    found = {}
    for row, pos, target in zip(
        batch.target_row.tolist(), batch.target_pos.tolist(), batch.target_id.tolist(), strict=True
    ):
        items, mask = batch.windows.items[row, :pos], batch.windows.mask[row, :pos]
        found[target] = (items[mask].tolist(), int(batch.windows.items[row, pos]))
    return found


def is_subsequence(part: list[int], of: list[int]) -> bool:
    left = iter(of)
    return all(item in left for item in part)


@pytest.mark.parametrize("windows", FORMS)
@pytest.mark.parametrize(("drop", "crop"), [(0.4, 0.0), (0.0, 0.7), (0.4, 0.7), (0.99, 0.0)])
def test_a_context_is_a_part_of_the_whole_one_and_its_target_is_the_same(
    windows: Windows, drop: float, crop: float
) -> None:
    batch = whole(windows)
    before, drawn = contexts(batch), draw_contexts(batch, drop=drop, crop=crop)
    after = contexts(drawn)
    if windows is FORMS[0]:
        assert after.keys() < before.keys(), "an item dropped is no target"
    else:
        assert after.keys() == before.keys(), "a window's last target stays"
    for target, (history, item) in after.items():
        assert history
        assert is_subsequence(history, before[target][0])
        assert item == before[target][1]
    shorter = [len(after[target][0]) < len(before[target][0]) for target in after]
    assert any(shorter)
    for row, items in enumerate(histories(drawn)):
        assert items[-2:] == histories(batch)[row][-2:]
        assert drawn.windows.mask[row, -len(items) :].all(), "they lie at the end"
    last = batch.target_pos == batch.windows.items.shape[1] - 1
    assert set(batch.target_id[last].tolist()) <= after.keys()
    assert drawn.windows.items.shape == batch.windows.items.shape
    assert torch.equal(drawn.windows.users, batch.windows.users)


def test_every_item_kept_with_another_before_it_stays_a_target() -> None:
    batch = whole(Windows.per_sequence(random_sequences(30, 40, longest=7), 6))  # none is cut
    drawn = draw_contexts(batch, drop=0.5, crop=0.5)
    width = drawn.windows.items.shape[1]
    for row, items in enumerate(histories(drawn)):
        at = drawn.target_pos[drawn.target_row == row].tolist()
        assert at == list(range(width - len(items) + 1, width))


def test_items_are_dropped_and_windows_cropped_as_often_as_said() -> None:
    long = sequence_set([([*range(20)], 1)] * 4000)
    batch = whole(Windows.per_sequence(long, 30))
    dropped = draw_contexts(batch, drop=0.3, crop=0.0).windows.mask.float().sum(dim=1) - 2
    assert float(dropped.mean() / 18) == pytest.approx(0.7, abs=0.01)
    lengths = draw_contexts(batch, drop=0.0, crop=0.5).windows.mask.sum(dim=1)
    counts = lengths.bincount(minlength=21) / len(lengths)
    assert counts[:2].sum() == 0
    assert counts[2:20].tolist() == pytest.approx([0.5 / 19] * 18, abs=0.012)
    assert float(counts[20]) == pytest.approx(0.5 + 0.5 / 19, abs=0.03)


def test_the_histories_are_suffixes_where_nothing_is_dropped() -> None:
    batch = whole(FORMS[0])
    pairs = zip(histories(batch), histories(draw_contexts(batch, drop=0.0, crop=1.0)), strict=True)
    for before, after in pairs:
        assert before[-len(after) :] == after


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


def trained(folder: Path, kill_after: int | None = None, **settings: object) -> list[Tensor]:
    """Train three epochs; the weights in the end."""
    encoder = EncoderConfig(dim=8, num_layers=1, ff_dim=16, dropout=0.3)
    made = SASRec(SASRecConfig(max_history=6, encoder=encoder), 30, seed=0)
    steps = iter(range(10**6))

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        if next(steps) == kill_after:
            raise Killed
        count = torch.tensor(len(batch.target_id))
        return ObjectiveOutput(loss=made.loss(batch), parts={}, count=count)

    train(
        made,
        TrainingTask(windows=FORMS[0], loss=loss, validate=lambda: float(next(RISING))),
        config=TrainingConfig(epochs=3, batch_events=60, patience=3, **settings),  # type: ignore[arg-type]
        seed=0,
        folder=folder,
        lineage=Provenance(kind="model", content=""),
        title="test",
    )
    return [value.detach().clone() for value in made.parameters()]


def test_a_killed_training_draws_the_same_contexts_again(tmp_path: Path) -> None:
    settings = {"drop_items": 0.3, "crop_history": 0.5}
    expected = trained(tmp_path / "undisturbed", **settings)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", FORMS[0].num_batches(60) + 1, **settings)
    again = trained(tmp_path / "killed", **settings)
    plain = trained(tmp_path / "plain")
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert not torch.equal(expected[0], plain[0])


def test_nothing_is_drawn_without_probabilities() -> None:
    batch, before = whole(FORMS[0]), torch.get_rng_state()
    assert draw_contexts(batch, drop=0.0, crop=0.0) is batch
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [-0.1, 1.0, float("nan")])
def test_a_probability_of_dropping_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="drop_items"):
        TrainingConfig(drop_items=wrong)
    with pytest.raises(ValueError, match="crop_history"):
        TrainingConfig(crop_history=wrong * 2)
