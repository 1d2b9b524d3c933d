"""Decoding within the trie: beam search, exact scores of the whole catalogue, leaves to items.

A node of the trie stands for its prefix, so a beam is one node id. The successors of all beams of
all rows lie side by side on one axis, ``slot``, instead of in a table ``(batch, beam, child)``:
most prefixes have few children and some have many, so the table would be mostly padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from semid.filters import ItemFilter
from semid.trie import CodeTrie

Renormalize = Literal["children", "none"]
"""What a token's probability is relative to: the legal tokens after its prefix, or all tokens.

``"children"`` takes the softmax over the children of the prefix, so that the scores of all leaves
form one distribution over paths. ``"none"`` takes it over the whole token axis and then forbids
what is not a child, as a logits mask in ``transformers.generate`` does; mass is lost on the way.
"""

_EMPTY = -1
_LOW_BITS = 0xFFFFFFFF
_LAST_KEY = torch.iinfo(torch.int64).min


class StepLogits(Protocol):
    """Next-token logits of prefixes: a closure over a backbone's encoded context, without state."""

    def __call__(self, prefix_tokens: Tensor, /) -> Tensor:
        """Score the token that follows each prefix.

        Args:
            prefix_tokens: int64 ``(batch, beam, depth)``, prefixes of item paths; ``depth`` is 0 at
                the root. A path that ended before ``depth`` repeats its last token, and its logits
                do not matter. ``beam`` differs from call to call.

        Returns:
            Float ``(batch, beam, token)``; ``-inf`` forbids a token, NaN and ``+inf`` are errors.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class BeamResult:
    """The best paths of each row, best first.

    Attributes:
        leaves: int64 ``(batch, beam)``, leaf nodes of the trie; -1 where it has no more leaves.
        scores: float32 ``(batch, beam)``, log-probability of the path; ``-inf`` beside -1.
    """

    leaves: Tensor
    scores: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedItems:
    """The best items of each row, best first.

    Attributes:
        items: int64 ``(batch, k)``, catalogue rows; -1 where there are no more.
        scores: float32 ``(batch, k)``, the score of the item's path; ``-inf`` beside -1.
    """

    items: Tensor
    scores: Tensor


@torch.no_grad()
def beam_search(
    step: StepLogits,
    trie: CodeTrie,
    batch_size: int,
    *,
    beam: int,
    renormalize: Renormalize = "children",
    within: ItemFilter | None = None,
) -> BeamResult:
    """Find paths of high probability; each of them leads to an item.

    Level by level, keeps the ``beam`` best successors of the prefixes kept before. A path that has
    ended stays among them with the score it has. Equal scores are ordered by node id, lower first,
    so a result depends on nothing but the logits. With ``beam`` at least the number of leaves, the
    result is the order of ``score_all``.

    Args:
        step: Next-token logits; called once a level, first with ``(batch, 1, 0)``.
        trie: Paths that may be written, on the device of the logits.
        batch_size: Number of rows, at least 1.
        beam: Number of prefixes to keep for each row, at least 1.
        renormalize: See ``Renormalize``.
        within: Items that each row may be answered with, all by default. A path that leads to none
            of them is not followed; the others keep their scores, relative to the whole catalogue.

    Raises:
        ValueError: If ``batch_size`` or ``beam`` is not positive, the filter is of another batch,
            or the logits have another shape or hold NaN or +inf.
    """
    _check_positive(batch_size=batch_size, beam=beam)
    _check_filter(within, batch_size)
    nodes = torch.zeros(batch_size, 1, dtype=torch.int64, device=trie.device)
    scores = torch.zeros(batch_size, 1, dtype=torch.float32, device=trie.device)
    for depth in range(trie.depth):
        empty = nodes == _EMPTY
        nodes = nodes.masked_fill(empty, 0)  # any node would do: it gets no successor
        logits = _checked_logits(step, trie, nodes, depth)
        count = trie.num_children(nodes).masked_fill(empty, 0)
        ended = (count == 0) & ~empty
        start = torch.where(ended, nodes, trie.first_child[nodes].long())  # a leaf succeeds itself
        count = count + ended
        beam_of_slot, successor = _lay_out(start, count)
        token = trie.token_of_node.index_select(0, successor).long()
        log_probs = _log_probs(logits, count, beam_of_slot, token, renormalize)
        log_probs = log_probs.masked_fill(ended.flatten().index_select(0, beam_of_slot), 0.0)
        total = scores.flatten().index_select(0, beam_of_slot) + log_probs
        keys, slots = _sort_keys(total, successor), count.sum(1)
        if within is not None:
            row = beam_of_slot // nodes.shape[1]
            followed = within.leaves_open(row, successor)
            keys, slots = keys[followed], row[followed].bincount(minlength=batch_size)
        keys = _pad_rows(keys, slots, fill=_LAST_KEY)
        keys = keys.topk(min(beam, keys.shape[1]), dim=1).values
        nodes, scores = _node_of_key(keys), _score_of_key(keys)
        if nodes.shape[1] == 0:  # nothing may be returned to any row
            break
    missing = (0, beam - nodes.shape[1])
    return BeamResult(
        leaves=torch.nn.functional.pad(nodes, missing, value=_EMPTY),
        scores=torch.nn.functional.pad(scores, missing, value=-torch.inf),
    )


@torch.no_grad()
def score_all(
    step: StepLogits,
    trie: CodeTrie,
    batch_size: int,
    *,
    renormalize: Renormalize = "children",
    chunk: int = 512,
) -> Tensor:
    """Log-probability of every catalogue row, by one walk over all prefixes.

    Args:
        step: Next-token logits; sees every prefix of the trie once for each row.
        trie: Paths of the catalogue, on the device of the logits.
        batch_size: Number of rows, at least 1.
        renormalize: See ``Renormalize``.
        chunk: Most prefixes in one call of ``step``, which returns ``(batch, chunk, token)``.

    Returns:
        float32 ``(batch, item)``; twins share the score of their path.

    Raises:
        ValueError: If ``batch_size`` or ``chunk`` is not positive, or the logits have another
            shape or hold NaN or +inf.
    """
    _check_positive(batch_size=batch_size, chunk=chunk)
    scores = torch.zeros(batch_size, trie.num_nodes, dtype=torch.float32, device=trie.device)
    num_children = trie.first_child.diff().long()
    for depth in range(trie.depth):
        parents = trie.nodes_of_depth(depth)
        parents = parents[num_children[parents] > 0]
        for nodes in torch.split(parents, chunk):
            prefixes = nodes.expand(batch_size, -1)
            logits = _checked_logits(step, trie, prefixes, depth)
            count = num_children[prefixes]
            parent_of_slot, child = _lay_out(trie.first_child[prefixes].long(), count)
            token = trie.token_of_node.index_select(0, child).long()
            log_probs = _log_probs(logits, count, parent_of_slot, token, renormalize)
            total = scores[:, nodes].flatten().index_select(0, parent_of_slot) + log_probs
            scores[:, child[: len(child) // batch_size]] = total.view(batch_size, -1)
    return scores[:, trie.node_of_item]


def rank_items(
    result: BeamResult, trie: CodeTrie, *, k: int, within: ItemFilter | None = None
) -> RankedItems:
    """Turn leaves into items: twins follow each other in catalogue order, with equal scores.

    Args:
        result: What ``beam_search`` found in ``trie``.
        trie: The same trie.
        k: Number of items to return for each row, at least 1.
        within: Items that each row may be answered with; the others leave the list, and what
            follows moves up. Give the same filter to ``beam_search``, or a beam of ``k`` may be too
            narrow; without it there, the list is cut after the beam, as papers do with seen items.

    Raises:
        ValueError: If ``k`` is not positive, or the filter is of another batch.
    """
    _check_positive(k=k)
    _check_filter(within, len(result.leaves))
    start = trie.first_item[result.leaves].long()
    count = (trie.last_item[result.leaves] - start) * (result.leaves != _EMPTY)
    leaf_of_slot, position = _lay_out(start, count)
    items = _pad_rows(trie.item_order[position].long(), count.sum(1), fill=_EMPTY)
    scores = result.scores.flatten().index_select(0, leaf_of_slot)
    scores = _pad_rows(scores, count.sum(1), fill=-torch.inf)
    if within is not None:
        kept = within.permits(items)
        first = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        items = items.masked_fill(~kept, _EMPTY).gather(1, first)
        scores = scores.masked_fill(~kept, -torch.inf).gather(1, first)
    missing = (0, max(0, k - items.shape[1]))
    return RankedItems(
        items=torch.nn.functional.pad(items[:, :k], missing, value=_EMPTY),
        scores=torch.nn.functional.pad(scores[:, :k], missing, value=-torch.inf),
    )


def _lay_out(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Lay the ranges ``start .. start + count - 1`` side by side, row after row.

    Args:
        start: int64 ``(batch, beam)``.
        count: int64 ``(batch, beam)``.

    Returns:
        The range each slot belongs to, an index into ``(batch beam)``, and its element of that
        range; both int64 ``(slot,)``.
    """
    start, count = start.flatten(), count.flatten()
    range_of_slot = torch.repeat_interleave(count)
    first_slot = count.cumsum(0) - count
    slot = torch.arange(len(range_of_slot), device=start.device)
    return range_of_slot, slot + (start - first_slot).index_select(0, range_of_slot)


