"""Per-request additions to item scores, such as a promotion, a price or a margin."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.trie import CodeTrie


class ItemBoosts:
    """A value added to each item's log-probability before ranking.

    Inside ``beam_search`` a prefix competes with the highest boost below it, an upper bound for its
    items. So a beam over all leaves gives exactly the boosted order, and a narrow one does not lose
    a strongly boosted item behind an unlikely prefix.

    Args:
        trie: The paths of the catalogue.
        boosts: Float ``(item,)`` for all requests, or ``(batch, item)``; 0 changes nothing. They
            are added in float32: with a boost of a million, scores closer than 0.06 tie.

    Raises:
        ValueError: If the shape does not fit the catalogue, or a boost is not finite in float32.
    """

    def __init__(self, trie: CodeTrie, boosts: Tensor) -> None:
        if boosts.dim() not in (1, 2) or boosts.shape[-1] != trie.num_items:
            raise ValueError(
                f"boosts must be (item,) or (batch, item) over the {trie.num_items} items of the "
                f"trie, got {tuple(boosts.shape)}"
            )
        self._boosts = boosts.float().reshape(-1, trie.num_items)
        if not self._boosts.isfinite().all():
            raise ValueError(
                "boosts must be finite in float32. To leave an item out, deny it in a filter."
            )
        node = trie.node_of_item.long()
        best = self._boosts.new_full((len(self._boosts), trie.num_nodes), -torch.inf)
        for _ in range(trie.depth + 1):
            best.scatter_reduce_(1, node.expand_as(self._boosts), self._boosts, "amax")
            node = trie.parent_of_node[node].clamp_min(0).long()
        self._best_below = best

    def check(self, trie: CodeTrie) -> None:
        """Raise ``ValueError`` if the boosts belong to another catalogue than ``trie``."""
        if self._best_below.shape[1] != trie.num_nodes or self._boosts.shape[1] != trie.num_items:
            raise ValueError(
                f"the boosts were made for a trie of {self._boosts.shape[1]} items and "
                f"{self._best_below.shape[1]} nodes, got one of {trie.num_items} and "
                f"{trie.num_nodes}. Rebuild them after the catalogue has changed."
            )

    def below(self, nodes: Tensor) -> Tensor:
        """Highest boost below each node.

        Args:
            nodes: int64 ``(batch, n)``.

        Returns:
            float32 ``(batch, n)``.

        Raises:
            ValueError: If the boosts are of another batch.
        """
        return _of_rows(self._best_below, nodes)

    def of_items(self, items: Tensor) -> Tensor:
        """Boost of each item; 0 for -1.

        Args:
            items: int64 ``(batch, n)``, catalogue rows or -1.

        Returns:
            float32 ``(batch, n)``.

        Raises:
            ValueError: If the boosts are of another batch.
        """
        return _of_rows(self._boosts, items.clamp_min(0)).masked_fill(items < 0, 0.0)


def _of_rows(values: Tensor, index: Tensor) -> Tensor:
    if len(values) not in (1, len(index)):
        raise ValueError(f"the boosts are for {len(values)} requests, got {len(index)} rows")
    return values.expand(len(index), -1).gather(1, index)
