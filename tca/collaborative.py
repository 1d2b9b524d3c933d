"""The Collaborative Tokenizer: from item scores to next-token distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semid.trie import CodeTrie, ranges
from tca.functional import ragged_token_distribution, token_distribution

_SCORES_AT_ONCE = 2**19  # per thread at the root: 2 MB on top of the scores
_SUMMED_ALONE = 4096  # items per partial sum; one sum over millions would lose small terms


class CollaborativeTokenizer:
    """Turns a teacher's item scores into its distribution over the next token of a path.

    At position ``j`` of a target's path the candidates are the items that share its first ``j``
    tokens. The teacher's softmax over those candidates, summed by next token, is
    ``p(v | prefix)`` (TCA4Rec, arXiv:2601.18457); items that share a path each add their own mass.
    It is exact: every candidate is included and each prefix subtracts its own maximum, so prefixes
    whose items score far below the catalogue's best lose no precision.

    The root takes one pass over the scores, a few rows at a time; its items are summed in parts, so
    that a catalogue of millions keeps the precision of a small one. Below the root only the items
    under the prefixes are read, all positions at once. A prefix with a single child is skipped:
    that child has probability one.

    Args:
        trie: The paths of the catalogue; it stays on its device, where the inputs must be too.
        temperature: Divides the scores, above 0. 1 in the released code, which suits a teacher
            trained with full cross-entropy but is arbitrary for one trained with sampled BCE.

    Raises:
        ValueError: If the temperature is not above 0.
    """

    def __init__(self, trie: CodeTrie, *, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.trie = trie
        self.temperature = temperature
        self.num_slots = trie.max_children
        child = slice(*trie.first_child[:2].tolist())
        slot_in_order, _ = ranges(trie.first_item[child], trie.last_item[child])
        most = max(1, trie.num_items // self.num_slots)  # no more sums than there are items
        self._num_parts = min(-(-trie.num_items // _SUMMED_ALONE), most)
        item = torch.arange(trie.num_items, device=trie.device)
        part = item * self._num_parts // trie.num_items
        self._root_bag = slot_in_order[trie.place_of_item] + part * self.num_slots

    @torch.no_grad()
    def __call__(self, item_scores: Tensor, target_items: Tensor) -> Tensor:
        """Token distributions along the path of each target.

        Args:
            item_scores: Float ``(batch, item)`` over the catalogue rows, computed from each
                sample's history only; ``-inf`` excludes an item, such as a seen one.
            target_items: int64 ``(batch,)``, catalogue rows.

        Returns:
            float32 ``(batch, pos, child)``, ``pos`` up to the trie's depth and ``child`` up to its
            ``max_children``, aligned to ``trie.children``. It sums to one over the children of each
            prefix and is zero beyond the end of a shorter path. No gradient.

        Raises:
            ValueError: If the shapes do not fit the catalogue, a row of scores holds NaN or
                ``+inf`` or no finite score, or all items below a prefix with several children are
                excluded.
        """
        self._check(item_scores, target_items)
        prefix = self.trie.path(target_items)[:, :-1]
        num_children = self.trie.num_children(prefix)
        p = torch.zeros(*prefix.shape, self.num_slots, device=prefix.device)
        p[..., 0] = (num_children == 1).float()
        p[:, 0] = self._at_root(item_scores)
        num_children[:, 0] = 0  # the root is done
        rows, pos = (num_children > 1).nonzero().unbind(1)
        p[rows, pos] = self._below(item_scores, rows, prefix[rows, pos])
        self._check_masses(p, target_items)
        return p

    def _at_root(self, item_scores: Tensor) -> Tensor:
        rows = max(1, _SCORES_AT_ONCE // self.trie.num_items) * torch.get_num_threads()
        parts = (self._num_parts, self.num_slots)
        blocks = [
            token_distribution(
                scores, self._root_bag, math.prod(parts), temperature=self.temperature
            )
            for scores in torch.split(item_scores, rows)
        ]
        return torch.cat([p.view(len(p), *parts).sum(dim=1) for p in blocks])

    def _below(self, item_scores: Tensor, rows: Tensor, nodes: Tensor) -> Tensor:
        trie = self.trie
        prefix, place = ranges(trie.first_item[nodes], trie.last_item[nodes])
        row_start = rows * trie.num_items
        entry = trie.item_order.index_select(0, place) + row_start.index_select(0, prefix)
        first_child = trie.first_child[nodes]
        parent, child = ranges(first_child, trie.first_child[nodes + 1])
        slot = child - first_child.index_select(0, parent)
        items_below = trie.last_item.index_select(0, child) - trie.first_item.index_select(0, child)
        return ragged_token_distribution(
            item_scores.flatten().index_select(0, entry),
            prefix,
            slot.repeat_interleave(items_below),  # in path order, child after child
            (len(nodes), self.num_slots),
            temperature=self.temperature,
        )

    def _check(self, item_scores: Tensor, target_items: Tensor) -> None:
        num_items = self.trie.num_items
        if item_scores.dim() != 2 or item_scores.shape[1] != num_items:
            raise ValueError(
                f"item_scores must be (batch, item) over the {num_items} catalogue rows of the "
                f"trie, got {tuple(item_scores.shape)}. Do teacher and codes share one catalogue?"
            )
        if target_items.shape != item_scores.shape[:1]:
            raise ValueError(
                f"target_items must hold one catalogue row for each of the {len(item_scores)} rows "
                f"of item_scores, got {tuple(target_items.shape)}"
            )

    def _check_masses(self, p: Tensor, target_items: Tensor) -> None:
        undefined = p[..., 0].isnan()
        if not undefined.any():
            return
        row, pos = undefined.nonzero()[0].tolist()
        if pos == 0:
            raise ValueError(
                f"row {row} of item_scores holds NaN or +inf, or no finite score at all. "
                "Check the teacher's output for that row."
            )
        raise ValueError(
            f"row {row} of item_scores excludes every item that shares the first {pos} tokens of "
            f"its target, item {int(target_items[row])}. Leave the target's score finite."
        )
