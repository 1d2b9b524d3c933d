"""A table of distributions and the teacher itself say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_mass import teacher_mass
from torch import Tensor
from worlds import random_sequences

from baselines.data.batches import Histories, Windows
from baselines.teachers.config import MassConfig
from baselines.teachers.distributions import LiveDistributions, StoredDistributions
from baselines.teachers.mass import mass_source
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.config import ObjectiveConfig
from tca.objective import Objective

RAGGED = torch.tensor([[0, 3, -1], [0, 1, 3], [2, 3, -1], [1, 1, 3], [1, 2, 3], [1, 1, 3]])


class LastItems:
    """Scores that depend on the last items of a history and their order."""

    def __init__(self, max_history: int) -> None:
        self.max_history = max_history

    def score(self, histories: Histories) -> Tensor:
        past = histories.last(self.max_history)
        weight = past.mask * torch.arange(1, past.items.shape[1] + 1).flip(0)
        return torch.sin((past.items * weight).sum(1, keepdim=True) + torch.arange(6.0))


@pytest.mark.parametrize("max_history", [1, 7])
def test_what_the_teacher_says_of_a_batch_is_what_the_table_holds(max_history: int) -> None:
    trie, data = CodeTrie.from_paths(RAGGED, 4), random_sequences(6, 9)
    scorer = LastItems(max_history)
    stored = StoredDistributions(teacher_mass(scorer, CollaborativeTokenizer(trie), data))
    live = LiveDistributions(mass_source(scorer, trie, config=MassConfig()), data)
    objective = Objective(ObjectiveConfig(name="soft_ce", alpha=0.5))
    batch = Windows.per_target(data, 2).batch(np.array([3, 0, 11]))  # the backbone reads two items
    at = objective.positions(trie, batch.target_items, pad_to=1)
    assert at.real.all()
    torch.testing.assert_close(live(batch, at), stored(batch, at).float(), atol=1e-3, rtol=1e-3)
    assert not torch.equal(live(batch, at)[0], live(batch, at)[1])
