"""Rank every target with a model: items are ranked, never codes or strings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone
from baselines.contracts.scorer import ItemScorer, checked_scores, without_seen
from baselines.data.batches import Histories, histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.metrics import MISS, ranks_from_scores
from baselines.evaluation.ranks import COUNTS, ID_COUNTS, TOP, Ranks
from baselines.evaluation.slots import ReservedSlots
from baselines.runtime.progress import track
from semid.arrays import IntArray
from semid.config import Renormalize
from semid.decoding import RankedItems, apply_length_penalty, beam_search, rank_items
from semid.distributed import all_reduce, is_my_turn
from semid.filters import ItemFilter
from semid.fusion import Rescoring
from semid.ordering import sort_keys
from semid.trie import CodeTrie

_HISTORIES, _SCORES = 512, 2**26  # at a time, where an item scorer ranks

RankBatch = Callable[[Histories, Tensor], dict[str, Tensor]]

FuseBatch = Callable[[Histories], Rescoring]
"""Maps histories, on the device of the searched trie, to what changes the scores of their search,
such as a second opinion about them."""


def validation_subset(config: EvaluationConfig, valid: SequenceSet) -> IntArray:
    """Numbers of the validation targets used for a generator's selection, int64, ascending."""
    order = np.random.default_rng(0).permutation(valid.num_targets)
    return np.sort(order[: config.validation_targets])


def rank_targets(
    backbone: Backbone,
    data: SequenceSet,
    evaluation: EvaluationConfig,
    *,
    beam: int,
    fuse: FuseBatch | None = None,
    slots: ReservedSlots | None = None,
    subset: IntArray | None = None,
    title: str = "ranking",
) -> Ranks:
    """Rank targets by the backbone's scores if it is an ``ItemScorer``, else by beam search.

    Args:
        backbone: In eval mode.
        data: Sequences with targets.
        evaluation: How a beam search decodes.
        beam: Its width.
        fuse: Makes the second opinion mixed into its scores; ignored for an ``ItemScorer``.
        slots: Fills the last places of the first ten, likewise; the order of the list then breaks
            ties, and IDs are not ranked.
        subset: Numbers of the targets to rank; all by default.
        title: Shown beside the progress bar.
    """
    batch_size = evaluation.batch_size
    if isinstance(backbone, ItemScorer):
        return rank_by_scores(backbone, data, batch_size=batch_size, subset=subset, title=title)
    search = _Search(
        backbone=backbone,
        beam=beam,
        renormalize=evaluation.renormalize,
        fuse=fuse,
        slots=slots,
        length_penalty=backbone.length_penalty,
    )
    return _rank_all(
        search, data, counts=search.counts, batch_size=batch_size, subset=subset, title=title
    )


def rank_by_scores(
    scorer: ItemScorer,
    data: SequenceSet,
    *,
    batch_size: int | None = None,
    subset: IntArray | None = None,
    title: str = "ranking",
) -> Ranks:
    """Rank every target exactly with a model that scores the whole catalogue.

    An item with score ``-inf`` is not listed, so it is a miss as a target.

    Args:
        scorer: The model.
        data: Sequences with targets.
        batch_size: Histories scored at a time; None for 512, or as many as have 2^26 scores.
        subset: Numbers of the targets to rank, all by default; the result is in their order.
        title: Shown beside the progress bar.

    Raises:
        ValueError: If a score is NaN or +inf, or all scores of a history are -inf.
    """

    def rank(histories: Histories, targets: Tensor) -> dict[str, Tensor]:
        scores = checked_scores(scorer, histories)
        histories, targets = histories.to(scores.device), targets.to(scores.device)
        seen = torch.zeros_like(scores, dtype=torch.bool)
        row = torch.arange(len(targets), device=scores.device).unsqueeze(1)
        row = row.expand_as(histories.items)
        seen[row[histories.mask], histories.items[histories.mask]] = True
        better, tied = ranks_from_scores(scores, targets)
        unseen_better, unseen_tied = ranks_from_scores(scores, targets, seen)
        unseen = torch.where(seen, -torch.inf, scores)
        forbidden, repeated = (
            (values.gather(1, targets[:, None]) == -torch.inf).squeeze(1)
            for values in (scores, unseen)
        )
        order = stable_topk(unseen, TOP)
        return {
            "better/kept": better.masked_fill(forbidden, MISS),
            "tied/kept": tied.masked_fill(forbidden, 0),
            "better/removed": unseen_better.masked_fill(repeated, MISS),
            "tied/removed": unseen_tied.masked_fill(repeated, 0),
            "top": order.masked_fill(unseen.gather(1, order) == -torch.inf, -1),
        }

    if batch_size is None:
        batch_size = _histories_at_a_time(scorer, data)
    return _rank_all(rank, data, batch_size=batch_size, subset=subset, title=title)


