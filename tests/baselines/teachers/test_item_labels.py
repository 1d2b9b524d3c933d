"""Labels over whole items: the best items of each training target, and what the others share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from worlds import sequence_set

from baselines.data.batches import Histories, Windows
from baselines.teachers.config import MassConfig
from baselines.teachers.item_labels import item_labels

NUM_ITEMS, TEMPERATURE = 9, 0.5


class Counting:
    """Scores 3 for the item after the last one, 2 for the item after that, 0 for all others."""

    max_history, label = 1, "counting"

    def score(self, histories: Histories) -> Tensor:
        last = histories.items[:, -1]
        scores = torch.zeros(len(last), NUM_ITEMS)
        scores[torch.arange(len(last)), (last + 1) % NUM_ITEMS] = 3.0
        scores[torch.arange(len(last)), (last + 2) % NUM_ITEMS] = 2.0
        return scores


def test_flat_scores_outside_the_best_items_are_labelled_exactly() -> None:
    train = sequence_set([([3, 1, 4], 1), ([2, 7, 5], 2)])
    config = MassConfig(best_items=2)
    found = item_labels(Counting(), train, temperature=TEMPERATURE, config=config, batch_size=2)
    labels = found(Windows.per_target(train, 5).batch(np.array([1, 0, 2])))
    assert labels.items.tolist() == [[2, 3], [4, 5], [8, 0]]  # after histories 3 1, 3 and 2 7
    weights = torch.tensor([3.0, 2.0] + [0.0] * 7) / TEMPERATURE
    p = weights.softmax(dim=0)
    torch.testing.assert_close(labels.p, p[:2].expand(3, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(labels.rest, p[2].expand(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(labels.p.sum(dim=1) + 7 * labels.rest, torch.ones(3))


def test_items_of_the_history_are_excluded_like_in_the_distributions_over_codes() -> None:
    train = sequence_set([([3, 2, 1, 4], 3)])
    config = MassConfig(best_items=3, mask_history=True)
    labels = item_labels(Counting(), train, temperature=TEMPERATURE, config=config)(
        Windows.per_target(train, 5).batch(np.array([0]))
    )
    assert not {3, 2, 1} & set(labels.items[0, labels.p[0] > 0].tolist())
