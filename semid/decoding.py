"""Trie-constrained beam search, and the ranking of items at its leaves.

A trie node represents its prefix, so a beam is a single node id. A node's children are contiguous
and sorted by token, so two adjacent entries of one array give the valid next tokens and their
nodes; no prefix lookup is needed, whatever the size of the catalogue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from semid.boosts import ItemBoosts
from semid.config import Renormalize
from semid.filters import ItemFilter
from semid.fusion import Rescoring
from semid.ordering import sort_keys
from semid.prefixes import Prefixes
from semid.sampling import perturbed
from semid.successors import Successors, check_renormalize, is_decided, refuse_broken, successors
from semid.trie import CodeTrie

_EMPTY = -1
_LAST_KEY = torch.iinfo(torch.int64).min


@dataclass(frozen=True, kw_only=True, eq=False)
class BeamResult:
    """The best paths of each row, best first.

    Attributes:
        leaves: int64 ``(batch, beam)``, leaf nodes of the trie; -1 where fewer can be returned.
        scores: float32 ``(batch, beam)``, log-probability of the path, or the fused score; ``-inf``
            for -1.
    """

    leaves: Tensor
    scores: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedItems:
    """The best items of each row, best first.

    Attributes:
        items: int64 ``(batch, k)``, catalogue rows; -1 where there are fewer.
        scores: float32 ``(batch, k)``, log-probability of the item's path, plus the item's boost;
            ``-inf`` for -1.
    """

    items: Tensor
    scores: Tensor


@torch.no_grad()
def beam_search(
    start: Prefixes,
    trie: CodeTrie,
    *,
    beam: int,
    renormalize: Renormalize = "children",
    within: ItemFilter | None = None,
    boosts: ItemBoosts | None = None,
    fusion: Rescoring | None = None,
    sample: torch.Generator | None = None,
    static_shapes: bool = False,
) -> BeamResult:
    """Find high-probability paths, each of which is an item's.

    At each level, keeps the ``beam`` best successors of the prefixes kept so far. A finished path
    stays among them with its score. Equal scores are ordered by path, so the result depends only on
    the logits. A path whose score is ``-inf`` is forbidden and never returned. If ``beam`` is at
    least the number of leaves, the result is the order of ``score_all``.

    Args:
        start: The empty prefix after each history, on the device of the trie.
        trie: The valid paths.
        beam: Number of prefixes to keep for each row, at least 1.
        renormalize: See ``Renormalize``.
        within: Items that may be returned for each row; all by default. A path that leads to none
            of them is not followed; the others keep their scores, relative to the whole catalogue.
        boosts: Values added to the score of each item. A prefix competes with its score plus the
            highest boost below it; returned scores exclude the boost.
        fusion: Changes the scores of every step: a ``Fusion`` with a guide, whose scores are
            weighted sums of two log-probabilities, or a ``PriorCorrection``.
        sample: Instead draw ``beam`` distinct paths at random, in the order drawn (stochastic beam
            search, arXiv:1903.06059, algorithm 1): token by token among the valid children, with
            probabilities normalised over them. Filtered items are not drawn; their share goes to
            the others below the same prefix.
        static_shapes: Keep tensor shapes independent of values and synchronise with the device only
            once, at the end, so that the search can be compiled or captured as a CUDA graph.
            Otherwise the model is evaluated only on prefixes that can still branch.

    Raises:
        ValueError: If ``beam`` is not positive; a filter or boosts belong to another catalogue;
            they or a guide belong to another batch; boosts or a fusion are combined with
            ``sample``; or the logits or the guide's log-probabilities have the wrong shape or
            contain NaN or +inf.
    """
    _check_positive(beam=beam)
    check_renormalize(renormalize)
    _check_opinions(start, trie, within, boosts, fusion, samples=sample is not None)
    search = _Search(
        trie=trie,
        beam=beam,
        renormalize=renormalize,
        within=within,
        boosts=boosts,
        sample=sample,
        static_shapes=static_shapes,
    )
    result, broken = search.run(start, fusion)
    refuse_broken(broken)
    return result


def _check_opinions(
    start: Prefixes,
    trie: CodeTrie,
    within: ItemFilter | None,
    boosts: ItemBoosts | None,
    fusion: Rescoring | None,
    *,
    samples: bool,
) -> None:
    """Raise if an option belongs to another catalogue or batch, or two of them conflict."""
    if within is not None:
        within.check(trie, start.batch_size)
    if boosts is not None:
        boosts.check(trie)
        if samples:
            raise ValueError("boosts cannot be sampled with. Give boosts or sample, not both.")
    if fusion is not None:
        fusion.check(start.batch_size)
        if samples:
            raise ValueError(
                "fused scores are not a distribution. Give fusion or sample, not both."
            )


def rank_items(
    result: BeamResult,
    trie: CodeTrie,
    *,
    k: int,
    within: ItemFilter | None = None,
    boosts: ItemBoosts | None = None,
) -> RankedItems:
    """Turn leaves into items; items of one leaf have equal scores and catalogue order.

    Args:
        result: Result of ``beam_search`` in ``trie``; a leaf with score ``-inf`` yields no items.
        trie: The same trie.
        k: Number of items to return for each row, at least 1.
        within: Items that may be returned for each row; others are dropped and later ones move up.
            Pass the same filter to ``beam_search``, or a beam of ``k`` may be too narrow; without
            it there, items are removed after the beam, as papers do with seen items.
        boosts: The boosts passed to ``beam_search``; each item's is added to its score.

    Raises:
        ValueError: If ``k`` is not positive, or the filter or the boosts belong to another batch or
            another catalogue.
    """
    _check_positive(k=k)
    if within is not None:
        within.check(trie, len(result.leaves))
    if boosts is not None:
        boosts.check(trie)
    leaves = result.leaves.masked_fill(result.scores == -torch.inf, _EMPTY)
    leaf_of_slot, found = trie.items_below_each(leaves)
    count = (trie.last_item[leaves] - trie.first_item[leaves]).long()
    count = (count * (leaves != _EMPTY)).sum(dim=1)
    items = _pad_rows(found, count, fill=_EMPTY)
    scores = result.scores.flatten().index_select(0, leaf_of_slot)
    scores = _pad_rows(scores, count, fill=-torch.inf)
    if within is not None:
        left_out = ~within.permits(items)
        items = items.masked_fill(left_out, _EMPTY)
        scores = scores.masked_fill(left_out, -torch.inf)
    if boosts is not None:
        scores = scores + boosts.of_items(items)
        order = scores.argsort(dim=1, descending=True, stable=True)
        items, scores = items.gather(1, order), scores.gather(1, order)
    if within is not None:
        order = (items == _EMPTY).to(torch.uint8).argsort(dim=1, stable=True)
        items, scores = items.gather(1, order), scores.gather(1, order)
    missing = (0, max(0, k - items.shape[1]))
    return RankedItems(
        items=torch.nn.functional.pad(items[:, :k], missing, value=_EMPTY),
        scores=torch.nn.functional.pad(scores[:, :k], missing, value=-torch.inf),
    )


def apply_length_penalty(result: BeamResult, trie: CodeTrie, *, penalty: float) -> BeamResult:
    """Divide each path's score by a power of its length, and re-sort.

    ``log P / length ** penalty``, as ``transformers.generate`` scores finished beams
    (``length_penalty``; the end token counts). There a finished path leaves the beam with its
    divided score and others take its place; here it stays in the beam with its plain probability
    and all results are divided afterwards. With a beam that holds every path there is no
    difference.

    Args:
        result: Result of ``beam_search`` in ``trie``.
        trie: The same trie.
        penalty: The exponent; 0 changes nothing, above 0 favours longer paths.

    Raises:
        ValueError: If the penalty is not finite.
    """
    if not math.isfinite(penalty):
        raise ValueError(f"penalty must be finite, got {penalty}")
    if penalty == 0:
        return result
    length = trie.depth_of(result.leaves.clamp_min(0)).clamp_min(1)  # where there is none
    scores = result.scores / length.float() ** penalty
    paths = _Paths(result.leaves, scores, scores)
    order = _sort_keys(paths, trie).argsort(dim=1, descending=True, stable=True)
    best = paths.at(order)
    return BeamResult(leaves=best.nodes, scores=best.scores)


@dataclass(frozen=True, eq=False)
class _Paths:
    """Lists of nodes for each row, padded with -1; all ``(batch, n)``.

    ``ranks`` is what the search maximises: the scores, plus boosts or noise.
    """

    nodes: Tensor
    scores: Tensor
    ranks: Tensor

    def concat(self, other: _Paths) -> _Paths:
        return _Paths(
            torch.cat([self.nodes, other.nodes], dim=1),
            torch.cat([self.scores, other.scores], dim=1),
            torch.cat([self.ranks, other.ranks], dim=1),
        )

    def at(self, place: Tensor) -> _Paths:
        return _Paths(
            self.nodes.gather(1, place), self.scores.gather(1, place), self.ranks.gather(1, place)
        )

    def where(self, kept: Tensor) -> _Paths:
        return _Paths(
            torch.where(kept, self.nodes, _EMPTY),
            torch.where(kept, self.scores, -torch.inf),
            torch.where(kept, self.ranks, -torch.inf),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """The options of a search; see `beam_search`."""

    trie: CodeTrie
    beam: int
    renormalize: Renormalize
    within: ItemFilter | None
    boosts: ItemBoosts | None
    sample: torch.Generator | None
    static_shapes: bool

    def run(self, prefixes: Prefixes, fusion: Rescoring | None) -> tuple[BeamResult, Tensor]:
        """``beam_search``, and whether a logit was NaN or +inf."""
        trie = self.trie
        zero = torch.zeros(prefixes.batch_size, 1, device=trie.device)
        best = _Paths(zero.long(), zero, zero)
        branching, done = best, best.at(zero[:, :0].long())
        broken = torch.zeros((), dtype=torch.bool, device=trie.device)
        for depth in range(trie.depth):
            found = successors(prefixes, trie, branching.nodes, depth, self.renormalize)
            if fusion is not None:
                found = fusion.mix(found, branching.nodes)
            broken = broken | found.broken
            slots = found.valid.shape[-1]
            reached = self._reached(found, branching, depth)
            slot = torch.arange(reached.nodes.shape[1], device=trie.device).expand_as(reached.nodes)
            if not self.static_shapes:
                slot = _slots_of_best(reached, self.beam)
                reached = reached.at(slot.clamp_min(0)).where(slot >= 0)
            reached = reached.concat(done)
            width = min(self.beam, reached.nodes.shape[1])
            place = _sort_keys(reached, trie).topk(width, dim=1).indices
            best = reached.at(place)
            ended = is_decided(trie, best.nodes.clamp_min(0), self.renormalize)
            ends = ended | (best.nodes == _EMPTY)
            order = ends.to(torch.uint8).argsort(dim=1, stable=True)
            if not self.static_shapes:
                order = order[:, : int((~ends).sum(1).max())]
            if depth + 1 == trie.depth or order.shape[1] == 0:
                break
            done, branching = best.where(ends), best.where(~ends).at(order)
            slot = slot.gather(1, place.gather(1, order).clamp_max(slot.shape[1] - 1))
            some_node = trie.level_start[depth + 1]  # any node of the level
            node = torch.where(branching.nodes == _EMPTY, some_node, branching.nodes)
            parent, token = slot.clamp_min(0) // slots, trie.token_of_node[node].long()
            prefixes = prefixes.extend(parent, token)
            if fusion is not None:
                fusion = fusion.extend(parent, token)
        return self._result(best), broken

    def _reached(self, found: Successors, branching: _Paths, depth: int) -> _Paths:
        """All valid continuations of the unfinished paths, ``(batch, beam * slot)``."""
        valid, slots = found.valid, found.valid.shape[-1]
        scores = branching.scores.unsqueeze(-1) + found.log_probs
        if self.within is not None:
            valid = valid & self.within.open_children(branching.nodes, depth, slots)
        valid = valid & (scores > -torch.inf)  # forbidden paths are dropped for good
        scores = scores.masked_fill(~valid, -torch.inf)
        ranks = scores
        if self.sample is not None:
            ranks = perturbed(scores, branching.ranks, self.sample)
        if self.boosts is not None:
            ranks = scores + self.boosts.below(found.nodes.flatten(1)).view_as(scores)
        nodes = found.nodes.masked_fill(~valid, _EMPTY)
        return _Paths(nodes.flatten(1), scores.flatten(1), ranks.flatten(1))

    def _result(self, best: _Paths) -> BeamResult:
        """Leaves of the best paths, padded to the beam."""
        first = self.trie.first_leaf(best.nodes.clamp_min(0))
        leaves = torch.where(best.nodes == _EMPTY, _EMPTY, first)
        missing = (0, self.beam - leaves.shape[1])
        return BeamResult(
            leaves=torch.nn.functional.pad(leaves, missing, value=_EMPTY),
            scores=torch.nn.functional.pad(best.scores, missing, value=-torch.inf),
        )


def _slots_of_best(paths: _Paths, beam: int) -> Tensor:
    """Indices of the ``beam`` best of each row and of any ties with the last of them.

    Selecting these by float takes a fraction of the time to build a key for every slot.

    Returns:
        int64 ``(batch, n)``, padded with -1.
    """
    last = paths.ranks.topk(min(beam, paths.ranks.shape[1]), dim=1).values[:, -1:]
    kept = (paths.ranks >= last) & (paths.nodes != _EMPTY)
    return _pad_rows(kept.nonzero()[:, 1], kept.sum(dim=1), fill=_EMPTY)


def _sort_keys(paths: _Paths, trie: CodeTrie) -> Tensor:
    """Integers that sort by rank, then by path; no two are equal, except for padding."""
    keys = sort_keys(paths.ranks, trie.first_item[paths.nodes.clamp_min(0)])
    return keys.masked_fill(paths.nodes == _EMPTY, _LAST_KEY)


def _pad_rows(values: Tensor, length: Tensor, *, fill: float) -> Tensor:
    """Split ``(slot,)`` into padded rows of the given lengths, ``(batch, longest)``."""
    slot = torch.arange(int(length.max()), device=values.device)
    used = slot < length.unsqueeze(1)
    return values.new_full(used.shape, fill).masked_scatter_(used, values)


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
