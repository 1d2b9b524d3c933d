"""Evaluate a trained model on test targets of data other than its training data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.metrics import MISS
from baselines.evaluation.ranking import rank_targets
from baselines.evaluation.ranks import POLICIES, TOP, Ranks
from baselines.models.trained import TrainedModel
from semid.arrays import IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedTargets:
    """Test targets of a dataset, as rows of a model's items.

    Attributes:
        data: Sequences without the items that the model does not know.
        kept: int64, ascending: the target numbers in the dataset of the targets in ``data``.
        unknown_items: Number of events whose item the model does not know.
        unknown_targets: Number of targets among them.
        without_history: Number of known targets without a known item before them.
    """

    data: SequenceSet
    kept: IntArray
    unknown_items: int
    unknown_targets: int
    without_history: int


def match_targets(test: SequenceSet, rows: IntArray) -> MatchedTargets:
    """Translate sequences to a model's items, dropping those that it does not know.

    Args:
        test: Test sequences of a dataset.
        rows: int64 ``(item,)``, the model's row of each item of the dataset, -1 if unknown.

    Raises:
        ValueError: If no target is left.
    """
    items = rows[test.items]
    known = items >= 0
    known_before = np.concatenate(([0], np.cumsum(known)))
    offsets = known_before[test.offsets]
    sequence, event = test.targets()
    has_history = known_before[event] > offsets[sequence]
    is_kept = known[event] & has_history
    if not is_kept.any():
        raise ValueError(
            f"expected test targets that the model knows, after items that it knows, got none of "
            f"{len(event)}. Are the item ids of the data those that the model was trained with?"
        )
    begun = test.offsets[:-1] + np.minimum(test.first_target, test.lengths)
    first_target = np.maximum(known_before[begun] - offsets[:-1], 1)
    return MatchedTargets(
        data=SequenceSet(
            items=items[known], offsets=offsets, first_target=first_target, users=test.users
        ),
        kept=np.flatnonzero(is_kept),
        unknown_items=int((~known).sum()),
        unknown_targets=int((~known[event]).sum()),
        without_history=int((known[event] & ~has_history).sum()),
    )


def rank_on(model: TrainedModel, dataset: Dataset) -> tuple[Ranks, MatchedTargets]:
    """Rank the test targets of a dataset, matching items by their IDs.

    Items that are not in the data remain candidates. A target that the model does not know, or
    that follows no known item, is a miss.

    Returns:
        Ranks of all targets of the dataset, where ``top`` holds rows of the model's items, and -1
        for targets that were not ranked; and the matched targets.

    Raises:
        ValueError: If no target is left to rank.
    """
    rows = model.items.catalog.find(dataset.catalog.ids)
    matched = match_targets(dataset.splits.test, rows)
    evaluation = model.spec.evaluation
    ranks = rank_targets(
        model.backbone,
        matched.data,
        evaluation,
        beam=evaluation.beam,
        fuse=model.fuse,
        slots=model.slots,
        title=f"{dataset.name}, test",
    )
    return _spread(ranks, matched.kept, dataset.splits.test.num_targets), matched


def _spread(ranks: Ranks, kept: IntArray, num_targets: int) -> Ranks:
    """Extend ranks of some targets to all targets; the others are misses."""
    by_id = None if ranks.by_id is None else _spread(ranks.by_id, kept, num_targets)
    better: dict[str, IntArray] = {policy: np.full(num_targets, MISS) for policy in POLICIES}
    tied: dict[str, IntArray] = {
        policy: np.zeros(num_targets, dtype=np.int64) for policy in POLICIES
    }
    top = np.full((num_targets, TOP), -1, dtype=np.int64)
    for policy in POLICIES:
        better[policy][kept] = ranks.better[policy]
        tied[policy][kept] = ranks.tied[policy]
    top[kept] = ranks.top
    return dataclasses.replace(ranks, better=better, tied=tied, top=top, by_id=by_id)
