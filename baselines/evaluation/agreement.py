"""Agreement between the ranks of a model and those of its teacher."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from baselines.evaluation.config import TieRule
from baselines.evaluation.ranks import TOP, Ranks
from tca.consistency import (
    collaborative_consistency,
    hit_disagreement,
    overlap_at_k,
    rank_correlation,
)


def agreement(ranks: Ranks, teacher: Ranks, ties: TieRule) -> dict[str, Any]:
    """Agreement of the lists of unseen items with the teacher's, as a note for the record.

    Returns:
        ``agreement``: ``top-1``, ``overlap@10``, ``kendall``, ``spearman`` (None if no user has
        two items in common) and ``hits@10``, see ``tca.consistency``.
    """
    ours, theirs = torch.from_numpy(ranks.top), torch.from_numpy(teacher.top)
    hits = [
        torch.from_numpy(found.metrics("removed", ties)[f"R@{TOP}"]) for found in (ranks, teacher)
    ]
    measures = {
        "top-1": collaborative_consistency(ours[:, 0], theirs[:, 0]),
        f"overlap@{TOP}": overlap_at_k(ours, theirs),
        "kendall": rank_correlation(ours, theirs, method="kendall"),
        "spearman": rank_correlation(ours, theirs, method="spearman"),
        f"hits@{TOP}": dataclasses.asdict(hit_disagreement(*hits)),
    }
    return {"agreement": measures}
