"""The Collaborative Tokenizer for a teacher's top-k items, with an estimated tail for the rest.

With millions of items a teacher retrieves its ``k`` best instead of scoring them all. The mass of
the others, the *tail*, is kept: its log is estimated from random items (``sampled_tail``) or
bounded (``uniform_tail``), and every unlisted item gets an equal share of it. So the distribution
of every prefix still sums to one, even if none of its items is listed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semid.trie import CodeTrie

_FLOOR = -1e30  # log mass of an empty tail: negligible next to any listed item, yet finite


class TopKTokenizer:
    """Turns a teacher's top-k items into its distribution over the next token of a path.

    Like ``CollaborativeTokenizer``, with the score of each unlisted item replaced by the mean over
    them: ``exp(s / temperature) = exp(tail) / others``. It is exact if the whole catalogue is
    listed. The cost depends on the number of listed items and slots, not on the size of the
    catalogue.

    Args:
        trie: The paths of the catalogue; it stays on its device, where the inputs must be too.
        temperature: Divides the scores, above 0.

    Raises:
        ValueError: If the temperature is not above 0.
    """

    def __init__(self, trie: CodeTrie, *, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.trie = trie
        self.temperature = temperature
        self.num_slots = trie.max_children
        children = torch.arange(*trie.first_child[:2].tolist(), device=trie.device)
        in_order = (trie.last_item - trie.first_item)[children]
        slot_in_order = torch.arange(len(children), device=trie.device).repeat_interleave(in_order)
        self._root_slot = slot_in_order[trie.place_of_item]

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, items: Tensor, target_items: Tensor, tail_log_mass: Tensor
    ) -> Tensor:
        """Token distributions along the path of each target.

        Args:
            scores: Float ``(batch, entry)``, scores of the listed items; ``-inf`` excludes an item.
            items: int64 ``(batch, entry)``, catalogue rows, each at most once per row of the batch;
                -1 for padding.
            target_items: int64 ``(batch,)``, catalogue rows.
            tail_log_mass: Float ``(batch,)``: log of the summed ``exp(score / temperature)`` of all
                unlisted items; ``-inf`` if they have none.

        Returns:
            float32 ``(batch, pos, child)``, as from ``CollaborativeTokenizer``: sums to one over
            the children of each prefix. No gradient.

        Raises:
            ValueError: If the shapes do not fit each other, more items are listed than there are,
                a score or a tail is NaN or ``+inf``, or every item below a prefix with several
                children is excluded.
        """
        self._check(scores, items, target_items, tail_log_mass)
        trie, (batch, _) = self.trie, items.shape
        prefix = trie.path(target_items)[:, :-1]
        num_children = trie.num_children(prefix)
        child, valid = trie.children(prefix, self.num_slots)
        below = (trie.last_item[child] - trie.first_item[child]).masked_fill_(~valid, 0)

        listed = items >= 0
        shape = (batch, trie.depth)
        log_weight = (scores.float() / self.temperature).masked_fill(~listed, -torch.inf)
        row, pos, slot, weight = self._entries(log_weight, items, listed, prefix, num_children)
        cell = row * trie.depth + pos
        entry = cell * self.num_slots + slot
        others = below - torch.bincount(entry, minlength=below.numel()).view(below.shape)

        num_others = (trie.num_items - listed.sum(dim=1)).clamp_min(1)
        tail = (tail_log_mass.float().clamp_min(_FLOOR) - num_others.log())[:, None]
        highest = torch.where(others.any(dim=-1), tail, -torch.inf).flatten()
        highest.scatter_reduce_(0, cell, weight, "amax")
        mass = (
            others
            * (tail - highest.view(shape)).exp().nan_to_num_(nan=math.nan, posinf=0.0)[..., None]
        )
        weight = (weight - highest.index_select(0, cell)).exp_()
        mass.view(-1).scatter_add_(0, entry, weight)
        p = mass / mass.sum(dim=-1, keepdim=True)
        first = torch.arange(self.num_slots, device=p.device) == 0
        p = torch.where((num_children > 1)[..., None], p, first & (num_children == 1)[..., None])
        self._check_masses(p, others, target_items)
        return p

    def _entries(
        self, log_weight: Tensor, items: Tensor, listed: Tensor, prefix: Tensor, children: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Row, position, slot and log weight of each listed item at each prefix above it."""
        trie = self.trie
        row, column = listed.nonzero().unbind(1)
        weight, item = log_weight[row, column], items[row, column]
        slot = self._root_slot.index_select(0, item)
        at_root = (row, torch.zeros_like(row), slot, weight)
        if trie.depth == 1:
            return at_root
        near = (slot == (prefix[:, 1] - trie.first_child[0])[row]).nonzero().squeeze(1)
        row, item, weight = row[near], item[near], weight[near]
        path = trie.path(item)
        inside = (path[:, 1:-1] == prefix[row, 1:]) & (children[row, 1:] > 1)
        entry, pos = inside.nonzero().unbind(1)
        pos = pos + 1
        slot = path[entry, pos + 1] - trie.first_child[path[entry, pos]]
        deeper = (row[entry], pos, slot, weight[entry])
        root, row, slot, weight = (torch.cat(pair) for pair in zip(at_root, deeper, strict=True))
        return root, row, slot, weight

    def _check(self, scores: Tensor, items: Tensor, targets: Tensor, tail: Tensor) -> None:
        num_items = self.trie.num_items
        if scores.dim() != 2 or items.shape != scores.shape:
            raise ValueError(
                f"scores and items must both be (batch, entry), got {tuple(scores.shape)} and "
                f"{tuple(items.shape)}"
            )
        if targets.shape != scores.shape[:1] or tail.shape != scores.shape[:1]:
            raise ValueError(
                f"target_items and tail_log_mass must hold one value for each of the {len(scores)} "
                f"rows of scores, got {tuple(targets.shape)} and {tuple(tail.shape)}"
            )
        if items.numel() and not -1 <= int(items.min()) <= int(items.max()) < num_items:
            raise ValueError(
                f"items must be catalogue rows in [0, {num_items}), or -1, got "
                f"{int(items.min())} to {int(items.max())}. Do teacher and codes share a catalogue?"
            )
        if len(items) and (most := int((items >= 0).sum(dim=1).max())) > num_items:
            raise ValueError(
                f"expected at most the {num_items} items of the catalogue in a row, got {most}. "
                "Lower k."
            )
        if (bad := ~(tail < torch.inf)).any():
            raise ValueError(
                f"tail_log_mass of row {int(bad.nonzero()[0])} must be a number or -inf, got "
                f"{float(tail[bad][0])}. Check the teacher's output for that row."
            )

    def _check_masses(self, p: Tensor, others: Tensor, targets: Tensor) -> None:
        if (others < 0).any():
            row = int((others < 0).nonzero()[0, 0])
            raise ValueError(f"row {row} of items lists an item more than once. List it once.")
        undefined = p[..., 0].isnan()
        if not undefined.any():
            return
        row, pos = undefined.nonzero()[0].tolist()
        raise ValueError(
            f"row {row} of scores holds NaN or +inf, or excludes every item that shares the first "
            f"{pos} tokens of its target, item {int(targets[row])}. Check the teacher's output "
            "for that row."
        )


