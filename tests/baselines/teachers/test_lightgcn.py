"""LightGCN: the paper's sums as loops, users as their histories, and that it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import histories, random_sequences, sequence_set

from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import Windows
from baselines.teachers.config import LightGCNConfig
from baselines.teachers.lightgcn import LightGCN

NUM_ITEMS = 11  # the last one is in no training sequence
TRAIN = random_sequences(NUM_ITEMS - 1, 7, longest=6)


def lightgcn(num_layers: int = 3, **settings: float) -> LightGCN:
    config = LightGCNConfig(dim=4, num_layers=num_layers, **settings)  # type: ignore[arg-type]
    return LightGCN(config, TRAIN, NUM_ITEMS, seed=0).eval()


def item_sets() -> list[list[int]]:
    bounds = zip(TRAIN.offsets, TRAIN.offsets[1:], strict=False)
    return [sorted(set(TRAIN.items[begin:end].tolist())) for begin, end in bounds]


def slow_layers(made: LightGCN) -> tuple[list[Tensor], list[Tensor]]:
    """Equation 3, edge by edge."""
    owned = item_sets()
    size_of_item = [sum(item in items for items in owned) for item in range(NUM_ITEMS)]
    users, items = [made.user_embedding.weight], [made.item_embedding.weight]
    for _ in range(made.config.num_layers):
        next_users = torch.zeros_like(users[0])
        next_items = torch.zeros_like(items[0])
        for user, own in enumerate(owned):
            for item in own:
                weight = 1 / math.sqrt(len(own) * size_of_item[item])
                next_users[user] += weight * items[-1][item]
                next_items[item] += weight * users[-1][user]
        users.append(next_users)
        items.append(next_items)
    return users, items


@torch.no_grad()
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_layers_are_the_papers_sums(num_layers: int) -> None:
    made = lightgcn(num_layers)
    for fast, slow in zip(made.layers(), slow_layers(made), strict=True):
        for layer, expected in zip(fast, slow, strict=True):
            torch.testing.assert_close(layer, expected)


def test_gradients_of_the_layers_are_those_of_the_dense_graph() -> None:
    made = lightgcn()
    gradients = []
    for users, items in (made.layers(), slow_layers(made)):
        weight = torch.arange(1.0, 5.0)
        loss = sum((rows * weight).square().sum() for rows in (*users, *items))
        gradients.append(torch.autograd.grad(loss, list(made.parameters())))  # type: ignore[arg-type]
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow)


def test_a_training_user_has_the_papers_score_without_its_own_embedding() -> None:
    made = lightgcn()
    users, items = (torch.stack(layers) for layers in slow_layers(made))
    for user, own in enumerate(item_sets()):
        expected = items.mean(dim=0) @ (users[1:, user].sum(dim=0) / len(users))
        torch.testing.assert_close(made.score(histories(own))[0], expected.detach())


def test_order_repeats_padding_and_unseen_items_of_a_history_change_nothing() -> None:
    made = lightgcn()
    assert isinstance(made, ItemScorer)
    base = made.score(histories([1, 2, 5]))[0]
    pasts = [[5, 2, 1], [1, 2, 5, 2], [1, 2, 10, 5], [1, 2, 5]]
    for row in made.score(histories(*pasts, padding=2)):
        torch.testing.assert_close(row, base)
    assert torch.equal(made.score(histories([10])), torch.zeros(1, NUM_ITEMS))


def test_scores_follow_the_weights_from_one_validation_to_the_next() -> None:
    made = lightgcn()
    before = made.score(histories([1, 2]))
    windows = Windows.per_sequence(TRAIN, 6)
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1, fused=True)  # counts no versions
    made.train()
    made.loss(windows.batch(np.arange(len(windows)))).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    made.eval()
    assert not torch.isclose(made.score(histories([1, 2])), before).any()


class KeptNegatives(LightGCN):
    """Draws as ever and keeps the draw."""

    def _negatives(self, user: Tensor) -> Tensor:
        self.drawn = super()._negatives(user)
        return self.drawn


@pytest.mark.parametrize("regularisation", [0.0, 0.1])
def test_the_loss_is_bpr_with_negatives_that_the_user_does_not_have(regularisation: float) -> None:
    made = lightgcn(regularisation=regularisation)
    made.__class__ = KeptNegatives
    windows = Windows.per_sequence(TRAIN, 6)
    batch = windows.batch(np.arange(len(windows)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = float(made.loss(batch).detach())
    with torch.no_grad():
        users, items = slow_layers(made)
        users[0], items[0] = users[0].detach(), items[0].detach()
    all_users, all_items = torch.stack(users).mean(dim=0), torch.stack(items).mean(dim=0)
    owned, total, norm = item_sets(), 0.0, 0.0
    own = batch.windows.users[batch.target_row].tolist()
    negatives = made.drawn.tolist()  # type: ignore[attr-defined]
    for user, item, other in zip(own, batch.target_items.tolist(), negatives, strict=True):
        assert other not in owned[user]
        gain = float(all_users[user] @ (all_items[item] - all_items[other]))
        total += math.log(1 + math.exp(-gain))
        for row in (users[0][user], items[0][item], items[0][other]):
            norm += float(row.square().sum()) / 2
    expected = (total + regularisation * norm) / len(own)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_a_user_who_has_everything_is_refused_and_not_searched_forever() -> None:
    train = sequence_set([([0, 1, 2], 1), ([1, 2], 1)])
    with pytest.raises(ValueError, match="user 0 has all 3"):
        LightGCN(LightGCNConfig(), train, 3, seed=0)


def test_it_learns_which_group_a_history_is_of() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.permutation(8)[:5] + 8 * (user % 2) for user in range(40)]
    train = sequence_set([(group.tolist(), 1) for group in groups])
    windows = Windows.per_sequence(train, 10)
    batch = windows.batch(np.arange(len(windows)))
    made = LightGCN(LightGCNConfig(dim=8), train, 16, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(made.parameters(), lr=0.02)
        for _ in range(60):
            loss = made.loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    scores = made.eval().score(histories([0, 3], [9, 12]))
    assert scores[0, :8].min() > scores[0, 8:].max()
    assert scores[1, 8:].min() > scores[1, :8].max()