def _pad_rows(values: Tensor, length: Tensor, *, fill: float) -> Tensor:
    """Cut ``(slot,)`` into rows of the given lengths, ``(batch, longest)``, with ``fill`` after."""
    slot = torch.arange(int(length.max()), device=values.device)
    used = slot < length.unsqueeze(1)
    return values.new_full(used.shape, fill).masked_scatter_(used, values)


def _log_probs(
    logits: Tensor, count: Tensor, beam_of_slot: Tensor, token: Tensor, how: Renormalize
) -> Tensor:
    """Log-probability of each slot's token after its beam's prefix.

    Args:
        logits: Float ``(batch, beam, token)``.
        count: int64 ``(batch, beam)``, number of slots of each beam.
        beam_of_slot: int64 ``(slot,)``, from ``_lay_out``.
        token: int64 ``(slot,)``.
        how: What the probability is relative to.

    Returns:
        float32 ``(slot,)``.
    """
    chosen = logits.flatten().index_select(0, beam_of_slot * logits.shape[-1] + token).float()
    if how == "children":
        lengths = count.flatten()
        peak = torch.segment_reduce(chosen, "max", lengths=lengths)
        peak = peak.masked_fill(peak == -torch.inf, 0.0)
        mass = (chosen - peak.index_select(0, beam_of_slot)).exp()
        norm = peak + torch.segment_reduce(mass, "sum", lengths=lengths).log()
    elif how == "none":
        norm = logits.float().logsumexp(dim=-1).flatten()
    else:
        raise ValueError(f"renormalize must be 'children' or 'none', got {how!r}")
    if (norm.isnan() | (norm == torch.inf)).any():
        raise ValueError(
            "logits must be numbers below infinity, got NaN or inf. Has the model diverged?"
        )
    norm = norm.masked_fill(norm == -torch.inf, 0.0)  # nothing is allowed here: log 0, not NaN
    return chosen - norm.index_select(0, beam_of_slot)


