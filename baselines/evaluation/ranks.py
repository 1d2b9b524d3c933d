"""Ranks of targets under each policy, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""Names of the counts of every target, by which it is ranked among items."""


ID_COUNTS = tuple(f"ids/{name}" for name in COUNTS)
"""Names of the same counts among semantic IDs, in which items that share an ID are one."""


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
        by_id: The same targets ranked among semantic IDs instead of items: items that share an ID
            are one candidate, which is listed if any of them is. A target that is a miss among
            items is a miss here too. None if no items share an ID, if items were scored one by
            one, or in files written before IDs were ranked.
    """

    better: dict[str, IntArray]
    tied: dict[str, IntArray]
    top: IntArray
    seconds: float
    by_id: Ranks | None = None

    @classmethod
    def of_counts(cls, counts: Mapping[str, IntArray], top: IntArray, seconds: float) -> Ranks:
        """Ranks from int64 ``(target,)`` by name: all of ``COUNTS``, and any ``ID_COUNTS``."""
        better, tied = (
            {str(policy): counts[f"{kind}/{policy}"] for policy in POLICIES}
            for kind in ("better", "tied")
        )
        of_ids = {
            name: counts[stored]
            for name, stored in zip(COUNTS, ID_COUNTS, strict=True)
            if stored in counts
        }
        return cls(
            better=better,
            tied=tied,
            top=top,
            seconds=seconds,
            by_id=cls.of_counts(of_ids, top, seconds) if of_ids else None,
        )

    @property
    def counts(self) -> dict[str, IntArray]:
        """What `of_counts` takes."""
        found = {
            f"{kind}/{policy}": values[policy]
            for kind, values in (("better", self.better), ("tied", self.tied))
            for policy in POLICIES
        }
        if self.by_id is not None:
            found |= {f"ids/{name}": values for name, values in self.by_id.counts.items()}
        return found

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
        tensors = {"top": self.top, **self.counts}
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
        counts = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls.of_counts(counts, counts.pop("top"), float(metadata["seconds"]))
