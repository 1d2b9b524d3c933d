"""Exact scores of the whole catalogue, the reference for every search."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.config import Renormalize
from semid.fusion import Rescoring
from semid.prefixes import Prefixes
from semid.successors import check_renormalize, is_decided, refuse_broken, successors
from semid.trie import CodeTrie


@torch.no_grad()
def score_all(
    start: Prefixes,
    trie: CodeTrie,
    *,
    renormalize: Renormalize = "children",
    chunk: int = 512,
    fusion: Rescoring | None = None,
) -> Tensor:
    """Log-probability of every catalogue row, by one traversal of the trie.

    Every prefix is read once per row, extending its parent by one token; with
    ``renormalize="children"`` only prefixes that can still branch are read.

    Args:
        start: The empty prefix after each history, on the device of the trie.
        trie: Paths of the catalogue.
        renormalize: See ``Renormalize``.
        chunk: Maximum number of prefixes read at a time. Besides the result, memory is the model's
            state for ``chunk`` prefixes per row and depth, whatever the size of the catalogue.
        fusion: Changes the scores of every step, as in ``beam_search``.

    Returns:
        float32 ``(batch, item)``; duplicates share the score of their path; ``-inf`` for an item
        that the model or the guide forbids, which no search returns.

    Raises:
        ValueError: If ``chunk`` is not positive, a guide belongs to another batch, or the logits or
            the guide's log-probabilities have the wrong shape or contain NaN or +inf.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    check_renormalize(renormalize)
    if fusion is not None:
        fusion.check(start.batch_size)
    walk = _Walk(trie, renormalize, chunk, start.batch_size)
    root = torch.zeros(1, dtype=torch.int64, device=trie.device)
    walk.below(root, torch.zeros(start.batch_size, 1, device=trie.device), 0, start, fusion)
    refuse_broken(walk.broken)
    return walk.scores


def item_log_probs(
    start: Prefixes, trie: CodeTrie, *, renormalize: Renormalize = "children"
) -> Tensor:
    """Log-probability of every catalogue row as an item: duplicates share that of their path.

    Args:
        start: The empty prefix after each history, on the device of the trie.
        trie: Paths of the catalogue.
        renormalize: See ``Renormalize``.

    Returns:
        float32 ``(batch, item)``; with ``renormalize="children"`` a distribution over items.

    Raises:
        ValueError: As ``score_all``.
    """
    leaf = trie.node_of_item
    alike = (trie.last_item[leaf] - trie.first_item[leaf]).log()
    return score_all(start, trie, renormalize=renormalize) - alike


class _Walk:
    """Scores of all items, filled in from the root to the leaves."""

    def __init__(
        self, trie: CodeTrie, renormalize: Renormalize, chunk: int, batch_size: int
    ) -> None:
        self.trie, self.renormalize, self.chunk = trie, renormalize, chunk
        self.scores = torch.empty(batch_size, trie.num_items, device=trie.device)
        self.broken = torch.zeros((), dtype=torch.bool, device=trie.device)

    def below(
        self,
        nodes: Tensor,
        scores: Tensor,
        depth: int,
        prefixes: Prefixes,
        second: Rescoring | None,
    ) -> None:
        """Continue below ``nodes`` ``(n,)``, read as ``prefixes`` and scored ``(batch, n)``."""
        trie, batch_size = self.trie, len(scores)
        beams = nodes.expand(batch_size, -1)
        found = successors(prefixes, trie, beams, depth, self.renormalize)
        if second is not None:
            found = second.mix(found, beams)
        self.broken |= found.broken
        parent, slot = found.valid[0].nonzero().unbind(1)
        child = found.nodes[0, parent, slot]
        reached = scores[:, parent] + found.log_probs[:, parent, slot]
        ends = is_decided(trie, child, self.renormalize)
        path, items = trie.items_below_each(child[ends])
        self.scores[:, items] = reached[:, ends][:, path]
        branching = (~ends).nonzero().squeeze(1)
        for begin in range(0, len(branching), self.chunk):
            part = branching[begin : begin + self.chunk]
            parents = parent[part].expand(batch_size, -1)
            tokens = trie.token_of_node[child[part]].long().expand(batch_size, -1)
            longer = prefixes.extend(parents, tokens)
            then = None if second is None else second.extend(parents, tokens)
            self.below(child[part], reached[:, part], depth + 1, longer, then)
