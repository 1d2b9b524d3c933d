"""``semid teacher``: collaborative-filtering teachers and their item vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.data.config import Repeats, Split
from baselines.teachers.config import TeacherConfig, teacher_training
from baselines.training.config import TrainingConfig

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class TeacherTrainConfig:
    """Settings of ``semid teacher train``.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder of trained teachers; ``semid compare --teachers`` takes it.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        seeds: A teacher is trained with each.
        teacher: Which teacher, in which shape.
        training: How it is trained; item-kNN and popularity are counted.
    """

    data: str
    out: str
    split: Split = "auto"
    repeats: Repeats = "keep"
    time_format: str | None = None
    seeds: tuple[int, ...] = (0,)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainingConfig = field(default_factory=teacher_training)


@dataclass(frozen=True, kw_only=True)
class TeacherExportConfig:
    """Settings of ``semid teacher export``.

    Attributes:
        data: The folder that the teacher was trained on, or ``synthetic``.
        teachers: Folder of trained teachers, or the folder of one of them.
        out: Folder to write the item vectors to.
        split: The protocol that the teacher was trained under.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        seed: Of the teacher.
        other_interactions: Also take a teacher that has learned from other interactions than the
            training part of this split, and so perhaps from those that are held out here.
    """

    data: str
    teachers: str
    out: str
    split: Split = "auto"
    repeats: Repeats = "keep"
    time_format: str | None = None
    seed: int = 0
    other_interactions: bool = False


def teacher_train(config: TeacherTrainConfig, console: Console) -> None:
    """Train a collaborative-filtering teacher and print how it ranks the test targets."""
    from rich.table import Table

    from baselines.data.loading import load_dataset
    from baselines.evaluation.ranking import rank_by_scores
    from baselines.evaluation.ranks import POLICIES
    from baselines.teachers.fit import fit_teacher

    dataset = load_dataset(
        config.data, split=config.split, repeats=config.repeats, time_format=config.time_format
    )
    table = Table("seed", "best epoch", "policy", "R@5", "N@5", "R@10", "N@10")
    for seed in config.seeds:
        model, state, _ = fit_teacher(
            dataset, config.teacher, config.training, seed=seed, folder=Path(config.out)
        )
        table.title = model.label
        ranks = rank_by_scores(model, dataset.splits.test, title="test")
        for policy in POLICIES:
            metrics = ranks.metrics(policy, "expected")
            shown = (f"{metrics[name].mean():.4f}" for name in ("R@5", "N@5", "R@10", "N@10"))
            table.add_row(str(seed), str(state.best_epoch), f"seen items {policy}", *shown)
    console.print(table)
    console.print(f"teachers: {config.out}")


def teacher_export(config: TeacherExportConfig, console: Console) -> None:
    """Write the item vectors of a trained teacher, for schemes that learn from interactions."""
    from baselines.data.loading import load_dataset
    from baselines.teachers.fit import read_teacher
    from baselines.teachers.vectors import item_vectors

    dataset = load_dataset(
        config.data, split=config.split, repeats=config.repeats, time_format=config.time_format
    )
    teacher, lineage = read_teacher(
        dataset,
        seed=config.seed,
        folder=Path(config.teachers),
        other_interactions=config.other_interactions,
    )
    vectors = item_vectors(teacher, dataset, lineage)
    vectors.save(config.out)
    zero = vectors.provenance.config["unseen_items"]
    console.print(f"{len(dataset.catalog)} item vectors, {zero} of them zero: {config.out}")
