"""Agreement between a recommender and its teacher."""

from __future__ import annotations

from torch import Tensor


def collaborative_consistency(recommender_top1: Tensor, teacher_top1: Tensor) -> float:
    """Share of users whose first item is the same in both lists (TCA4Rec, arXiv:2601.18457).

    Args:
        recommender_top1: int64 ``(user,)``, catalogue rows; a negative row, where nothing was
            recommended, agrees with nothing.
        teacher_top1: int64 ``(user,)``, catalogue rows of the same users in the same order.

    Returns:
        A share in ``[0, 1]`` of all users.

    Raises:
        ValueError: If the two have different shapes or no user.
    """
    if recommender_top1.shape != teacher_top1.shape or recommender_top1.dim() != 1:
        raise ValueError(
            f"both must be (user,) over the same users, got {tuple(recommender_top1.shape)} and "
            f"{tuple(teacher_top1.shape)}"
        )
    if len(recommender_top1) == 0:
        raise ValueError("consistency needs at least one user, got none")
    agree = (recommender_top1 == teacher_top1) & (recommender_top1 >= 0)
    return float(agree.double().mean())
