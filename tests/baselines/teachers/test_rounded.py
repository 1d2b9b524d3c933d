from __future__ import annotations

from pathlib import Path

import pytest
import torch
from worlds import histories, random_sequences

from baselines.data.batches import Histories
from baselines.teachers.cache import cached_mass
from baselines.teachers.config import MassConfig
from baselines.teachers.mass import mass_source
from baselines.teachers.rounded import RoundedScorer
from baselines.teachers.simple import Popularity
from semid.trie import CodeTrie

CODES = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]])


class Teacher:
    """Vectors whose products differ by less than bfloat16 can tell."""

    max_history = 3

    def user_vectors(self, histories: Histories) -> torch.Tensor:
        return torch.tensor([[3.0, 1.004]]).repeat(len(histories.items), 1)

    def item_vectors(self) -> torch.Tensor:
        return torch.tensor([[3.0, 0.0], [3.0, 0.01], [1.0, 1.0], [1.003, 1.0], [0.0, 2.5]])

    def score(self, histories: Histories) -> torch.Tensor:
        return self.user_vectors(histories) @ self.item_vectors().T


def test_vectors_and_scores_are_numbers_of_bfloat16() -> None:
    scores = RoundedScorer(Teacher()).score(histories([1], [2, 3]))
    assert scores.dtype == torch.float32
    # 1.004 becomes 1.0078125 and 1.003 becomes 1; products are 1/16, 1/32 and 1/64 apart
    assert scores[0].tolist() == [9.0, 9.0, 4.0, 4.0, 2.515625]
    assert torch.equal(scores[0], scores[1])
    exact = Teacher().score(histories([1]))[0]
    assert len(set(exact.tolist())) == 5


def test_rounded_distributions_are_kept_apart_in_the_cache(tmp_path: Path) -> None:
    trie, data = CodeTrie.from_paths(CODES, 3), random_sequences(5, 4)
    for scorer in (Teacher(), RoundedScorer(Teacher())):
        source = mass_source(scorer, trie, config=MassConfig())
        cached_mass(source, data, teacher="the same", folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_only_scores_that_are_dot_products_can_be_rounded() -> None:
    with pytest.raises(ValueError, match=r"reference=bfloat16 needs .* dot products .* Popularity"):
        RoundedScorer(Popularity(random_sequences(5, 3), 5))


def test_best_items_are_found_by_vectors_that_are_not_rounded() -> None:
    with pytest.raises(ValueError, match=r"top_k needs .* got RoundedScorer\. Leave top_k out"):
        mass_source(
            RoundedScorer(Teacher()), CodeTrie.from_paths(CODES, 3), config=MassConfig(top_k=2)
        )
