"""Popularity: counts, whoever asks."""

from __future__ import annotations

import torch
from worlds import histories, sequence_set

from baselines.contracts.scorer import ItemScorer
from baselines.teachers.simple import Popularity


def test_the_softmax_of_the_scores_is_the_share_of_training_with_one_more_of_each() -> None:
    train = sequence_set([([0, 2, 2], 1), ([2, 1], 1), ([4], 1)])
    popularity = Popularity(train, num_items=6)
    assert isinstance(popularity, ItemScorer)
    scores = popularity.score(histories([5], [2, 1]))
    assert scores.dtype == torch.float32
    shares = torch.tensor([2.0, 2.0, 4.0, 1.0, 2.0, 1.0]) / 12
    torch.testing.assert_close(scores.softmax(dim=1), shares.expand(2, -1))
