"""The interface of a teacher: anything that scores the whole catalogue given a history."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet


@runtime_checkable
class ItemScorer(Protocol):
    """Scores all items given a user's history."""

    @property
    def max_history(self) -> int:
        """Maximum number of history items that the scores depend on."""
        ...

    def score(self, histories: Histories) -> Tensor:
        """Unnormalised log-scores of every catalogue row.

        Args:
            histories: Left-padded; a row may depend on nothing but its own history.

        Returns:
            float32 ``(batch, item)``.
        """
        ...


def checked_scores(scorer: ItemScorer, histories: Histories) -> Tensor:
    """Call ``scorer.score`` and validate the result, for scorers that may be third-party.

    Returns:
        Float ``(batch, item)``, as returned by the scorer.

    Raises:
        ValueError: As ``require_scores``.
    """
    scores = scorer.score(histories)
    name = getattr(scorer, "label", None) or f"the {type(scorer).__name__}"
    require_scores(scores, histories, whose=name)
    return scores


def require_scores(scores: Tensor, histories: Histories, *, whose: str) -> None:
    """Raise if scores cannot be turned into a distribution over items.

    Args:
        scores: Float ``(batch, item)``.
        histories: The scored histories.
        whose: Name of the scorer in the error message.

    Raises:
        ValueError: If the number of rows differs, a score is NaN or +inf, or a row is entirely
            -inf.
    """
    if scores.dim() != 2 or len(scores) != len(histories.items):
        raise ValueError(
            f"scores of {whose} must be (batch, item) with a row for each of "
            f"{len(histories.items)} histories, got {tuple(scores.shape)}"
        )
    best = scores.amax(dim=1)  # NaN if a row contains one
    if best.isfinite().all():
        return
    row = int((~best.isfinite()).nonzero()[0])
    which = f"history {row} of the batch (user number {int(histories.users[row])})"
    if best[row] == -torch.inf:
        raise ValueError(
            f"scores of {whose} must be above -inf for some item, got none for {which}. "
            "Does it score any item of the catalogue?"
        )
    item = int((scores[row].isnan() | (scores[row] == torch.inf)).nonzero()[0])
    raise ValueError(
        f"scores of {whose} must be numbers or -inf, got {float(scores[row, item])} for item "
        f"{item} of {which}. Did its training diverge?"
    )


@runtime_checkable
class LeavesOwnOut(Protocol):
    """A counted scorer that can score as if a user's own events had never been counted."""

    def score_without_own(self, histories: Histories, train: SequenceSet) -> Tensor:
        """Scores of every item, each row's without the training events of ``histories.users``.

        Args:
            histories: The histories.
            train: The sequences that were counted.

        Returns:
            float32 ``(batch, item)``.
        """
        ...


@runtime_checkable
class ItemVectors(Protocol):
    """A teacher that learns a vector per item; classes are tested with ``issubclass``."""

    def item_vectors(self) -> Tensor:
        """One vector per item; float32 ``(item, dim)``."""
        ...


@runtime_checkable
class DotProductScorer(ItemVectors, Protocol):
    """A teacher whose scores are dot products of a history vector and item vectors."""

    def user_vectors(self, histories: Histories) -> Tensor:
        """One vector per history; float32 ``(batch, dim)``."""
        ...


def require_dot_product(scorer: ItemScorer, *, needed_by: str = "top_k") -> DotProductScorer:
    """Return ``scorer`` typed as a ``DotProductScorer``.

    Args:
        scorer: Any scorer.
        needed_by: The setting that requires dot products, for the error message.

    Raises:
        ValueError: If its scores are not dot products.
    """
    require_vectors(type(scorer), needed_by=needed_by)
    assert isinstance(scorer, DotProductScorer)
    return scorer


def require_vectors(teacher: type[Any], *, needed_by: str) -> None:
    """``require_dot_product`` for a class, before an instance is trained."""
    if not issubclass(teacher, DotProductScorer):
        raise ValueError(
            f"{needed_by} needs a teacher whose scores are dot products (user_vectors, "
            f"item_vectors), got {teacher.__name__}. Leave {needed_by} out to use the scores "
            "of all items."
        )


def seen_items(histories: Histories, target_items: Tensor) -> Tensor:
    """The distinct items of each history, without the target.

    Returns:
        int64 ``(batch, pos)``, padded with -1 in any position.
    """
    past = histories.items.masked_fill(~histories.mask, -1)
    past = past.masked_fill(past == target_items.to(past.device)[:, None], -1).sort(dim=1).values
    past[:, 1:] = past[:, 1:].masked_fill(past[:, 1:] == past[:, :-1], -1)
    return past


def without_seen(
    scores: Tensor, histories: Histories, target_items: Tensor | None = None
) -> Tensor:
    """Mask the scores of seen items with ``-inf``; a known target keeps its score.

    Args:
        scores: Float ``(batch, item)``.
        histories: The history of each row.
        target_items: int64 ``(batch,)``, if the targets are known.
    """
    row, pos = histories.mask.nonzero().unbind(1)
    item, row = histories.items[row, pos].to(scores.device), row.to(scores.device)
    masked = scores.index_put((row, item), scores.new_tensor(-torch.inf))
    if target_items is None:
        return masked
    target = target_items.to(scores.device)
    return masked.scatter_(1, target[:, None], scores.gather(1, target[:, None]))
