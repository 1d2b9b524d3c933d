"""The last places of a list, reserved for items that the model cannot know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer, checked_scores
from baselines.data.batches import Histories
from semid.decoding import RankedItems
from semid.ordering import sort_keys


@dataclass(frozen=True, kw_only=True, eq=False)
class ReservedSlots:
    """Places at the end of each list for items without training events.

    The last ``number`` of the ``k`` listed items are the content scorer's best items that are not
    yet listed and have no training event.

    Attributes:
        number: Places reserved in each list, at least 1.
        content: Scores all items.
        is_cold: bool ``(item,)``, which items have no training event.
    """

    number: int
    content: ItemScorer
    is_cold: Tensor

    def scores(self, histories: Histories) -> Tensor:
        """Content scores of the cold items, float32 ``(batch, item)``; ``-inf`` for the others."""
        scores = checked_scores(self.content, histories)
        return scores.masked_fill(~self.is_cold.to(scores.device), -torch.inf)

    def place(self, ranked: RankedItems, scores: Tensor, *, k: int) -> RankedItems:
        """Place cold items in lists of ``k``; the model's own items that lose a place follow them.

        Where fewer cold items may be listed than there are places, the model's items move up.

        Args:
            ranked: The model's ranking.
            scores: Of the items that may be placed, as from `scores`; ``-inf`` for the others.
            k: Length of the lists.

        Returns:
            The rankings, with ``number`` columns more; items in reserved places have their content
            scores.

        Raises:
            ValueError: If ``k`` leaves no place for the model.
        """
        if k <= self.number:
            raise ValueError(
                f"lists must be longer than their {self.number} reserved slots, got k {k}. "
                "Ask for more items, or set slots lower."
            )
        own, cold = k - self.number, scores.to(ranked.items.device)
        front, rest = ranked.items.tensor_split([own], dim=1)
        row, place = (front >= 0).nonzero(as_tuple=True)
        cold = cold.index_put((row, front[row, place]), cold.new_tensor(-torch.inf))
        keys = sort_keys(cold, torch.arange(cold.shape[1], device=cold.device))
        best = keys.topk(min(self.number, cold.shape[1]), dim=1).indices
        of_best = cold.gather(1, best)
        best = best.masked_fill(of_best == -torch.inf, -1)
        rest = rest.masked_fill((rest[:, :, None] == best[:, None, :]).any(dim=2), -1)
        items = torch.cat([front, best, rest], dim=1)
        of_items = torch.cat([ranked.scores[:, :own], of_best, ranked.scores[:, own:]], dim=1)
        order = (items < 0).to(torch.uint8).argsort(dim=1, stable=True)
        items, of_items = items.gather(1, order), of_items.gather(1, order)
        return RankedItems(items=items, scores=of_items.masked_fill(items < 0, -torch.inf))
