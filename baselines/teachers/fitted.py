"""A fitted teacher, with all that the models it teaches need of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import DEFAULT_SELECTION
from baselines.teachers.calibration import fit_temperature
from baselines.teachers.config import TeacherConfig
from baselines.teachers.fit import fit_teacher, scores_hash
from baselines.teachers.model import TeacherModel
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedTeacher:
    """A teacher, its training, its lineage and the temperature of its softmax.

    Attributes:
        model: In eval mode.
        state: Its training.
        lineage: Its provenance.
        asked: The temperature, or ``auto`` for the one that fits validation targets best.
        valid: Those targets.
        folder: Where a calibration is kept, beside the teacher's own folder.
        mask_history: Whether seen items are left out, in calibration and in the beam.
    """

    model: TeacherModel
    state: TrainingState
    lineage: Provenance
    asked: float | Literal["auto"]
    valid: SequenceSet
    folder: Path
    mask_history: bool = False

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        config: TeacherConfig,
        training: TrainingConfig,
        *,
        seed: int,
        folder: Path,
        temperature: float | Literal["auto"] = 1.0,
        mask_history: bool = False,
        selected_by: str = DEFAULT_SELECTION,
    ) -> FittedTeacher:
        """Fit it, or read it where it is fitted already; see ``fit_teacher``."""
        model, state, lineage = fit_teacher(
            dataset, config, training, seed=seed, folder=folder, selected_by=selected_by
        )
        return cls(
            model=model,
            state=state,
            lineage=lineage,
            asked=temperature,
            valid=dataset.splits.valid,
            folder=folder,
            mask_history=mask_history,
        )

    @property
    def scores_hash(self) -> str:
        """Hash of all that decides its scores."""
        return scores_hash(self.lineage)

    @cached_property
    def temperature(self) -> float:
        """Divides its scores; calibrated when first asked for where it is ``auto``."""
        if self.asked != "auto":
            return self.asked
        return fit_temperature(
            self.model,
            self.valid,
            teacher=self.scores_hash,
            folder=self.folder,
            mask_history=self.mask_history,
        ).temperature
