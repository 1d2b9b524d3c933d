"""The items of an export: their paths in a trie, and the prompts that histories become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
ItemId = str | int


class Catalogue:
    """Items and their paths, read from the folder of an export.

    The trie's nodes are numbered breadth-first, so the children of a node are contiguous and sorted
    by token, and the items below it are contiguous too. Node 0 is the root, -1 is outside the trie.

    Args:
        folder: The export.

    Attributes:
        item_ids: IDs of the items; an item's number is its place here.
        num_tokens: Tokens of the model.
        depth: Tokens of the longest path.
        end: Token that fills a path up to ``depth``.
        among_children: Whether a token's probability is relative to the tokens that may follow its
            prefix; otherwise to all ``num_tokens``.
        first_child: int64 ``(node + 1,)``; the children of ``n`` are the nodes ``first_child[n]``
            to ``first_child[n + 1] - 1``.
        token_of_node: int64 ``(node,)``; -1 for the root.
        parent_of_node: int64 ``(node,)``; -1 for the root.
        first_item: int64 ``(node,)``; the items below ``n`` are
            ``item_order[first_item[n]:last_item[n]]``.
        last_item: int64 ``(node,)``.
        item_order: int64 ``(item,)``, numbers of the items in the order of their paths.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.item_ids: list[ItemId] = json.loads((folder / "items.json").read_text("utf-8"))
        with np.load(folder / "semantic_ids.npz", allow_pickle=False) as held:
            arrays = {name: held[name].astype(np.int64) for name in held.files}
        self.num_tokens, self.depth, self.end = (
            int(arrays[name]) for name in ("num_tokens", "depth", "end")
        )
        self.among_children = bool(arrays["among_children"])
        self.first_child: IntArray = arrays["first_child"]
        self.token_of_node: IntArray = arrays["token_of_node"]
        self.first_item: IntArray = arrays["first_item"]
        self.last_item: IntArray = arrays["last_item"]
        self.item_order: IntArray = arrays["item_order"]
        parents = np.repeat(np.arange(len(self.token_of_node)), np.diff(self.first_child))
        self.parent_of_node: IntArray = np.concatenate([[-1], parents])
        self._head, self._tail = arrays["head"].tolist(), arrays["tail"].tolist()
        self._pieces, self._ends = arrays["pieces"], arrays["piece_ends"]
        self._separator, self._room = int(arrays["separator"]), int(arrays["room"])
        self._most = int(arrays["max_history"])
        self._number = {item: number for number, item in enumerate(self.item_ids)}

    def prompt(self, history: Sequence[ItemId]) -> list[int]:
        """The model's input for a history: tokens of its latest items, as many as fit.

        Args:
            history: IDs of items, oldest first; at least one.

        Raises:
            ValueError: If an item is unknown, or there is none.
        """
        unknown = [item for item in history if item not in self._number]
        if unknown or not history:
            raise ValueError(
                f"expected the IDs of known items, at least one, got {unknown[:3] or 'none'}"
            )
        words: list[int] = []
        for item in reversed(history[-self._most :]):
            number = self._number[item]
            start = self._ends[number - 1] if number else 0
            piece = self._pieces[start : self._ends[number]].tolist()
            if len(piece) + len(words) - self._separator > self._room:
                break
            words = piece + words
        return [*self._head, *words[self._separator :], *self._tail]

    def children(self, node: int) -> IntArray:
        """The nodes below ``node``, in the order of their tokens; int64 ``(child,)``."""
        return np.arange(self.first_child[node], self.first_child[node + 1])

    def items(
        self, leaves: Iterable[int], scores: Iterable[float], k: int
    ) -> list[tuple[ItemId, float]]:
        """The best ``k`` items, with their scores; items of one path have the same.

        Args:
            leaves: Nodes, best first; what is not a leaf is left out.
            scores: Log-probability of each.
            k: Length of the list.
        """
        found: list[tuple[ItemId, float]] = []
        for leaf, score in zip(leaves, scores, strict=True):
            if leaf < 0 or self.first_child[leaf] < self.first_child[leaf + 1]:
                continue
            below = self.item_order[self.first_item[leaf] : self.last_item[leaf]]
            found += [(self.item_ids[number], float(score)) for number in below]
        return found[:k]
