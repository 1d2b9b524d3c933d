"""Agreement between a recommender and its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Correlation = Literal["kendall", "spearman"]
"""Kendall's tau (over pairs) or Spearman's rho (over ranks)."""


@dataclass(frozen=True, kw_only=True)
class HitDisagreement:
    """Shares of users, in [0, 1], which sum to one.

    Attributes:
        both: Both the recommender and the teacher list the target.
        recommender_only: Only the recommender lists it.
        teacher_only: Only the teacher lists it.
        neither: Neither lists it.
    """

    both: float
    recommender_only: float
    teacher_only: float
    neither: float


def collaborative_consistency(recommender_top1: Tensor, teacher_top1: Tensor) -> float:
    """Share of users for whom both lists have the same first item (TCA4Rec, arXiv:2601.18457).

    Args:
        recommender_top1: int64 ``(user,)``, catalogue rows; negative if nothing was recommended,
            which never counts as agreement.
        teacher_top1: int64 ``(user,)``, catalogue rows of the same users in the same order.

    Returns:
        A share of all users, in ``[0, 1]``.

    Raises:
        ValueError: If the two have different shapes or no user.
    """
    _require_users(recommender_top1, teacher_top1, dim=1, axes="(user,)")
    agree = (recommender_top1 == teacher_top1) & (recommender_top1 >= 0)
    return float(agree.double().mean())


def overlap_at_k(recommender_lists: Tensor, teacher_lists: Tensor) -> float:
    """Mean over users of the number of items in both lists, divided by their length.

    Args:
        recommender_lists: int64 ``(user, k)``, catalogue rows, each at most once in a list;
            negative rows pad shorter lists and match nothing.
        teacher_lists: int64 ``(user, k)``, lists of the same users in the same order.

    Returns:
        A share of ``k``, in ``[0, 1]``.

    Raises:
        ValueError: If the two have different shapes, or no user or place.
    """
    same = _same_items(recommender_lists, teacher_lists)
    return float(same.sum(dim=(1, 2)).double().mean() / same.shape[1])


def rank_correlation(
    recommender_lists: Tensor, teacher_lists: Tensor, *, method: Correlation = "kendall"
) -> float | None:
    """Mean rank correlation of the items that both lists of a user contain.

    Only the common items count, re-ranked among themselves in each list, so this measures their
    order while ``overlap_at_k`` measures their number. A list has no ties.

    Args:
        recommender_lists: int64 ``(user, k)``, best first, as in ``overlap_at_k``.
        teacher_lists: int64 ``(user, k)``, lists of the same users in the same order.
        method: Correlation coefficient to use.

    Returns:
        In ``[-1, 1]``, over users with at least two items in common; None if there are none.

    Raises:
        ValueError: If the two have different shapes, or no user or place, or the method is unknown.
    """
    if method not in get_args(Correlation):
        raise ValueError(f"method must be one of {get_args(Correlation)}, got {method!r}")
    same = _same_items(recommender_lists, teacher_lists)
    common = same.any(dim=2)
    place = same.to(torch.uint8).argmax(dim=2)  # of each of our items in the teacher's list
    count = common.sum(dim=1).double()
    pair = common.unsqueeze(1) & common.unsqueeze(2)
    above = (place.unsqueeze(1) < place.unsqueeze(2)) & pair  # [i, j]: j precedes i there
    if method == "kendall":
        swapped = above.triu(diagonal=1).sum(dim=(1, 2))
        value = 1 - 4 * swapped / (count * (count - 1))
    else:
        own_rank = common.cumsum(dim=1) - 1
        moved = (own_rank - above.sum(dim=2)).masked_fill(~common, 0)
        value = 1 - 6 * moved.square().sum(dim=1) / (count * (count.square() - 1))
    defined = value[count >= 2]
    return float(defined.mean()) if len(defined) else None


def hit_disagreement(recommender_hits: Tensor, teacher_hits: Tensor) -> HitDisagreement:
    """How often each is right where the other is wrong: what the recommender could gain or lose.

    Args:
        recommender_hits: ``(user,)``, whether the list contains the target, as bool or a number in
            [0, 1]; in case of ties, the probability that it does, independent of the other list.
        teacher_hits: ``(user,)``, for the same users in the same order.

    Raises:
        ValueError: If the two have different shapes or no user, or a value lies outside [0, 1].
    """
    _require_users(recommender_hits, teacher_hits, dim=1, axes="(user,)")
    ours, theirs = recommender_hits.double(), teacher_hits.double()
    for hits in (ours, theirs):
        if not ((hits >= 0) & (hits <= 1)).all():
            raise ValueError(
                f"hits must lie in [0, 1], got {float(hits.min())} to {float(hits.max())}"
            )
    return HitDisagreement(
        both=float((ours * theirs).mean()),
        recommender_only=float((ours * (1 - theirs)).mean()),
        teacher_only=float(((1 - ours) * theirs).mean()),
        neither=float(((1 - ours) * (1 - theirs)).mean()),
    )


def _same_items(recommender_lists: Tensor, teacher_lists: Tensor) -> Tensor:
    """Bool ``(user, k, k)``: whether our place ``i`` and the teacher's ``j`` hold the same item."""
    _require_users(recommender_lists, teacher_lists, dim=2, axes="(user, k)")
    same = recommender_lists.unsqueeze(2) == teacher_lists.unsqueeze(1)
    return same & (recommender_lists >= 0).unsqueeze(2)


def _require_users(recommender: Tensor, teacher: Tensor, *, dim: int, axes: str) -> None:
    if recommender.shape != teacher.shape or recommender.dim() != dim:
        raise ValueError(
            f"both must be {axes} over the same users, got {tuple(recommender.shape)} and "
            f"{tuple(teacher.shape)}"
        )
    if recommender.numel() == 0:
        raise ValueError(
            f"agreement needs at least one user and place, got {axes} = {tuple(recommender.shape)}"
        )