def _histories_at_a_time(scorer: ItemScorer, data: SequenceSet) -> int:
    """How many histories are scored within about 2 GB, given the scores of the first one."""
    for _, histories in histories_of_targets(data, int(data.lengths.max()), 1):
        num_items = checked_scores(scorer, histories).shape[1]
        return min(_HISTORIES, max(1, _SCORES // num_items))
    return _HISTORIES


def rank_by_beam(
    backbone: Backbone,
    data: SequenceSet,
    *,
    beam: int,
    renormalize: Renormalize = "children",
    fuse: FuseBatch | None = None,
    batch_size: int = 256,
    subset: IntArray | None = None,
    title: str = "ranking",
) -> Ranks:
    """Rank targets by constrained beam search, which returns only existing items.

    Scores are sums of log-probabilities; only ``rank_targets`` applies the backbone's
    ``length_penalty``.

    Args:
        backbone: The generator, in eval mode.
        data: Sequences with targets.
        beam: Beam width.
        renormalize: As in ``semid.decoding``.
        fuse: Makes the second opinion that is mixed into the search, such as a teacher's.
        batch_size: Histories decoded at a time.
        subset: Numbers of the targets to rank, all by default; the result is in their order.
        title: Shown beside the progress bar.
    """
    search = _Search(backbone=backbone, beam=beam, renormalize=renormalize, fuse=fuse)
    return _rank_all(
        search, data, counts=search.counts, batch_size=batch_size, subset=subset, title=title
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Ranks the targets of a batch by a beam search.

    Attributes:
        backbone: The generator, in eval mode.
        beam: Beam width.
        renormalize: As in ``semid.decoding``.
        fuse: Makes the second opinion that is mixed into the search.
        slots: Fills the last places of the first ``TOP``.
        length_penalty: Power of a path's length by which its score is divided before items are
            ranked, as in ``apply_length_penalty``.
    """

    backbone: Backbone
    beam: int
    renormalize: Renormalize
    fuse: FuseBatch | None
    slots: ReservedSlots | None = None
    length_penalty: float = 0.0

    @cached_property
    def counts(self) -> tuple[str, ...]:
        """Names of the counts of a target: among items and, if items share an ID, among IDs."""
        trie = self.backbone.trie
        shared = self.slots is None and len(torch.unique(trie.node_of_item)) < trie.num_items
        return COUNTS + ID_COUNTS if shared else COUNTS

    @torch.inference_mode()
    def __call__(self, histories: Histories, targets: Tensor) -> dict[str, Tensor]:
        trie = self.backbone.trie
        histories, targets = histories.to(trie.device), targets.to(trie.device)
        found = beam_search(
            self.backbone.start(histories),
            trie,
            beam=self.beam,
            renormalize=self.renormalize,
            fusion=None if self.fuse is None else self.fuse(histories),
        )
        found = apply_length_penalty(found, trie, penalty=self.length_penalty)
        below = trie.last_item - trie.first_item
        count = below[found.leaves] * (found.leaves >= 0)
        ranked = rank_items(found, trie, k=int(count.sum(dim=1).max().clamp_min(1)))
        past = histories.items.masked_fill(~histories.mask, -1)
        unseen = ItemFilter(trie, deny=past).permits(ranked.items)
        if self.slots is not None:
            return _placed(self.slots, ranked, unseen, histories, targets)
        order = (~unseen).to(torch.uint8).argsort(dim=1, stable=True)[:, :TOP]
        top = ranked.items.gather(1, order).masked_fill(~unseen.gather(1, order), -1)
        result = {"top": top}
        for policy, candidates in (("kept", ranked.items >= 0), ("removed", unseen)):
            hit = candidates & (ranked.items == targets[:, None])
            own = ranked.scores.masked_fill(~hit, torch.inf).amin(dim=1, keepdim=True)
            missed = ~hit.any(dim=1)
            among = {"": candidates}
            if self.counts != COUNTS:
                among["ids/"] = _first_of_each_id(candidates, ranked.items, trie)
            for prefix, listed in among.items():
                better = ((ranked.scores > own) & listed).sum(dim=1)
                tied = ((ranked.scores == own) & listed).sum(dim=1) - 1
                result[f"{prefix}better/{policy}"] = better.masked_fill(missed, MISS)
                result[f"{prefix}tied/{policy}"] = tied.masked_fill(missed, 0)
        return result


def _placed(
    slots: ReservedSlots, ranked: RankedItems, unseen: Tensor, histories: Histories, targets: Tensor
) -> dict[str, Tensor]:
    """Ranks of the targets of a batch in lists with reserved places.

    Args:
        slots: Fills the places.
        ranked: The items found by the search.
        unseen: bool ``(batch, slot)``, which of them are not in the history.
        histories: The history of each row.
        targets: int64 ``(batch,)``.
    """
    scores, result = slots.scores(histories), {}
    order = (~unseen).to(torch.uint8).argsort(dim=1, stable=True)
    left = RankedItems(
        items=ranked.items.masked_fill(~unseen, -1).gather(1, order),
        scores=ranked.scores.gather(1, order),
    )
    of_policy = {"kept": (ranked, scores), "removed": (left, without_seen(scores, histories))}
    for policy, (found, may_place) in of_policy.items():
        items = slots.place(found, may_place, k=TOP).items
        is_target = items == targets[:, None]
        before = is_target.to(torch.uint8).argmax(dim=1)
        result[f"better/{policy}"] = before.masked_fill(~is_target.any(dim=1), MISS)
        result[f"tied/{policy}"] = torch.zeros_like(before)
        result["top"] = items[:, :TOP]  # finally those without seen items
    return result


def _first_of_each_id(candidates: Tensor, items: Tensor, trie: CodeTrie) -> Tensor:
    """The first candidate of each path in each row; bool ``(batch, slot)``.

    Args:
        candidates: bool ``(batch, slot)``.
        items: int64 ``(batch, slot)``, items of one path beside each other; -1 for none.
        trie: The trie of their paths.
    """
    node = trie.node_of_item[items.clamp_min(0)].masked_fill(items < 0, -1)
    begins = torch.ones_like(candidates)
    begins[:, 1:] = node[:, 1:] != node[:, :-1]
    number = candidates.cumsum(dim=1)
    before = (number - candidates.long()).masked_fill(~begins, 0)  # candidates of earlier paths
    return candidates & (number == before.cummax(dim=1).values + 1)


def stable_topk(scores: Tensor, k: int) -> Tensor:
    """The ``k`` best columns of each row, int64, best first; ties go to the lower column."""
    keys = sort_keys(scores, torch.arange(scores.shape[1], device=scores.device))
    return keys.topk(min(k, scores.shape[1]), dim=1).indices


def _rank_all(
    rank: RankBatch,
    data: SequenceSet,
    *,
    counts: Sequence[str] = COUNTS,
    batch_size: int,
    title: str,
    subset: IntArray | None = None,
) -> Ranks:
    started = time.perf_counter()
    target_items = data.items[data.targets()[1]]
    wanted = np.arange(len(target_items)) if subset is None else subset
    longest = int(data.lengths.max())
    batches = histories_of_targets(data, longest, batch_size, subset=wanted)
    found = torch.zeros(len(wanted), len(counts) + TOP, dtype=torch.int64)
    with track(title, len(wanted)) as progress:
        for turn, (position, histories) in enumerate(batches):
            if is_my_turn(turn):
                values = rank(histories, torch.from_numpy(target_items[wanted[position]]))
                counted = torch.stack([values[name] for name in counts], dim=1)
                missing = (0, TOP - values["top"].shape[1])
                top = torch.nn.functional.pad(values["top"], missing, value=-1)
                found[torch.from_numpy(position)] = torch.cat([counted, top], dim=1).cpu()
            progress.advance(len(position))
    columns, top = all_reduce(found).tensor_split([len(counts)], dim=1)
    results = dict(zip(counts, columns.T.contiguous().numpy(), strict=True))
    return Ranks.of_counts(results, top.contiguous().numpy(), time.perf_counter() - started)
