"""Turn any row of a finished comparison into a self-contained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from baselines.experiments.arms import Arm
from baselines.experiments.controls import TWO_SEEDS
from baselines.experiments.folder import TEACHERS, ComparisonFolder
from baselines.experiments.rows import IN_THE_BEAM, spec_of, teacher_of
from baselines.experiments.schemes import schemes_of
from baselines.models.files import CARD
from baselines.models.items import ModelItems
from baselines.models.trained import Partner, TrainedModel
from baselines.teachers.calibration import kept_temperature
from baselines.teachers.fit import require_named, scores_hash
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.registry import teacher_class
from semid.catalog import Catalog
from semid.checks import did_you_mean
from semid.ids import SemanticIds
from semid.provenance import Provenance, hash_json, read_json


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One seed of a row.

    Attributes:
        label: Label of the row.
        arm: The arm whose model is searched.
        seed: Seed of the arm.
        fused: The arm's weight relative to its teacher; None without a teacher in the beam.
        other_seed: Seed of the second model in the beam; None without one.
        validation: The value that selected its epoch or weight; None if nothing was selected.
    """

    label: str
    arm: Arm
    seed: int
    fused: float | None = None
    other_seed: int | None = None
    validation: float | None


class FinishedComparison:
    """The rows of a finished comparison, to pick a model from.

    Args:
        folder: Folder of the comparison.
        backbones: Class paths of its external backbones, as in `ComparisonFolder.read`.
        teacher: ``package.module:Name`` of its external teacher, likewise.

    Raises:
        ValueError: As in `ComparisonFolder.read`.
    """

    def __init__(
        self, folder: Path, *, backbones: Collection[str] = (), teacher: str | None = None
    ) -> None:
        self._run = ComparisonFolder.read(folder, backbones=backbones)
        self._named = teacher
        table = read_json(folder / "comparison.json", take_unsealed=True) or {}
        self._rows: list[dict[str, Any]] = table["rows"]
        self._settings: dict[str, Any] = table["settings"]

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every seed of every generator row, in table order."""
        return [found for row in self._rows for found in self._of_row(row)]

    def choose(self, row: str | None, seed: int | None) -> Candidate:
        """One seed of a row: the best on validation, and the first of equal ones.

        Args:
            row: Label of the row; None for any row with a validation value.
            seed: One of its seeds; None for any.

        Raises:
            ValueError: If there is no such row or seed, or the row is not a generator's.
        """
        found = [each for each in self.candidates if row in (None, each.label)]
        if row is not None and not found:
            self._refuse_row(row)
        seeds = list(dict.fromkeys(each.seed for each in found))
        found = [each for each in found if seed in (None, each.seed)]
        if not found:
            raise ValueError(f"expected a seed out of {', '.join(map(str, seeds))}, got {seed}")
        selected = [each for each in found if each.validation is not None]
        return max(selected, key=lambda each: each.validation or 0.0) if selected else found[0]

    def model(self, chosen: Candidate) -> TrainedModel:
        """The model of a candidate, with its partner in the beam, if any.

        Raises:
            ValueError: If a part of it is missing, or it needs data that are missing.
        """
        model = self._arm(chosen.arm, chosen.seed)
        partner = None
        if chosen.fused is not None:
            teacher = self._teacher(chosen.arm, chosen.seed, model.items.catalog)
            partner = Partner(model=teacher, weight=chosen.fused)
        if chosen.other_seed is not None:
            partner = Partner(model=self._arm(chosen.arm, chosen.other_seed), weight=0.5)
        return dataclasses.replace(model, partner=partner, about=self._about(chosen))

    def _of_row(self, row: Mapping[str, Any]) -> Iterator[Candidate]:
        arms = {arm.label: arm for arm in self._run.arms}
        label = row["arm"].removesuffix(IN_THE_BEAM).removesuffix(TWO_SEEDS)
        if label not in arms:
            return
        for seed, evaluation in zip(row["seeds"], row["evaluations"], strict=True):
            one = Candidate(
                label=row["arm"], arm=arms[label], seed=seed, validation=_validation(evaluation)
            )
            if row["arm"].endswith(IN_THE_BEAM):
                fusion = evaluation["fusion"]
                weight = fusion["weight"]
                reached = fusion["validation"].get(f"{weight:g}")
                one = dataclasses.replace(one, fused=weight, validation=reached)
            elif row["arm"].endswith(TWO_SEEDS):
                one = dataclasses.replace(one, other_seed=evaluation["seeds"][1], validation=None)
            yield one

    def _refuse_row(self, label: str) -> None:
        labels = list(dict.fromkeys(each.label for each in self.candidates))
        known = [row["arm"] for row in self._rows]
        what = "which is no generator's" if label in known else "which is none of the table"
        raise ValueError(
            f"expected the row of a generator, got {label!r}, {what}.{did_you_mean(label, labels)} "
            f"Those are: {'; '.join(labels)}."
        )

    def _arm(self, arm: Arm, seed: int) -> TrainedModel:
        """The model of an arm, completed from the data if its folder is incomplete."""
        folder, config = self._run.trained(arm, seed), self._run.config
        spec = spec_of(config, arm, seed)
        if (folder / CARD).exists():
            model = TrainedModel.load(folder, backbone=arm.backbone, teacher=self._named)
            if model.spec.backbone == arm.backbone:
                return model
            # it shares the weights of another arm
            items, teacher, content = model.items, model.teacher, model.content
        else:
            schemes = schemes_of([arm], config.ids, config.schemes, self._run.folder)
            ids, *more = (SemanticIds.load(scheme.folder) for scheme in schemes)
            second = next(iter(more), None)
            items = ModelItems.of(self._run.dataset, ids, schemes[0].folder, second)
            teacher = content = None
        if arm.backbone_class.needs_teacher and teacher is None:
            teacher = self._teacher(arm, seed, items.catalog)
        model = TrainedModel.read(spec, items, folder, teacher=teacher)
        return dataclasses.replace(model, content=content)

    def _teacher(self, arm: Arm, seed: int, catalog: Catalog) -> FittedTeacher:
        """The teacher of a seed, loaded without the data if it can score without them."""
        config = self._run.config
        folder = Path(config.teachers) if config.teachers else self._run.folder / TEACHERS
        require_named(config.teacher.wrapped, self._named, folder)
        if teacher_class(config.teacher.wrapped).needs_interactions:
            return teacher_of(config, self._run.dataset, seed, folder)
        for own in sorted(folder.glob(f"*-{seed}-*")):
            lineage = Provenance.read(own)
            if lineage.config["model"] != config.teacher.model:
                continue
            how = self._calibrated(lineage, folder)
            guided_by = hash_json([scores_hash(lineage), *how.values()])[:8]
            trained = self._run.trained(arm, seed)
            taught = Provenance.read(trained).inputs.get("teacher") == scores_hash(lineage)
            if taught or any(trained.glob(f"fused*-{guided_by}")):
                return FittedTeacher.load(own, catalog, **how, model=self._named)
        raise ValueError(
            f"expected the teacher of seed {seed} in {folder}, got none of {arm.label}. Put its "
            "folder back, or run the same semid compare again."
        )

    def _calibrated(self, lineage: Provenance, folder: Path) -> dict[str, Any]:
        """A teacher's temperature and history mask."""
        config = self._run.config
        temperature, mask_history = config.temperature, config.mass.mask_history
        if temperature == "auto":
            temperature = kept_temperature(
                teacher=scores_hash(lineage),
                targets=self._run.data["valid"],
                folder=folder,
                mask_history=mask_history,
            )
        return {"temperature": temperature, "mask_history": mask_history}

    def _about(self, chosen: Candidate) -> dict[str, Any]:
        (row,) = (row for row in self._rows if row["arm"] == chosen.label)
        return {
            "row": chosen.label,
            "seed": chosen.seed,
            "seeds": row["seeds"],
            "metrics": row["metrics"],
            "settings": self._settings,
            "data": self._run.data,
        }


def _validation(evaluation: Mapping[str, Any]) -> float | None:
    """The validation value that selected the epoch, whatever its metric is called."""
    values = (
        value
        for name, value in evaluation.items()
        if name.startswith("validation_") and name != "validation_seconds"
    )
    return next(values, None)
