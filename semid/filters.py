"""Filters: the items that may be returned for a request."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from semid.trie import CodeTrie


class ItemFilter:
    """Allow- and deny-lists for a batch of requests, such as items in stock or not seen yet.

    Inside ``beam_search`` a prefix is kept as long as an allowed item is below it, so ``k`` items
    are returned whenever ``k`` exist. A list affects only the nodes above its items, so a filter's
    cost depends on the length of its lists and not on the catalogue, except for the trie's parent
    and leaf tables, which the first filter builds.

    Args:
        trie: The paths of the catalogue; lists must be on its device.
        deny: Items that must not be returned, int64 ``(batch, n)`` of catalogue rows, each list
            padded with -1. Repeats are allowed.
        allow: The only items that may be returned, in the same form; a list of only -1 allows none.
            Items in both lists are denied.

    Raises:
        ValueError: If neither list is given, their numbers of rows differ, or a list contains
            anything but catalogue rows and -1.
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
        self._allows = allow is not None
        self._keys = self._sorted_keys(lists[-1])
        if deny is not None and allow is not None:
            denied = ItemFilter(trie, deny=deny)
            self._keys = self._sorted_keys(allow.masked_fill(~denied.permits(allow), -1))

    def check(self, trie: CodeTrie, batch_size: int) -> None:
        """Raise ``ValueError`` if the lists belong to another catalogue or another batch."""
        if self.batch_size != batch_size:
            raise ValueError(
                f"the filter must have a list for each of the {batch_size} rows, got "
                f"{self.batch_size}"
            )
        own = self.trie
        if (own.num_items, own.num_nodes) != (trie.num_items, trie.num_nodes):
            raise ValueError(
                f"the filter was made for a trie of {own.num_items} items and {own.num_nodes} "
                f"nodes, got one of {trie.num_items} and {trie.num_nodes}. Rebuild it after the "
                "catalogue has changed."
            )

    def permits(self, items: Tensor) -> Tensor:
        """Whether each item may be returned; false for -1.

        Args:
            items: int64 ``(batch, n)``, catalogue rows or -1.

        Returns:
            bool ``(batch, n)``.
        """
        row = torch.arange(len(items), device=items.device).unsqueeze(1)
        listed = _found(self._keys, row * self.trie.num_items + items)[0]
        exists = (items >= 0) & (items < self.trie.num_items)
        return (listed if self._allows else ~listed) & exists

    def open_children(self, nodes: Tensor, depth: int, slots: int) -> Tensor:
        """Whether any item below each child of each node may be returned for the node's row.

        Args:
            nodes: int64 ``(batch, beam)``, distinct nodes at ``depth`` in each row, or -1.
            depth: Number of tokens of their prefixes.
            slots: Number of child slots, at least the largest number of children.

        Returns:
            bool ``(batch, beam, slot)``; undefined in slots without a child.
        """
        row, parent, slot = self._listed_children[depth]
        stride = self.trie.num_nodes
        rows = torch.arange(self.batch_size, device=nodes.device).unsqueeze(1)
        beams = torch.where(nodes < 0, self.batch_size * stride, rows * stride + nodes)
        beams, order = beams.flatten().sort()
        found, place = _found(beams, row * stride + parent)
        nowhere = nodes.numel() * slots
        place = torch.where(found, order[place] * slots + slot, nowhere)
        listed = torch.zeros(nowhere + 1, dtype=torch.bool, device=nodes.device)
        listed = listed.index_fill_(0, place, True)[:-1].view(*nodes.shape, slots)
        return listed if self._allows else ~listed

    @cached_property
    def _listed_children(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """By depth of the parent: row, parent and slot of the nodes that the lists affect.

        These are the nodes above an allowed item, or those with only denied items below.
        """
        trie = self.trie
        row = self._keys // trie.num_items
        path = trie.path(self._keys % trie.num_items)
        listed = []
        for depth in range(trie.depth):
            reaches = path[:, depth + 1] >= trie.level_start[depth + 1]  # a shorter path does not
            keys = row[reaches] * trie.num_nodes + path[reaches, depth + 1]
            keys, count = torch.unique(keys, return_counts=True)
            if not self._allows:
                node = keys % trie.num_nodes
                keys = keys[count == trie.last_item[node] - trie.first_item[node]]
            node = keys % trie.num_nodes
            parent = trie.parent_of_node[node].long()
            listed.append((keys // trie.num_nodes, parent, node - trie.first_child[parent]))
        return listed

    def _sorted_keys(self, items: Tensor) -> Tensor:
        """The listed items, each once, as ``row * num_items + item``, in order."""
        row, column = (items >= 0).nonzero().unbind(1)
        keys: Tensor = torch.unique(row * self.trie.num_items + items[row, column])
        return keys


def _found(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each wanted number is among the sorted keys, and its position."""
    if len(keys) == 0:
        return torch.zeros_like(wanted, dtype=torch.bool), torch.zeros_like(wanted)
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return keys[place] == wanted, place


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
