"""SASRec: scores from a sample's own past only, and losses that are their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from worlds import histories, random_sequences, sequence_set

from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import TrainBatch, Windows
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.teachers.fit import fit_teacher
from baselines.teachers.sasrec import SASRec
from baselines.training.config import TrainingConfig

NUM_ITEMS = 12
ENCODER = EncoderConfig(dim=8, num_layers=2, num_heads=2, ff_dim=16)
PAST = [3, 1, 4, 1, 5]


def sasrec(seed: int = 0, *, max_history: int = 6, num_items: int = NUM_ITEMS) -> SASRec:
    config = SASRecConfig(max_history=max_history, encoder=ENCODER)
    made = SASRec(config, num_items, seed)
    with torch.no_grad():
        made.item_embedding.weight.mul_(20)  # so that scores differ by more than rounding
        made.position_embedding.weight.mul_(20)
    return made.eval()


def batch_of(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


def test_it_is_an_item_scorer() -> None:
    assert isinstance(sasrec(), ItemScorer)
    assert sasrec().max_history == 6
    assert sasrec().score(histories(PAST)).shape == (1, NUM_ITEMS)


def test_a_score_is_the_item_embedding_times_the_last_state() -> None:
    made = sasrec()
    state = made.states(histories(PAST))[0, -1].tolist()
    expected = [
        sum(a * b for a, b in zip(state, row, strict=True))
        for row in made.item_embedding.weight.tolist()
    ]
    torch.testing.assert_close(made.score(histories(PAST))[0], torch.tensor(expected))


def test_padding_and_batch_mates_change_no_score() -> None:
    made = sasrec()
    pasts = [PAST, [7], [2, 9], [11, 10, 9, 8, 7, 6]]
    together = made.score(histories(*pasts, padding=3))
    for row, past in enumerate(pasts):
        torch.testing.assert_close(together[row], made.score(histories(past))[0])


def test_items_before_the_window_change_no_score() -> None:
    made = sasrec(max_history=3)
    assert torch.equal(made.score(histories(PAST)), made.score(histories(PAST[-3:])))


def test_every_item_of_the_window_and_its_place_matter() -> None:
    made = sasrec()
    base = made.score(histories(PAST))
    for pos in range(len(PAST)):
        other = [*PAST[:pos], 9, *PAST[pos + 1 :]]
        assert not torch.isclose(made.score(histories(other)), base).any()
    assert not torch.isclose(made.score(histories([1, 3, 4, 1, 5])), base).all()


@torch.no_grad()
def test_a_state_does_not_see_later_items() -> None:
    made = sasrec()
    before = made.states(histories([3, 1, 4, 1, 5]))
    after = made.states(histories([3, 1, 4, 9, 2]))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).any()


def test_the_ce_loss_is_the_cross_entropy_of_the_scores() -> None:
    made = sasrec()
    batch = batch_of(Windows.per_target(random_sequences(NUM_ITEMS, 5), 6))
    scores = made.score(batch.windows.without_last())
    expected = F.cross_entropy(scores, batch.target_items)
    torch.testing.assert_close(made.loss(batch), expected)


def test_a_window_with_many_targets_counts_each_of_them() -> None:
    made = sasrec()
    batch = batch_of(Windows.per_sequence(random_sequences(NUM_ITEMS, 5), 6))
    assert len(batch.target_row) > len(batch.windows.items)
    states = made.states(batch.windows.without_last()).tolist()
    table = made.item_embedding.weight.tolist()
    total = 0.0
    for row, pos, item in zip(
        batch.target_row.tolist(),
        batch.target_pos.tolist(),
        batch.target_items.tolist(),
        strict=True,
    ):
        state = states[row][pos - 1]
        scores = [sum(a * b for a, b in zip(state, line, strict=True)) for line in table]
        total += math.log(sum(map(math.exp, scores))) - scores[item]
    assert float(made.loss(batch).detach()) == pytest.approx(
        total / len(batch.target_row), rel=1e-4
    )


class KeptNegatives(SASRec):
    """Draws as ever and keeps the draw."""

    def _negatives(self, batch: TrainBatch) -> Tensor:
        self.drawn = super()._negatives(batch)
        return self.drawn


def binary(num_negatives: int = 3, num_items: int = NUM_ITEMS) -> KeptNegatives:
    config = SASRecConfig(loss="bce", num_negatives=num_negatives, max_history=4, encoder=ENCODER)
    return KeptNegatives(config, num_items, seed=0).eval()


def test_the_binary_loss_is_its_definition() -> None:
    made = binary()
    batch = batch_of(Windows.per_target(random_sequences(NUM_ITEMS, 6), 4))
    loss = float(made.loss(batch).detach())
    scores = made.score(batch.windows.without_last()).double()
    total = 0.0
    for row, item in enumerate(batch.target_items.tolist()):
        total -= math.log(1 / (1 + math.exp(-scores[row, item])))
        for negative in made.drawn[row].tolist():
            total -= math.log(1 - 1 / (1 + math.exp(-scores[row, negative])))
    assert loss == pytest.approx(total / len(batch.target_items), rel=1e-5)


def test_no_negative_stands_in_the_window() -> None:
    made = binary(num_negatives=20, num_items=7)
    batch = batch_of(Windows.per_sequence(random_sequences(7, 40), 4))
    made.loss(batch)
    found = set()
    for row, negatives in zip(batch.target_row.tolist(), made.drawn.tolist(), strict=True):
        window = batch.windows.items[row][batch.windows.mask[row]].tolist()
        assert set(negatives).isdisjoint(window)
        found |= set(negatives)
    assert found == set(range(7)), "every item is drawn by someone, item 0 (the padding) included"


def test_a_catalogue_without_negatives_is_refused_and_not_searched_forever() -> None:
    with pytest.raises(ValueError, match="more than 5 items, got 5"):
        binary(num_items=5)


@pytest.mark.parametrize("loss", ["ce", "sampled_softmax", "bce"])
def test_training_lowers_the_loss(loss: str) -> None:
    cycles = [([(start + step) % NUM_ITEMS for step in range(6)], 1) for start in range(NUM_ITEMS)]
    batch = batch_of(Windows.per_sequence(sequence_set(cycles), 6))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = SASRec(
            SASRecConfig(loss=loss, sampled_items=6, max_history=6, encoder=ENCODER),  # type: ignore[arg-type]
            NUM_ITEMS,
            seed=0,
        )
        optimizer = torch.optim.AdamW(made.parameters(), lr=0.01)
        losses = []
        for _ in range(60):
            value = made.loss(batch)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(value.detach()))
    assert losses[-1] < 0.6 * losses[0]
    scores = made.eval().score(histories([3, 4, 5], [10, 11, 0]))
    seen = torch.tensor([[3, 4, 5], [10, 11, 0]])  # the binary loss never says no to a seen item
    assert scores.scatter(1, seen, -torch.inf).argmax(dim=1).tolist() == [6, 1]


def test_the_seed_decides_the_weights_and_leaves_other_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    first, same, other = (SASRec(SASRecConfig(), NUM_ITEMS, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(first.item_embedding.weight, other.item_embedding.weight)


def test_fitting_twice_reads_the_teacher_and_another_setting_is_another_teacher(
    tmp_path: Path,
) -> None:
    dataset = synthetic_dataset(num_users=150, num_items=50, seed=0)
    config = TeacherConfig(sasrec=SASRecConfig(encoder=ENCODER))
    training = TrainingConfig(epochs=3, lr=0.01)
    first, state, lineage = fit_teacher(dataset, config, training, seed=0, folder=tmp_path)
    assert state.epoch == 3
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert not first.training
    assert lineage.seen == dataset.splits.train_hash
    assert lineage.items == dataset.catalog.order_hash

    again, state_again, lineage_again = fit_teacher(
        dataset, config, training, seed=0, folder=tmp_path
    )
    assert state_again == state
    assert lineage_again == lineage
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    ranks = rank_by_scores(again, dataset.splits.valid)
    assert ranks.metrics("removed", "expected")["N@10"].mean() == state.best

    fit_teacher(dataset, config, training, seed=1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