def _sort_keys(scores: Tensor, nodes: Tensor) -> Tensor:
    """One integer for score and node: sorts by score, then by lower node; no two are equal.

    Read as an integer, a float orders like its value once the bits of negatives are turned.
    ``topk`` promises nothing about ties; among these keys there are none.
    """
    bits = scores.view(torch.int32)  # never -0.0: sums that start at +0.0 are not
    return (_turn_negative(bits).to(torch.int64) << 32) | (_LOW_BITS - nodes)


def _node_of_key(keys: Tensor) -> Tensor:
    return (_LOW_BITS - (keys & _LOW_BITS)).masked_fill(keys == _LAST_KEY, _EMPTY)


def _score_of_key(keys: Tensor) -> Tensor:
    scores = _turn_negative((keys >> 32).to(torch.int32)).view(torch.float32)
    return scores.masked_fill(keys == _LAST_KEY, -torch.inf)


def _turn_negative(bits: Tensor) -> Tensor:
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _checked_logits(step: StepLogits, trie: CodeTrie, nodes: Tensor, depth: int) -> Tensor:
    path = trie.path(trie.item_order[trie.first_item[nodes]])[..., 1 : depth + 1]
    logits = step(trie.token_of_node[path].long())
    expected = (*nodes.shape, trie.num_tokens)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"step must return logits (batch, beam, token) = {expected}, got "
            f"{tuple(logits.shape)}. Is the trie made with the model's own vocabulary?"
        )
    return logits


def _check_filter(within: ItemFilter | None, batch_size: int) -> None:
    if within is not None and within.batch_size != batch_size:
        raise ValueError(
            f"the filter must have a list for each of the {batch_size} rows, got "
            f"{within.batch_size}"
        )


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
