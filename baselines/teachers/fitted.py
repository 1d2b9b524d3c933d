"""A fitted teacher and everything its students need from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits
from baselines.evaluation.config import DEFAULT_SELECTION
from baselines.teachers.calibration import fit_temperature
from baselines.teachers.config import TeacherConfig
from baselines.teachers.fit import (
    fit_teacher,
    folder_name,
    require_named,
    require_unchanged,
    scores_hash,
)
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import unfilled_teacher
from baselines.training.checkpoint import TrainingState, read_trained
from baselines.training.config import TrainingConfig
from semid.atomic import copy_tree
from semid.catalog import Catalog
from semid.distributed import distributed_state
from semid.provenance import Provenance, read_tensors, require_same, write_tensors

_INTERACTIONS = "interactions.safetensors"
_COLUMNS = ("items", "offsets", "first_target", "users")


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedTeacher:
    """A teacher, its training, its lineage and the temperature of its softmax.

    Attributes:
        model: The model, in eval mode.
        state: State of its training.
        lineage: Its provenance.
        folder: Its folder; calibrations are stored next to it.
        temperature_setting: The temperature, or ``auto`` for the one that fits validation targets
            best.
        mask_history: Whether seen items are excluded, in calibration and in the beam.
        dataset: The data it was fitted to; None if it was loaded.
    """

    model: TeacherModel
    state: TrainingState
    lineage: Provenance
    folder: Path
    temperature_setting: float | Literal["auto"]
    mask_history: bool
    dataset: Dataset | None

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
        """Fit a teacher, or read one that is already fitted; see ``fit_teacher``."""
        model, state, lineage = fit_teacher(
            dataset, config, training, seed=seed, folder=folder, selected_by=selected_by
        )
        return cls(
            model=model,
            state=state,
            lineage=lineage,
            folder=folder / folder_name(lineage),
            temperature_setting=temperature,
            mask_history=mask_history,
            dataset=dataset,
        )

    @property
    def scores_hash(self) -> str:
        """Hash that identifies its scores."""
        return scores_hash(self.lineage)

    @cached_property
    def temperature(self) -> float:
        """Divides its scores; with ``auto``, calibrated on first access."""
        if self.temperature_setting != "auto":
            return self.temperature_setting
        assert self.dataset is not None  # a loaded teacher has a number
        return fit_temperature(
            self.model,
            self.dataset.splits.valid,
            teacher=self.scores_hash,
            folder=self.folder.parent,
            mask_history=self.mask_history,
        ).temperature

    def save(self, folder: Path) -> None:
        """Copy its folder, with the training interactions if it needs them for scoring."""
        copy_tree(self.folder, folder)
        if self.model.needs_interactions and self.dataset is not None:
            train = self.dataset.splits.train
            columns = {name: torch.from_numpy(getattr(train, name)) for name in _COLUMNS}
            write_tensors(folder / _INTERACTIONS, columns, made_from=self.lineage.seen)

    @classmethod
    def load(
        cls,
        folder: Path,
        catalog: Catalog,
        *,
        temperature: float,
        mask_history: bool,
        model: str | None = None,
    ) -> FittedTeacher:
        """Load a saved teacher, without the data it was fitted to.

        Args:
            folder: Folder written by ``save``.
            catalog: Its items.
            temperature: Divides its scores.
            mask_history: Whether seen items are excluded in the beam.
            model: For a custom teacher, its ``package.module:Name``; code is never run merely
                because a folder names it.

        Raises:
            ProvenanceError: If it is damaged, has other items, or its scores have changed.
            ValueError: If it is a custom teacher other than ``model``.
        """
        lineage = Provenance.read(folder)
        require_same(
            f"item order of the teacher in {folder}",
            catalog.order_hash,
            lineage.items,
            what_to_do="Copy the whole folder again.",
        )
        config = TeacherConfig.of_record(lineage.config)
        require_named(config.wrapped, model, folder)
        found = read_tensors(folder / _INTERACTIONS, made_from=lineage.seen)
        dataset = _served(catalog, None if found is None else found[0])
        teacher = unfilled_teacher(config, dataset, lineage.config)
        state = read_trained(folder, teacher)
        require_unchanged(teacher, folder)
        return cls(
            model=teacher.to(distributed_state().device),
            state=state,
            lineage=lineage,
            folder=folder,
            temperature_setting=temperature,
            mask_history=mask_history,
            dataset=None,
        )


def _served(catalog: Catalog, train: Mapping[str, Tensor] | None) -> Dataset:
    """A minimal data set from which a teacher is built before its weights are loaded."""
    nothing = {"items": [0, 0], "offsets": [0, 2], "first_target": [1], "users": [0]}
    columns = {name: np.asarray((train or nothing)[name], dtype=np.int64) for name in _COLUMNS}
    data = SequenceSet(**columns)
    splits = Splits(train=data, valid=data, test=data, protocol="served", dropped={})
    return Dataset(name="served", catalog=catalog, splits=splits, interactions=None)
