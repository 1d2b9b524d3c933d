"""Which items a request may be answered with."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.trie import CodeTrie


class ItemFilter:
    """Allow- and deny-lists of a batch of requests: what is in stock, on sale here, not seen yet.

    Inside ``beam_search`` a prefix stays open as long as an item that may be returned is below it,
    so ``k`` items come back wherever ``k`` exist. The items below a node lie side by side in path
    order, so listed ones are counted by two binary searches in the lists; nothing passes over the
    catalogue, but for the places of its items, once a trie.

    Args:
        trie: The paths of the catalogue; lists must be on its device.
        deny: Items that must not be returned, int64 ``(batch, n)`` of catalogue rows, each list
            filled up with -1. Repetitions do no harm.
        allow: The only items that may be returned, in the same form; a list of -1 alone allows
            none. What both lists name is denied.

    Raises:
        ValueError: If neither list is given, the two differ in rows, or a list holds anything else
            than catalogue rows and -1.
    """

    def __init__(
        self, trie: CodeTrie, *, deny: Tensor | None = None, allow: Tensor | None = None
    ) -> None:
        lists = [_checked(items, trie) for items in (deny, allow) if items is not None]
        if not lists:
            raise ValueError("expected a list of items to deny, to allow, or both; got neither")
        if len({len(items) for items in lists}) > 1:
            raise ValueError(
                f"deny and allow must have one row for each request, got {len(lists[0])} and "
                f"{len(lists[1])}"
            )
        self.trie = trie
        self.batch_size = len(lists[0])
        self._stride = trie.num_items + 1  # one more than the places of a row
        self._allows = allow is not None
        self._keys = self._sorted_keys(lists[-1])
        if deny is not None and allow is not None:
            denied = ItemFilter(trie, deny=deny)
            self._keys = self._sorted_keys(allow.masked_fill(~denied.permits(allow), -1))

    def permits(self, items: Tensor) -> Tensor:
        """Whether each item may be returned; -1 may not.

        Args:
            items: int64 ``(batch, n)``, catalogue rows or -1.

        Returns:
            bool ``(batch, n)``.
        """
        row = torch.arange(len(items), device=items.device).unsqueeze(1).expand_as(items)
        place = self.trie.place_of_item[items]
        listed = self._count(row, place, place + 1) > 0
        return (listed if self._allows else ~listed) & (items >= 0)

    def leaves_open(self, row: Tensor, nodes: Tensor) -> Tensor:
        """Whether an item below each node may be returned to the request ``row``.

        Args:
            row: int64, any shape, in ``[0, batch_size)``.
            nodes: int64, the same shape.

        Returns:
            bool, the same shape.
        """
        first, last = self.trie.first_item[nodes], self.trie.last_item[nodes]
        listed = self._count(row, first, last)
        return listed > 0 if self._allows else listed < last - first

    def _count(self, row: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """Number of listed places from ``first`` up to, not including, ``last``."""
        base = row * self._stride
        return torch.searchsorted(self._keys, base + last) - torch.searchsorted(
            self._keys, base + first
        )

    def _sorted_keys(self, items: Tensor) -> Tensor:
        """The listed places, each once, as ``row * stride + place``, in order."""
        row, column = (items >= 0).nonzero().unbind(1)
        place = self.trie.place_of_item[items[row, column]]
        keys: Tensor = torch.unique(row * self._stride + place)
        return keys


def _checked(items: Tensor, trie: CodeTrie) -> Tensor:
    if items.dim() != 2 or items.dtype != torch.int64:
        raise ValueError(
            f"a list of items must be int64 (batch, n), got {items.dtype} {tuple(items.shape)}"
        )
    if ((items < -1) | (items >= trie.num_items)).any():
        raise ValueError(
            f"a list of items must hold catalogue rows in [0, {trie.num_items}) filled with -1, "
            f"got {int(items.min())} to {int(items.max())}"
        )
    return items
