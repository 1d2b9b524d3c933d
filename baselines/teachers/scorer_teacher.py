"""A scorer that is taken as it is, such as a model of another library, as a teacher."""

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

_SAMPLE, _LONGEST = 16, 8  # histories, and their items


class ScorerTeacher(TeacherModel):
    """Any ``ItemScorer`` as a teacher that is not trained.

    In place of weights it keeps its scores of a fixed sample of histories. They are what its
    lineage goes by, and they show when it is made again whether it still scores as it did.

    Args:
        scorer: What scores; a module within is not taken for a part of this one.
        sample: The histories.
        name: Of the scorer, in reports and errors.

    Raises:
        ValueError: As ``require_scores``.
    """

    def __init__(self, scorer: ItemScorer, sample: Histories, *, name: str) -> None:
        super().__init__()
        self.label, self.max_history = name, scorer.max_history
        self._scorer, self._sample = (scorer,), sample  # in a tuple, so that no module registers it
        scores = self.score(sample).detach().clone()
        self.sample_scores = nn.Parameter(scores, requires_grad=False)

    @classmethod
    def of_catalog(cls, scorer: Any, num_items: int, *, name: str) -> ScorerTeacher:
        """Take a scorer, with made-up histories as its sample: the same for one size of catalogue.

        Raises:
            ValueError: If it is no ``ItemScorer`` over so many items.
        """
        if not isinstance(scorer, ItemScorer) or not isinstance(scorer.max_history, int):
            raise ValueError(
                f"expected {name} to return an ItemScorer (score, and max_history, a whole "
                f"number), got {type(scorer).__name__}. baselines.teachers.adapters makes one of "
                "any function."
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
        """Compare the scores of the sample, as read from ``folder``, with those of the scorer.

        Raises:
            ProvenanceError: If they differ by more than rounding.
        """
        now, before = self.score(self._sample).cpu(), self.sample_scores.detach().cpu()
        scale = before[before.isfinite()].abs().max()
        if not torch.allclose(now, before, rtol=1e-3, atol=1e-4 * float(scale)):
            raise ProvenanceError(
                f"{self.label} does not score as it did when {folder} was written. "
                f"Bring back the model it had, or name another folder of teachers."
            )


def _sample(num_items: int) -> Histories:
    """Random items, of every length up to eight."""
    gen = torch.Generator().manual_seed(0)
    items = torch.randint(num_items, (_SAMPLE, _LONGEST), generator=gen)
    lengths = torch.arange(_SAMPLE) % _LONGEST + 1
    mask = torch.arange(_LONGEST) >= _LONGEST - lengths[:, None]
    return Histories(items=items, mask=mask, users=torch.arange(_SAMPLE))


def source_hash(name: str) -> str:
    """Hash of the file that ``package.module:function`` is in; empty where it is in none."""
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return hash_file(Path(file)) if file else ""
