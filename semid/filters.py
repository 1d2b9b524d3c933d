"""Which items a request may be answered with."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from semid.trie import CodeTrie


class ItemFilter:
    """Allow- and deny-lists of a batch of requests: what is in stock, on sale here, not seen yet.

    Inside ``beam_search`` a prefix stays open as long as an item that may be returned is below it,
    so ``k`` items come back wherever ``k`` exist. The nodes that a list decides about are those
    above its items: a filter costs what its lists are long, whatever the size of the catalogue, but
    for the trie's tables of parents and leaves, which the first filter makes.

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
        self._allows = allow is not None
        self._keys = self._sorted_keys(lists[-1])
        if deny is not None and allow is not None:
            denied = ItemFilter(trie, deny=deny)
            self._keys = self._sorted_keys(allow.masked_fill(~denied.permits(allow), -1))

    def check(self, trie: CodeTrie, batch_size: int) -> None:
        """Raise ``ValueError`` if the lists are of another catalogue or another batch."""
        if self.batch_size != batch_size:
            raise ValueError(
                f"the filter must have a list for each of the {batch_size} rows, got "
                f"{self.batch_size}"
            )
        own = self.trie
        if (own.num_items, own.num_nodes) != (trie.num_items, trie.num_nodes):
            raise ValueError(
                f"the filter is of a trie of {own.num_items} items and {own.num_nodes} nodes, got "
                f"one of {trie.num_items} and {trie.num_nodes}. Make it anew after the catalogue "
                "has changed."
            )

    def permits(self, items: Tensor) -> Tensor:
        """Whether each item may be returned; what is no catalogue row may not.

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
        """Whether an item below each child of each node may be returned to the node's row.

        Args:
            nodes: int64 ``(batch, beam)``, different nodes of depth ``depth`` in each row, or -1.
            depth: Number of tokens of their prefixes.
            slots: Number of child slots, at least the children of any of the nodes.

        Returns:
            bool ``(batch, beam, slot)``; what stands at a slot without a child means nothing.
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
        """By depth of the parent: row, parent and slot of the nodes that the lists decide about.

        Those are the nodes above an allowed item; or those that have only denied items below.
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
    """Whether each wanted number is among the sorted keys, and where."""
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
