"""The teacher at decode time: its distribution over the children of any prefix."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.trie import CodeTrie, ranges

_MASSES_AT_ONCE = 2**19  # 4 MB of float64, which stay in the cache


@torch.no_grad()
def node_log_masses(trie: CodeTrie, log_weights: Tensor) -> Tensor:
    """Log of the weight of all items below each node, from the leaves up.

    Each node's sum is taken relative to its own heaviest child, as differences of a cumulative sum
    in which every node counts for at least one. So precision does not depend on the order of the
    items, nor on how far a node is below the heaviest item, where ``exp(w - max)`` would be zero.

    Args:
        trie: The paths of the catalogue.
        log_weights: Float ``(batch, item)``; ``-inf`` is weight zero.

    Returns:
        float64 ``(batch, node)``; ``-inf`` where all items below have weight zero.
    """
    in_order = log_weights.double().index_select(1, trie.item_order)
    masses = in_order.new_empty(len(in_order), trie.num_nodes)
    leaf, count = torch.unique_consecutive(trie.node_of_item[trie.item_order], return_counts=True)
    masses[:, leaf.long()] = _segment_logsumexp(in_order, count)
    for depth in reversed(range(trie.depth)):
        nodes = trie.nodes_of_depth(depth)
        inner = nodes[trie.num_children(nodes) > 0]
        below = masses[:, slice(*trie.level_start[depth + 1 : depth + 3].tolist())]
        masses[:, inner] = _segment_logsumexp(below, trie.num_children(inner))
    return masses


class TeacherGuide:
    """A teacher's item scores as a guide for ``semid.beam_search`` and ``score_all``.

    At every prefix it is the ``CollaborativeTokenizer``'s distribution: the teacher's softmax over
    the items that share the prefix, summed by next token. Along a path the steps multiply to the
    path's share of the whole catalogue, so a search that mixes the two ranks items by the mixture
    of the generator's and the teacher's log-probability (D3's fusion, arXiv:2406.14900). Items that
    share a path each add their own mass and share the path's score.

    All node masses are computed once, on construction; a step of the search is a look-up.

    Args:
        trie: The paths of the catalogue, the same trie as in the search.
        item_scores: Float ``(batch, item)`` over the catalogue rows, on the trie's device; ``-inf``
            excludes an item, and every prefix that leads only to excluded items.
        temperature: Divides the scores, above 0.

    Raises:
        ValueError: If the shape does not fit the catalogue, the temperature is not above 0, or a
            row holds NaN or ``+inf`` or no finite score.
    """

    def __init__(self, trie: CodeTrie, item_scores: Tensor, *, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if item_scores.dim() != 2 or item_scores.shape[1] != trie.num_items:
            raise ValueError(
                f"item_scores must be (batch, item) over the {trie.num_items} catalogue rows of "
                f"the trie, got {tuple(item_scores.shape)}. Do teacher and codes share one "
                "catalogue?"
            )
        best = item_scores.amax(dim=1)  # NaN where a row holds one
        if not best.isfinite().all():
            row = int((~best.isfinite()).nonzero()[0])
            raise ValueError(
                f"row {row} of item_scores holds NaN or +inf, or no finite score at all. "
                "Check the teacher's output for that row."
            )
        parent = trie.parent_of_node.clamp_min(0)
        self._step = item_scores.new_empty(len(item_scores), trie.num_nodes, dtype=torch.float32)
        rows = max(1, _MASSES_AT_ONCE // trie.num_nodes)
        parts = torch.split(self._step, rows), torch.split(item_scores, rows)
        for step, scores in zip(*parts, strict=True):
            masses = node_log_masses(trie, scores.double() / temperature)
            within = masses.index_select(1, parent).masked_fill_(masses == -torch.inf, 0.0)
            step.copy_(masses.sub_(within))

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return len(self._step)

    def log_probs(self, nodes: Tensor, children: Tensor) -> Tensor:
        """Log-probability of each child after its node; float32 in the shape of ``children``."""
        return self._step.gather(1, children.flatten(1)).view(children.shape)

    def extend(self, parent: Tensor, token: Tensor) -> TeacherGuide:
        """Return itself: it depends on the nodes only."""
        return self


def _segment_logsumexp(values: Tensor, count: Tensor) -> Tensor:
    """Log-sum-exp over consecutive groups of columns; ``count`` ``(group,)`` gives their sizes."""
    end = count.cumsum(0)
    start = end - count
    result = values.index_select(1, start)
    several = (count > 1).nonzero().squeeze(1)
    if len(several) == 0:
        return result
    owner, column = ranges(start[several], end[several])
    values = values.index_select(1, column)
    peak = result.index_select(1, several)
    peak.scatter_reduce_(1, owner.expand(len(values), -1), values, "amax")
    peak = peak.masked_fill_(peak == -torch.inf, 0.0)  # all weights are zero: log 0, not NaN
    share = values.sub_(peak.index_select(1, owner)).exp_()
    total = torch.nn.functional.pad(share.cumsum(1), (1, 0))
    end = count[several].cumsum(0)
    whole = total.index_select(1, end) - total.index_select(1, end - count[several])
    result[:, several] = whole.log_().add_(peak)
    return result
