"""Decoding within the trie: beam search, and from leaves to items.

A node of the trie stands for its prefix, so a beam is one node id. A node's children follow each
other, sorted by token, so two neighbouring entries of one array say which tokens may follow and
where they lead; no prefix is looked up, whatever the size of the catalogue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from semid.boosts import ItemBoosts
from semid.config import Renormalize
from semid.filters import ItemFilter
from semid.fusion import Fusion
from semid.prefixes import Prefixes
from semid.sampling import perturbed
from semid.successors import Successors, check_renormalize, is_decided, refuse_broken, successors
from semid.trie import CodeTrie

_EMPTY = -1
_LOW_BITS = 0xFFFFFFFF
_LAST_KEY = torch.iinfo(torch.int64).min


@dataclass(frozen=True, kw_only=True, eq=False)
class BeamResult:
    """The best paths of each row, best first.

    Attributes:
        leaves: int64 ``(batch, beam)``, leaf nodes of the trie; -1 where there are no more that
            may be returned.
        scores: float32 ``(batch, beam)``, log-probability of the path, or the mixture of two;
            ``-inf`` beside -1.
    """

    leaves: Tensor
    scores: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedItems:
    """The best items of each row, best first.

    Attributes:
        items: int64 ``(batch, k)``, catalogue rows; -1 where there are no more.
        scores: float32 ``(batch, k)``, log-probability of the item's path, plus the item's boost;
            ``-inf`` beside -1.
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
    fusion: Fusion | None = None,
    sample: torch.Generator | None = None,
    static_shapes: bool = False,
) -> BeamResult:
    """Find paths of high probability; each of them leads to an item.

    Level by level, keeps the ``beam`` best successors of the prefixes kept before. A path that has
    ended stays among them with the score it has. Equal scores are ordered by path, so a result
    depends on nothing but the logits. A path whose score is ``-inf`` is forbidden and is not
    returned. With ``beam`` at least the number of leaves, the result is the order of ``score_all``.

    Args:
        start: The empty prefix after each history, on the device of the trie.
        trie: Paths that may be written.
        beam: Number of prefixes to keep for each row, at least 1.
        renormalize: See ``Renormalize``.
        within: Items that each row may be answered with, all by default. A path that leads to none
            of them is not followed; the others keep their scores, relative to the whole catalogue.
        boosts: What to add to the score of each item. A prefix is kept for its own score and the
            highest boost below it; the scores that are returned are without boost.
        fusion: A second opinion on every step, and how much it counts; then all scores are mixtures
            of two log-probabilities.
        sample: Draw ``beam`` different paths at random instead, none twice, in the order drawn
            (stochastic beam search, arXiv:1903.06059, algorithm 1): token by token among what may
            follow, with the probabilities relative to the children. What is filtered out is not
            drawn; its share goes to what else is below the same prefix.
        static_shapes: Let no tensor's shape depend on a value, and wait for the device once, at the
            end, so that the search can be compiled or captured as a CUDA graph. Otherwise the model
            is only asked about prefixes that can still branch.

    Raises:
        ValueError: If ``beam`` is not positive, a filter or boosts are of another catalogue, they
            or a guide of another batch, boosts or a fusion are to be sampled with, or the logits or
            what the guide says have another shape or hold NaN or +inf.
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
    fusion: Fusion | None,
    *,
    samples: bool,
) -> None:
    """Refuse what is of another catalogue or batch, or has no meaning together."""
    if within is not None:
        within.check(trie, start.batch_size)
    if boosts is not None:
        boosts.check(trie)
        if samples:
            raise ValueError(
                "boosts have no meaning among samples. Give boosts or sample, not both."
            )
    if fusion is not None:
        fusion.check(start.batch_size)
        if samples:
            raise ValueError("mixed scores are no distribution. Give fusion or sample, not both.")


def rank_items(
    result: BeamResult,
    trie: CodeTrie,
    *,
    k: int,
    within: ItemFilter | None = None,
    boosts: ItemBoosts | None = None,
) -> RankedItems:
    """Turn leaves into items: twins follow each other in catalogue order, with equal scores.

    Args:
        result: What ``beam_search`` found in ``trie``; a leaf with score ``-inf`` has no items.
        trie: The same trie.
        k: Number of items to return for each row, at least 1.
        within: Items that each row may be answered with; the others leave the list, and what
            follows moves up. Give the same filter to ``beam_search``, or a beam of ``k`` may be too
            narrow; without it there, the list is cut after the beam, as papers do with seen items.
        boosts: Those that ``beam_search`` was given: each item's is added to its score.

    Raises:
        ValueError: If ``k`` is not positive, or the filter or the boosts are of another batch or
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
    """Divide the score of each path by its number of tokens to some power, and order them anew.

    ``log P / length ** penalty``, as ``transformers.generate`` scores what a beam search has
    written (``length_penalty``; the end token counts). There a path that has ended leaves the beam
    and is kept by its divided score, while others go on in its place; here it stays in the beam by
    its plain probability, and all that was found is divided afterwards. A beam that holds every
    path knows no difference.

    Args:
        result: What ``beam_search`` found in ``trie``.
        trie: The same trie.
        penalty: The power; 0 changes nothing, and above 0 longer paths gain.

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
    """Lists of nodes for each row, filled up with -1; all ``(batch, n)``.

    ``ranks`` is what the search prefers: the scores, with boosts or with noise.
    """

    nodes: Tensor
    scores: Tensor
    ranks: Tensor

    def beside(self, other: _Paths) -> _Paths:
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
    """What a search looks for; see `beam_search`."""

    trie: CodeTrie
    beam: int
    renormalize: Renormalize
    within: ItemFilter | None
    boosts: ItemBoosts | None
    sample: torch.Generator | None
    static_shapes: bool

    def run(self, prefixes: Prefixes, fusion: Fusion | None) -> tuple[BeamResult, Tensor]:
        """``beam_search``, and whether a logit was no number."""
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
            reached = reached.beside(done)
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
            some_node = trie.level_start[depth + 1]  # its token is one of the level
            node = torch.where(branching.nodes == _EMPTY, some_node, branching.nodes)
            parent, token = slot.clamp_min(0) // slots, trie.token_of_node[node].long()
            prefixes = prefixes.extend(parent, token)
            if fusion is not None:
                fusion = fusion.extend(parent, token)
        return self._result(best), broken

    def _reached(self, found: Successors, branching: _Paths, depth: int) -> _Paths:
        """All that may follow the paths that go on, ``(batch, beam * slot)``."""
        valid, slots = found.valid, found.valid.shape[-1]
        scores = branching.scores.unsqueeze(-1) + found.log_probs
        if self.within is not None:
            valid = valid & self.within.open_children(branching.nodes, depth, slots)
        valid = valid & (scores > -torch.inf)  # what is forbidden does not come back
        scores = scores.masked_fill(~valid, -torch.inf)
        ranks = scores
        if self.sample is not None:
            ranks = perturbed(scores, branching.ranks, self.sample)
        if self.boosts is not None:
            ranks = scores + self.boosts.below(found.nodes.flatten(1)).view_as(scores)
        nodes = found.nodes.masked_fill(~valid, _EMPTY)
        return _Paths(nodes.flatten(1), scores.flatten(1), ranks.flatten(1))

    def _result(self, best: _Paths) -> BeamResult:
        """Leaves of the best paths, filled up to the beam."""
        first = self.trie.first_leaf(best.nodes.clamp_min(0))
        leaves = torch.where(best.nodes == _EMPTY, _EMPTY, first)
        missing = (0, self.beam - leaves.shape[1])
        return BeamResult(
            leaves=torch.nn.functional.pad(leaves, missing, value=_EMPTY),
            scores=torch.nn.functional.pad(best.scores, missing, value=-torch.inf),
        )


def _slots_of_best(paths: _Paths, beam: int) -> Tensor:
    """The places of the ``beam`` best of each row and of what ties with the last of them.

    Finding these among floats takes a fraction of building a key for everything.

    Returns:
        int64 ``(batch, n)``, filled up with -1.
    """
    last = paths.ranks.topk(min(beam, paths.ranks.shape[1]), dim=1).values[:, -1:]
    kept = (paths.ranks >= last) & (paths.nodes != _EMPTY)
    return _pad_rows(kept.nonzero()[:, 1], kept.sum(dim=1), fill=_EMPTY)


def _sort_keys(paths: _Paths, trie: CodeTrie) -> Tensor:
    """One integer for rank and place: sorts by rank, then by path; no two are equal.

    Read as an integer, a float orders like its value once the bits of negatives are turned.
    ``topk`` promises nothing about ties; among these keys there are none but empty ones.
    """
    bits = (paths.ranks + 0.0).view(torch.int32)  # no -0.0, which would sort below 0.0
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    place = trie.first_item[paths.nodes.clamp_min(0)].long()
    keys = (bits.long() << 32) | (_LOW_BITS - place)
    return keys.masked_fill(paths.nodes == _EMPTY, _LAST_KEY)


def _pad_rows(values: Tensor, length: Tensor, *, fill: float) -> Tensor:
    """Cut ``(slot,)`` into rows of the given lengths, ``(batch, longest)``, with ``fill`` after."""
    slot = torch.arange(int(length.max()), device=values.device)
    used = slot < length.unsqueeze(1)
    return values.new_full(used.shape, fill).masked_scatter_(used, values)


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
