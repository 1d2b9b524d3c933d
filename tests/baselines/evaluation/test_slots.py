"""Reserved slots, beside their definition as loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.data.batches import Histories
from baselines.evaluation.slots import ReservedSlots
from semid.decoding import RankedItems

NOTHING = -torch.inf


class Content:
    """Scores that were drawn beforehand."""

    max_history = 3

    def __init__(self, scores: Tensor) -> None:
        self._scores = scores

    def score(self, histories: Histories) -> Tensor:
        return self._scores


def histories(batch: int) -> Histories:
    items = torch.zeros(batch, 1, dtype=torch.int64)
    return Histories(items=items, mask=items == 0, users=torch.arange(batch))


def slow_place(own: list[int], scores: list[float], number: int, k: int) -> list[int]:
    front = own[: k - number]
    may_place = [item for item, score in enumerate(scores) if score > NOTHING]
    best = sorted((i for i in may_place if i not in front), key=lambda i: (-scores[i], i))[:number]
    return front + best + [item for item in own[k - number :] if item not in best]


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("listed", [0, 3, 9])
@pytest.mark.parametrize("cold", [0, 1, 6])
def test_places_are_filled_as_defined(number: int, listed: int, cold: int) -> None:
    gen, items, batch, k = torch.Generator().manual_seed(number + listed + cold), 12, 8, 5
    scores = torch.randint(4, (batch, items), generator=gen).float()
    is_cold = torch.zeros(items, dtype=torch.bool)
    is_cold[torch.randperm(items, generator=gen)[:cold]] = True
    ranking = torch.stack([torch.randperm(items, generator=gen) for _ in range(batch)])
    own = torch.nn.functional.pad(ranking[:, :listed], (0, 2), value=-1)
    of_own = torch.arange(0.0, -listed - 2, -1).expand(batch, -1).masked_fill(own < 0, NOTHING)
    slots = ReservedSlots(number=number, content=Content(scores), is_cold=is_cold)
    of_content = slots.scores(histories(batch))
    assert torch.equal(of_content, scores.where(is_cold, torch.tensor(NOTHING)))
    found = slots.place(RankedItems(items=own, scores=of_own), of_content, k=k)
    for row in range(batch):
        expected = slow_place(ranking[row, :listed].tolist(), of_content[row].tolist(), number, k)
        listed_now = found.items[row][found.items[row] >= 0].tolist()
        assert listed_now == expected
        assert found.items[row, : len(expected)].tolist() == expected
        for place, item in enumerate(expected):
            before = (own[row] == item).nonzero().flatten().tolist()
            allowed = {float(of_own[row, one]) for one in before} | {float(of_content[row, item])}
            assert float(found.scores[row, place]) in allowed
    assert (found.scores[found.items < 0] == NOTHING).all()


@pytest.mark.parametrize("k", [1, 2])
def test_lists_without_a_place_for_the_model_are_refused(k: int) -> None:
    slots = ReservedSlots(
        number=2, content=Content(torch.zeros(1, 4)), is_cold=torch.ones(4, dtype=torch.bool)
    )
    own = RankedItems(items=torch.tensor([[0, 1]]), scores=torch.zeros(1, 2))
    with pytest.raises(ValueError, match=f"longer than their 2 reserved slots, got k {k}"):
        slots.place(own, slots.scores(histories(1)), k=k)