def uniform_tail(scores: Tensor, num_items: int, *, temperature: float = 1.0) -> Tensor:
    """Log mass of the unlisted items if each had the lowest listed score.

    If the best items are listed this is an upper bound on the tail, and far too high for a long
    one.

    Args:
        scores: Float ``(batch, entry)``, of distinct items; ``-inf`` where nothing is listed.
        num_items: Items of the catalogue.
        temperature: Above 0.

    Returns:
        float32 ``(batch,)``; ``-inf`` if the whole catalogue is listed.

    Raises:
        ValueError: If more items are listed than there are.
    """
    return _lowest(scores) / temperature + _log_others(scores, num_items)


def sampled_tail(
    scores: Tensor, sample_scores: Tensor, num_items: int, *, temperature: float = 1.0
) -> Tensor:
    """Log mass of the unlisted items, estimated from a uniform sample of the catalogue.

    The mean ``exp(score / temperature)`` of the sampled items that are unlisted, times the number
    of unlisted items.

    Args:
        scores: Float ``(batch, entry)``, of distinct items; ``-inf`` where nothing is listed.
        sample_scores: Float ``(batch, sample)``, scores of items drawn uniformly from the
            catalogue; ``-inf`` for those that are listed.
        num_items: Items of the catalogue.
        temperature: Above 0.

    Returns:
        float32 ``(batch,)``; ``uniform_tail`` if the whole sample is listed.

    Raises:
        ValueError: If more items are listed than there are.
    """
    num_sampled = (sample_scores > -torch.inf).sum(dim=-1)
    mean = (sample_scores.float() / temperature).logsumexp(dim=-1) - num_sampled.log()
    estimate = mean + _log_others(scores, num_items)
    bound = uniform_tail(scores, num_items, temperature=temperature)
    return torch.where(num_sampled > 0, estimate, bound)


def _lowest(scores: Tensor) -> Tensor:
    return scores.float().masked_fill(scores == -torch.inf, torch.inf).amin(dim=-1)


def _log_others(scores: Tensor, num_items: int) -> Tensor:
    listed = (scores > -torch.inf).sum(dim=-1)
    if len(listed) and (most := int(listed.max())) > num_items:
        raise ValueError(
            f"expected at most the {num_items} items of the catalogue to be listed, got {most}. "
            "Lower k."
        )
    return (num_items - listed).log()
