"""Item-kNN: counted pair by pair, neighbours by the definition, weights by age."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import histories, random_sequences, sequence_set

import baselines.data.cooccurrence
from baselines.contracts.scorer import ItemScorer
from baselines.data.sequences import SequenceSet
from baselines.teachers.config import ItemKNNConfig
from baselines.teachers.itemknn import ItemKNN


def slow_scores(
    config: ItemKNNConfig, train: SequenceSet, num_items: int, past: list[int]
) -> list[float]:
    """Scores of one history, by loops over users and pairs."""
    owned: dict[int, set[int]] = {}
    for number, user in enumerate(train.users.tolist()):
        own = train.items[train.offsets[number] : train.offsets[number + 1]].tolist()
        owned.setdefault(user, set()).update(own)
    count = [sum(item in own for own in owned.values()) for item in range(num_items)]
    scores = [0.0] * num_items
    for age, item in enumerate(reversed(past[-config.max_history :])):
        similar = []
        for other in range(num_items):
            both = sum(item in own and other in own for own in owned.values())
            if other != item and both:
                cosine = both / (math.sqrt(count[item] * count[other]) + config.shrinkage)
                similar.append((-cosine, other))
        for negative, other in sorted(similar)[: config.neighbours]:
            scores[other] -= negative * config.decay**age
    return scores


@given(
    seed=st.integers(0, 1000),
    neighbours=st.integers(1, 12),
    shrinkage=st.sampled_from([0.0, 2.5]),
    decay=st.sampled_from([1.0, 0.5]),
)
def test_scores_are_the_definition(
    seed: int, neighbours: int, shrinkage: float, decay: float
) -> None:
    train = random_sequences(9, 12, longest=6, seed=seed)
    config = ItemKNNConfig(neighbours=neighbours, shrinkage=shrinkage, decay=decay, max_history=4)
    made = ItemKNN(config, train, 10)
    pasts = [[1, 2, 3], [9], [0, 0, 4, 5, 6, 7]]
    scores = made.score(histories(*pasts, padding=2))
    assert scores.dtype == torch.float32
    for row, past in zip(scores.tolist(), pasts, strict=True):
        assert row == pytest.approx(slow_scores(config, train, 10, past), rel=1e-5, abs=1e-7)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train = random_sequences(30, 40)
    whole = ItemKNN(ItemKNNConfig(neighbours=5), train, 30)
    monkeypatch.setattr(baselines.data.cooccurrence, "_ROWS_AT_ONCE", 7)
    blocks = ItemKNN(ItemKNNConfig(neighbours=5), train, 30)
    assert isinstance(whole, ItemScorer)
    assert torch.equal(whole.neighbours, blocks.neighbours)
    assert torch.equal(whole.similarity, blocks.similarity)


def test_the_several_sequences_of_a_user_are_one() -> None:
    apart = sequence_set([([0, 1], 1), ([2, 3], 1), ([0, 2], 1)])
    one = SequenceSet(
        items=apart.items,
        offsets=apart.offsets,
        first_target=apart.first_target,
        users=np.array([0, 0, 1]),
    )
    made = ItemKNN(ItemKNNConfig(), one, 4)
    assert made.score(histories([1])).tolist() == [
        pytest.approx([1 / math.sqrt(2), 0, 1 / math.sqrt(2), 1])
    ]


@pytest.mark.parametrize("settings", [{"neighbours": 0}, {"shrinkage": -1}, {"decay": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be a .*number"):
        ItemKNNConfig(**settings)  # type: ignore[arg-type]
