"""Popularity: counts, whoever asks."""

from __future__ import annotations

from worlds import histories, sequence_set

from baselines.teachers.scorer import ItemScorer
from baselines.teachers.simple import Popularity


def test_an_item_scores_as_often_as_it_occurs_in_training() -> None:
    train = sequence_set([([0, 2, 2], 1), ([2, 1], 1), ([4], 1)])
    popularity = Popularity(train, num_items=6)
    assert isinstance(popularity, ItemScorer)
    scores = popularity.score(histories([5], [2, 1]))
    assert scores.tolist() == [[1.0, 1.0, 3.0, 0.0, 1.0, 0.0]] * 2
