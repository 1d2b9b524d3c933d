"""The rows of a comparison: records of each seed's teacher and arms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from baselines.data.dataset import Dataset
from baselines.evaluation.agreement import agreement
from baselines.evaluation.measures import Measures
from baselines.evaluation.ranking import FuseBatch, rank_by_scores
from baselines.evaluation.ranks import Ranks
from baselines.experiments.arms import Arm
from baselines.experiments.claim import may_write
from baselines.experiments.comparison import RunRecord
from baselines.experiments.config import CompareConfig
from baselines.experiments.records import record, teacher_notes
from baselines.experiments.schemes import Scheme
from baselines.models.fusion import choose_weight, teacher_fusion
from baselines.models.items import ModelItems
from baselines.models.spec import ModelSpec
from baselines.models.trained import TrainedModel
from baselines.teachers.config import IN_SAMPLE, MassConfig
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.simple import Popularity
from baselines.teachers.supervision import Supervision
from semid.distributed import distributed_state
from semid.ids import SemanticIds
from semid.provenance import hash_json

IN_THE_BEAM = ", teacher in the beam"
"""Suffix of the label of a row with the teacher in the beam."""


def spec_of(config: CompareConfig, arm: Arm, seed: int) -> ModelSpec:
    """The model spec of an arm with a seed."""
    return ModelSpec.of(
        arm.backbone,
        config.backbones,
        objective=arm.objective,
        training=config.training,
        evaluation=config.evaluation,
        mass=mass_of(config, arm),
        seed=seed,
    )


def mass_of(config: CompareConfig, arm: Arm) -> MassConfig:
    """How the distributions are computed that an arm learns from."""
    return config.mass if arm.labelled is None else replace(config.mass, labels=arm.labelled)


def teacher_of(config: CompareConfig, dataset: Dataset, seed: int, folder: Path) -> FittedTeacher:
    """The teacher of a comparison's seed, fitted or loaded; ``folder`` holds its teachers."""
    return FittedTeacher.fit(
        dataset,
        config.teacher,
        config.teacher_training,
        seed=seed,
        folder=folder,
        temperature=config.temperature,
        mask_history=config.mass.mask_history,
        selected_by=config.evaluation.selected_by,
    )


