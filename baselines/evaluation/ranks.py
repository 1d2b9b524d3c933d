"""Ranks of targets under each policy, and their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from baselines.evaluation.config import DEFAULT_CUTOFFS, DEFAULT_METRICS, TieRule
from baselines.evaluation.metrics import metric_values
from semid.arrays import FloatArray, IntArray
from semid.provenance import read_tensors, write_tensors

SeenPolicy = Literal["removed", "kept"]


POLICIES: tuple[SeenPolicy, ...] = ("removed", "kept")


TOP = 10
"""Length of the list stored for every target, to measure agreement between models."""


COUNTS = tuple(f"{kind}/{policy}" for kind in ("better", "tied") for policy in POLICIES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranks:
    """Rank of each target of a split, under both seen-item policies.

    Attributes:
        better: By policy, int64 ``(target,)``: number of candidates with a higher score; ``MISS``
            if the target is not listed. A target that occurs in its own history is a miss once
            seen items are removed.
        tied: By policy, int64 ``(target,)``: number of other candidates with exactly the target's
            score.
        top: int64 ``(target, TOP)``, the best unseen items of each target's user, best first; -1
            where no more are left.
        seconds: Wall time.
    """

    better: dict[str, IntArray]
    tied: dict[str, IntArray]
    top: IntArray
    seconds: float

    def metrics(
        self,
        policy: SeenPolicy,
        ties: TieRule,
        *,
        metrics: Sequence[str] = DEFAULT_METRICS,
        cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
    ) -> dict[str, FloatArray]:
        """The value of each target, float64 ``(target,)``, by label; see `metric_values`."""
        better, tied = self.better[policy], self.tied[policy]
        return metric_values(better, tied, ties=ties, metrics=metrics, cutoffs=cutoffs)

    def save(self, path: Path, *, made_from: Any = None) -> None:
        """Write the ranks to one sealed file; ``made_from`` as in ``semid.provenance``."""
        tensors = {"top": self.top} | {
            f"{kind}/{policy}": values[policy]
            for kind, values in (("better", self.better), ("tied", self.tied))
            for policy in POLICIES
        }
        data = {name: torch.from_numpy(array) for name, array in tensors.items()}
        metadata = {"seconds": str(self.seconds)}
        write_tensors(path, data, metadata=metadata, made_from=made_from)

    @classmethod
    def load(cls, path: Path, *, made_from: Any = None) -> Ranks | None:
        """Read ranks that ``save`` wrote; None if there are none, or they have other inputs.

        Raises:
            ProvenanceError: If the file is damaged.
        """
        found = read_tensors(path, made_from=made_from)
        if found is None:
            return None
        tensors, metadata = found
        return cls(
            better={policy: tensors[f"better/{policy}"].numpy() for policy in POLICIES},
            tied={policy: tensors[f"tied/{policy}"].numpy() for policy in POLICIES},
            top=tensors["top"].numpy(),
            seconds=float(metadata["seconds"]),
        )
