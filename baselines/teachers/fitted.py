"""A fitted teacher, with all that the models it teaches need of it."""

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
from baselines.teachers.registry import build_teacher
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
        model: In eval mode.
        state: Its training.
        lineage: Its provenance.
        folder: Its own; what was calibrated is kept beside it.
        asked: The temperature, or ``auto`` for the one that fits validation targets best.
        mask_history: Whether seen items are left out, in calibration and in the beam.
        dataset: What it was fitted to; None for one that was loaded.
    """

    model: TeacherModel
    state: TrainingState
    lineage: Provenance
    folder: Path
    asked: float | Literal["auto"]
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
        """Fit it, or read it where it is fitted already; see ``fit_teacher``."""
        model, state, lineage = fit_teacher(
            dataset, config, training, seed=seed, folder=folder, selected_by=selected_by
        )
        return cls(
            model=model,
            state=state,
            lineage=lineage,
            folder=folder / folder_name(lineage),
            asked=temperature,
            mask_history=mask_history,
            dataset=dataset,
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
        assert self.dataset is not None  # a loaded one says its temperature
        return fit_temperature(
            self.model,
            self.dataset.splits.valid,
            teacher=self.scores_hash,
            folder=self.folder.parent,
            mask_history=self.mask_history,
        ).temperature

    def save(self, folder: Path) -> None:
        """Copy its folder; one that scores by the training interactions takes them along."""
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
        """Read what ``save`` wrote, without the data that it was fitted to.

        Args:
            folder: Where it was saved.
            catalog: Its items.
            temperature: Divides its scores.
            mask_history: Whether it leaves out seen items in the beam.
            model: Of a teacher from outside, its ``package.module:Name``: no code is run because a
                folder names it.

        Raises:
            ProvenanceError: If it was damaged, is of other items, or scores otherwise than it did.
            ValueError: If it is from outside and not ``model``.
        """
        lineage = Provenance.read(folder)
        require_same(
            f"item order of the teacher in {folder}",
            catalog.order_hash,
            lineage.items,
            what_to_do="Copy the whole folder again.",
        )
        config = TeacherConfig.of_record(lineage.config)
        require_named(config.collaborative, model, folder)
        vectors = (
            torch.zeros(len(catalog), lineage.config["dim"]) if config.model == "hybrid" else None
        )
        found = read_tensors(folder / _INTERACTIONS, made_from=lineage.seen)
        dataset = _served(catalog, None if found is None else found[0])
        teacher = build_teacher(config, dataset, lineage.config["seed"], vectors=vectors)
        state = read_trained(folder, teacher)
        require_unchanged(teacher, folder)
        return cls(
            model=teacher.to(distributed_state().device),
            state=state,
            lineage=lineage,
            folder=folder,
            asked=temperature,
            mask_history=mask_history,
            dataset=None,
        )


def _served(catalog: Catalog, train: Mapping[str, Tensor] | None) -> Dataset:
    """What a teacher is built from whose weights are about to be read."""
    nothing = {"items": [0, 0], "offsets": [0, 2], "first_target": [1], "users": [0]}
    columns = {name: np.asarray((train or nothing)[name], dtype=np.int64) for name in _COLUMNS}
    data = SequenceSet(**columns)
    splits = Splits(train=data, valid=data, test=data, protocol="served", dropped={})
    return Dataset(name="served", catalog=catalog, splits=splits, interactions=None)