def counted_teacher(
    config: CompareConfig, dataset: Dataset, name: str, folder: Path
) -> FittedTeacher:
    """One of ``COUNTED``, the same for all seeds; ``folder`` holds a comparison's teachers."""
    return FittedTeacher.fit(
        dataset,
        replace(config.teacher, model=name, settings={}),
        config.teacher_training,
        seed=0,
        folder=folder / "counted",
        selected_by=config.evaluation.selected_by,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonRun:
    """The inputs of a comparison's rows.

    Attributes:
        config: The settings.
        arms: The arms, in table order.
        fused: Those that get a second row with the teacher in the beam.
        dataset: The data.
        items: The items with the semantic IDs of each scheme.
        out: Folder of the comparison.
        teachers: Folder of the teachers.
        masses: Folder of stored token distributions.
        content: The scorer that fills reserved slots; None if no places are reserved.
    """

    config: CompareConfig
    arms: Sequence[Arm]
    fused: Collection[Arm]
    dataset: Dataset
    items: Mapping[Scheme, ModelItems]
    out: Path
    teachers: Path
    masses: Path
    content: FittedTeacher | None

    @property
    def ids(self) -> dict[Scheme, SemanticIds]:
        """The semantic IDs of each scheme."""
        return {scheme: items.ids for scheme, items in self.items.items()}

    def teacher(self, seed: int) -> FittedTeacher:
        """The teacher of a seed, fitted or loaded."""
        return teacher_of(self.config, self.dataset, seed, self.teachers)

    def supervision(
        self, teacher: FittedTeacher, seed: int, ids: SemanticIds, mass: MassConfig
    ) -> Supervision:
        """A teacher's labels for the training targets of all models on the same IDs."""
        fit = partial(teacher_of, self.config, seed=seed, folder=self.teachers / "crossfit")
        return Supervision(teacher, fit, self.dataset, ids, mass, self.masses)

    @cached_property
    def measures(self) -> Measures:
        """The metrics reported for every row."""
        return Measures.of(self.config.evaluation, self.dataset)

    def folder(self, arm: Arm, seed: int) -> Path:
        """Folder of an arm's weights."""
        return self.out / f"{arm.folder}-{seed}"

    def items_of(self, arm: Arm) -> ModelItems:
        """The items with the semantic IDs of an arm."""
        named = {scheme.name: items for scheme, items in self.items.items()}
        second = None if arm.second is None else named[arm.second].ids
        return replace(named[arm.scheme], second=second)

    def read(self, arm: Arm, seed: int, teacher: FittedTeacher) -> TrainedModel:
        """The model of an arm that has been trained."""
        spec, items = spec_of(self.config, arm, seed), self.items_of(arm)
        model = TrainedModel.read(spec, items, self.folder(arm, seed), teacher=teacher)
        return replace(model, content=self.content)


def popularity_row(run: ComparisonRun) -> RunRecord:
    """The popularity baseline."""
    scorer = Popularity(run.dataset.splits.train, len(run.dataset.catalog))
    ranks = rank_by_scores(scorer, run.dataset.splits.test, title="Popularity")
    return record("Popularity", "reference", ranks, seed=None, measures=run.measures)


def rows_of_seed(run: ComparisonRun, seed: int) -> Iterator[RunRecord]:
    """The teacher's row, then the rows of each arm, trained or loaded, and ranked.

    Args:
        run: Their inputs.
        seed: Seed of teacher and arms.
    """
    config, teacher = run.config, run.teacher(seed)
    label = teacher.model.label
    expected = rank_by_scores(
        teacher.model, run.dataset.splits.test, title=f"{label}, seed {seed}, test"
    )
    yield record(
        f"{label} (teacher)",
        "teacher",
        expected,
        [teacher.model],
        seed=seed,
        measures=run.measures,
        state=teacher.state,
        notes=teacher_notes(teacher.model),
    )
    rows: dict[Arm, list[RunRecord]] = {}
    for scheme, items in run.items.items():
        given = partial(run.supervision, teacher, seed, items.ids)
        of_mass: dict[MassConfig, Supervision] = {}  # arms share their distributions
        for arm in (arm for arm in run.arms if arm.scheme == scheme.name):
            mass = mass_of(config, arm)
            supervision = of_mass.setdefault(mass, given(mass))
            model = TrainedModel.fit(
                spec_of(config, arm, seed),
                run.dataset,
                run.items_of(arm),
                supervision,
                folder=run.folder(arm, seed),
                title=f"{arm.label}, seed {seed}",
            )
            model = replace(model, content=run.content)
            if distributed_state().is_main_process and may_write(run.out):
                model.keep()
            rows[arm] = [_row(run, arm, model, expected, supervision)]
            if arm in run.fused:
                rows[arm].append(_fused_row(run, arm, model, teacher, expected))
            del model  # language models are large: free it before loading the next
    for arm in run.arms:
        yield from rows[arm]


def _row(
    run: ComparisonRun, arm: Arm, model: TrainedModel, expected: Ranks, supervision: Supervision
) -> RunRecord:
    evaluation, seed = run.config.evaluation, model.spec.seed
    path = model.folder / f"test{arm.result_suffix}"
    ranks, notes = model.evaluate(run.dataset, path, f"{arm.label}, seed {seed}")
    notes |= agreement(ranks, expected, evaluation.ties)
    if arm.objective.needs_teacher:
        labels = supervision.labels
        notes["teacher_temperature"] = labels.temperature
        if supervision.config.labels != IN_SAMPLE:
            notes |= {"labels": supervision.config.labels}
            notes |= {"labels_seconds": round(labels.seconds, 1)}
    return record(
        arm.label,
        "arm",
        ranks,
        model.modules,
        seed=seed,
        measures=run.measures,
        state=model.state,
        notes=notes,
    )


def _fused_row(
    run: ComparisonRun, arm: Arm, model: TrainedModel, teacher: FittedTeacher, expected: Ranks
) -> RunRecord:
    evaluation, seed = run.config.evaluation, model.spec.seed
    guided_by = [teacher.scores_hash, teacher.temperature, teacher.mask_history]
    of_teacher = partial(
        teacher_fusion,
        teacher.model,
        model.backbone.trie,
        temperature=teacher.temperature,
        mask_history=teacher.mask_history,
    )

    def fuse_at(weight: float) -> FuseBatch | None:
        return model.rescored(of_teacher(weight=weight))

    title = f"{arm.label}, seed {seed}{IN_THE_BEAM}"
    made_from = {**model.identity, "guided_by": guided_by}
    folder = model.folder / f"fused{arm.result_suffix}-{hash_json(guided_by)[:8]}"
    chosen = choose_weight(
        model.backbone,
        fuse_at,
        run.dataset.splits.valid,
        evaluation,
        run.config.fusion.weights,
        folder=folder,
        title=title,
        made_from=made_from,
    )
    ranks, notes = model.evaluate(
        run.dataset,
        folder / f"weight-{chosen.weight:g}",
        title,
        fuse=of_teacher(weight=chosen.weight),
        made_from={**made_from, "weight": chosen.weight},
    )
    return record(
        arm.label + IN_THE_BEAM,
        "arm",
        ranks,
        [model.backbone, teacher.model],
        seed=seed,
        measures=run.measures,
        state=model.state,
        notes={"fusion": asdict(chosen), **notes, **agreement(ranks, expected, evaluation.ties)},
    )
