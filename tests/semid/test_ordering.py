"""Sort keys against Python's sort by score and place."""

from __future__ import annotations

import math

import pytest
import torch

from semid.ordering import sort_keys

SCORES = [0.0, -0.0, 1.5, -1.5, math.inf, -math.inf, 1e-45, -1e-45, 3e38, -3e38, 1.5, -math.inf]


@pytest.mark.parametrize("first", [0, 2**32 - len(SCORES)])
def test_the_order_is_by_score_and_then_by_place(first: int) -> None:
    gen = torch.Generator().manual_seed(0)
    place = first + torch.randperm(len(SCORES), generator=gen)
    keys = sort_keys(torch.tensor(SCORES), place)
    expected = sorted(range(len(SCORES)), key=lambda i: (-SCORES[i], place[i].item()))
    assert keys.argsort(descending=True).tolist() == expected
    assert keys.dtype == torch.int64
    assert len(set(keys.tolist())) == len(SCORES)


def test_the_places_of_a_row_serve_every_row() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    best = sort_keys(scores, torch.arange(3)).topk(3, dim=1).indices
    assert best.tolist() == [[1, 2, 0], [0, 1, 2]]
