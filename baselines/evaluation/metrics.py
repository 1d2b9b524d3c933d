"""Metrics of ranked items: Recall, NDCG and MRR of one target, under a named rule for ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.evaluation.config import TieRule

MISS: int = int(np.iinfo(np.int64).max)
"""Value of ``better`` for a target that its list does not hold: every metric is then zero."""


def metric_values(
    better: Tensor | NDArray[np.int64],
    tied: Tensor | NDArray[np.int64],
    *,
    ties: TieRule = "expected",
    cutoffs: Sequence[int] = (5, 10, 20),
) -> dict[str, NDArray[np.float64]]:
    """Recall, NDCG and MRR of every target, from its rank among the candidate items.

    With one relevant item the ideal DCG is 1, so a target at rank ``r`` (0 is best) has
    ``R@k = [r < k]``, ``N@k = [r < k] / log2(r + 2)`` and ``MRR = 1 / (r + 1)``. Ties leave open
    the ranks ``better .. better + tied``: ``"strict"`` takes the last, ``"optimistic"`` the
    first, and ``"expected"`` the mean of the metric over all of them, which is its expectation
    under a uniformly random order of the tied items.

    Args:
        better: int64 ``(target,)``, how many candidates score strictly higher than the target.
            ``MISS`` where the target is not in the list at all (the number of candidates serves
            as well, save that its reciprocal rank is then small instead of zero).
        tied: int64 ``(target,)``, how many *other* candidates have exactly the target's score.
        ties: The rule for ties.
        cutoffs: The list lengths ``k``, each at least 1.

    Returns:
        float64 ``(target,)`` in [0, 1] by name: ``R@k`` for each cutoff, then ``N@k``, then
        ``MRR``. Means over all targets, misses included, are the metrics of a run.

    Raises:
        ValueError: On an unknown tie rule, a cutoff below 1, negative counts or unequal lengths.
    """
    first, others = _counts(better, "better"), _counts(tied, "tied")
    if first.shape != others.shape:
        raise ValueError(
            f"better and tied must describe the same targets, got {len(first)} and {len(others)}"
        )
    if ties not in get_args(TieRule):
        raise ValueError(f"ties must be one of {', '.join(get_args(TieRule))}, got {ties!r}")
    if any(k < 1 for k in cutoffs):
        raise ValueError(f"cutoffs must be at least 1, got {list(cutoffs)}")

    listed = first < MISS
    first, others = np.where(listed, first, 0), np.where(listed, others, 0)
    low = first + others if ties == "strict" else first
    high = first if ties == "optimistic" else first + others  # ranks low..high, both included
    num_ranks = int(high.max(initial=0)) + 1
    gain = np.arange(1, num_ranks + 1, dtype=np.float64)

    def mean_over_ranks(value_of_rank: NDArray[np.float64]) -> NDArray[np.float64]:
        below = np.concatenate([[0.0], np.cumsum(value_of_rank)])
        ranks = high - low
        mean = np.where(
            ranks == 0, value_of_rank[low], (below[high + 1] - below[low]) / (ranks + 1)
        )
        return np.where(listed, mean, 0.0)

    ndcg = 1.0 / np.log2(gain + 1.0)
    values = {f"R@{k}": mean_over_ranks(np.where(gain <= k, 1.0, 0.0)) for k in cutoffs}
    values |= {f"N@{k}": mean_over_ranks(np.where(gain <= k, ndcg, 0.0)) for k in cutoffs}
    values["MRR"] = mean_over_ranks(1.0 / gain)
    return values


def ranks_from_scores(
    scores: Tensor, targets: Tensor, seen: Tensor | tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Rank of each target among all items that a scorer scored.

    Args:
        scores: Float ``(target, item)``, one row of item scores for each target; no NaN.
        targets: int64 ``(target,)``, the catalogue row of each target.
        seen: Items that are no candidates: bool ``(target, item)``, or ragged as ``(items,
            offsets)``, where target ``t`` has seen ``items[offsets[t]:offsets[t + 1]]`` (repeats
            allowed). ``None`` keeps all. The target itself always stays a candidate.

    Returns:
        ``better`` and ``tied``, int64 ``(target,)`` on the device of ``scores``, as
        ``metric_values`` takes them.

    Raises:
        ValueError: If shapes disagree, a row lies outside the catalogue or a score is NaN.
    """
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ValueError(
            f"scores must be (target, item) and targets (target,), "
            f"got {tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    if scores.isnan().any():
        raise ValueError("scores hold NaN, which no order ranks. Did the scorer's training fail?")
    _require_rows(targets, scores.shape[1], "targets")
    own = scores.gather(1, targets[:, None])
    removed = _seen_mask(seen, scores).scatter(1, targets[:, None], False)
    better = ((scores > own) & ~removed).sum(dim=1)
    tied = ((scores == own) & ~removed).sum(dim=1) - 1
    return better, tied


def _counts(values: Tensor | NDArray[np.int64], name: str) -> NDArray[np.int64]:
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be int64 (target,), got {array.dtype} {array.shape}")
    if (array < 0).any():
        raise ValueError(f"{name} counts items and must not be negative, got {array.min()}")
    return array.astype(np.int64)


def _require_rows(rows: Tensor, num_items: int, name: str) -> None:
    if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= num_items):
        raise ValueError(
            f"{name} must be catalogue rows in [0, {num_items}), "
            f"got {int(rows.min())} to {int(rows.max())}"
        )


def _seen_mask(seen: Tensor | tuple[Tensor, Tensor] | None, scores: Tensor) -> Tensor:
    """Bool ``(target, item)``: true where an item is no candidate."""
    if isinstance(seen, Tensor):
        if seen.shape != scores.shape or seen.dtype != torch.bool:
            raise ValueError(
                f"seen must be bool {tuple(scores.shape)} like scores, "
                f"got {seen.dtype} {tuple(seen.shape)}"
            )
        return seen.to(scores.device)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    if seen is not None:
        items, offsets = (part.to(scores.device) for part in seen)
        counts = offsets.diff()
        if len(counts) != len(scores) or int(offsets[0]) or int(offsets[-1]) != len(items):
            raise ValueError(
                f"seen offsets must run from 0 to {len(items)} over {len(scores)} targets, "
                f"got {len(counts)} from {int(offsets[0])} to {int(offsets[-1])}"
            )
        _require_rows(items, scores.shape[1], "seen items")
        target_of_event = torch.arange(len(scores), device=scores.device)
        mask[target_of_event.repeat_interleave(counts), items] = True
    return mask


def auc(scores: NDArray[Any], is_positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the share of pairs in which the positive scores higher.

    A pair of equal scores counts half.

    Args:
        scores: Float ``(sample,)``.
        is_positive: bool ``(sample,)``, some true and some false.
    """
    from scipy.stats import rankdata

    count = int(is_positive.sum())
    below = rankdata(scores)[is_positive].sum() - count * (count + 1) / 2
    return float(below / (count * (len(scores) - count)))


def user_auc(
    scores: NDArray[Any], is_positive: NDArray[np.bool_], users: NDArray[np.int64]
) -> float:
    """Mean over users of the AUC of their own samples (UAUC).

    Args:
        scores: Float ``(sample,)``.
        is_positive: bool ``(sample,)``, for each user some true and some false.
        users: int64 ``(sample,)``.
    """
    order = np.argsort(users, kind="stable")
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    parts = zip(np.split(scores[order], cuts), np.split(is_positive[order], cuts), strict=True)
    return float(np.mean([auc(*part) for part in parts]))
