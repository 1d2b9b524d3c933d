"""An untrained wrapper that makes any scorer, e.g. of another library, a teacher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from baselines.contracts.scorer import ItemScorer, checked_scores
from baselines.data.batches import Histories
from baselines.teachers.model import TeacherModel
from semid.provenance import ProvenanceError, hash_file

_SAMPLE, _LONGEST = 16, 8  # number of histories, and their maximum length


class ScorerTeacher(TeacherModel):
    """Any ``ItemScorer`` as a teacher that is not trained.

    Instead of weights it stores its scores of a fixed sample of histories. They identify it in
    lineages, and show when it is rebuilt whether it still gives the same scores.

    Args:
        scorer: The scorer; not registered as a submodule.
        sample: The sample of histories.
        name: Name of the scorer in reports and errors.

    Raises:
        ValueError: As ``require_scores``.
    """

    def __init__(self, scorer: ItemScorer, sample: Histories, *, name: str) -> None:
        super().__init__()
        self.label, self.max_history = name, scorer.max_history
        self._scorer, self._sample = (
            (scorer,),
            sample,
        )  # in a tuple so that nn.Module does not register it
        scores = self.score(sample).detach().clone()
        self.sample_scores = nn.Parameter(scores, requires_grad=False)

    @classmethod
    def of_catalog(cls, scorer: Any, num_items: int, *, name: str) -> ScorerTeacher:
        """Wrap a scorer, with random histories, fixed per catalogue size, as its sample.

        Raises:
            ValueError: If it is not an ``ItemScorer`` over ``num_items`` items.
        """
        if not isinstance(scorer, ItemScorer) or not isinstance(scorer.max_history, int):
            raise ValueError(
                f"expected {name} to return an ItemScorer (score, and an integer "
                f"max_history), got {type(scorer).__name__}. baselines.teachers.adapters makes one "
                "from any function."
            )
        made = cls(scorer, _sample(num_items), name=name)
        expected = (_SAMPLE, num_items)
        if (found := tuple(made.sample_scores.shape)) != expected:
            raise ValueError(
                f"expected scores (batch, item) = {expected} of {name}, got {found}. "
                "Score every item of dataset.catalog, in its order."
            )
        return made

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """The scorer's scores of all items; float32 ``(batch, item)``.

        Raises:
            ValueError: As ``require_scores``.
        """
        (scorer,) = self._scorer
        return checked_scores(scorer, histories).float()

    def require_unchanged(self, folder: Path) -> None:
        """Compare the sample scores read from ``folder`` with the scorer's current ones.

        Raises:
            ProvenanceError: If they differ by more than rounding.
        """
        now, before = self.score(self._sample).cpu(), self.sample_scores.detach().cpu()
        scale = before[before.isfinite()].abs().max()
        if not torch.allclose(now, before, rtol=1e-3, atol=1e-4 * float(scale)):
            raise ProvenanceError(
                f"the scores of {self.label} have changed since {folder} was written. "
                f"Restore the model it used, or give another folder of teachers."
            )


def _sample(num_items: int) -> Histories:
    """Random histories of every length up to eight."""
    gen = torch.Generator().manual_seed(0)
    items = torch.randint(num_items, (_SAMPLE, _LONGEST), generator=gen)
    lengths = torch.arange(_SAMPLE) % _LONGEST + 1
    mask = torch.arange(_LONGEST) >= _LONGEST - lengths[:, None]
    return Histories(items=items, mask=mask, users=torch.arange(_SAMPLE))


def source_hash(name: str) -> str:
    """Hash of the file that defines ``package.module:function``; empty if there is none."""
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return hash_file(Path(file)) if file else ""
