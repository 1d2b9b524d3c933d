"""``semid teacher``: collaborative-filtering teachers and their item vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.config import TeacherExportConfig, TeacherTrainConfig
from baselines.cli.inputs import read_data

if TYPE_CHECKING:
    from rich.console import Console

    from baselines.experiments.comparison import RunRecord


def teacher_train(config: TeacherTrainConfig, console: Console) -> None:
    """Train a collaborative-filtering teacher and print how it ranks the test targets."""
    from rich.table import Table

    from baselines.evaluation.ranks import POLICIES

    shown = ("R@5", "N@5", "R@10", "N@10")
    table = Table("seed", "best epoch", "policy", *shown)
    chosen = []
    for record in teacher_records(config):
        table.title = record.arm
        for policy in POLICIES:
            figures = (f"{record.per_user[policy][name].mean():.4f}" for name in shown)
            best = str(record.evaluation["best_epoch"])
            table.add_row(str(record.seed), best, f"seen items {policy}", *figures)
        for name, value in record.evaluation.get("chosen", {}).items():
            chosen.append(f"{name}, seed {record.seed}: {value:g}, chosen on validation")
    console.print(table)
    for line in chosen:
        console.print(line)
    console.print(f"teachers: {config.out}")


def teacher_records(config: TeacherTrainConfig) -> list[RunRecord]:
    """Train or read the teacher of each seed, and rank the test targets."""
    from baselines.evaluation.config import EvaluationConfig
    from baselines.evaluation.measures import Measures
    from baselines.evaluation.ranking import rank_by_scores
    from baselines.experiments.records import record, teacher_notes
    from baselines.teachers.fit import fit_teacher
    from baselines.training.tracking import tracking
    from semid.atomic import remove_leftovers

    remove_leftovers(config.out)
    dataset = read_data(config)
    splits, records = dataset.splits, []
    measures = Measures.of(EvaluationConfig(), dataset)
    for seed in config.seeds:
        with tracking(config.log_to, Path(config.out)):
            model, state, _ = fit_teacher(
                dataset, config.teacher, config.training, seed=seed, folder=Path(config.out)
            )
        ranks = rank_by_scores(model, splits.test, title="test")
        records.append(
            record(
                model.label,
                "teacher",
                ranks,
                [model],
                seed=seed,
                measures=measures,
                state=state,
                notes=teacher_notes(model),
            )
        )
    return records


def teacher_export(config: TeacherExportConfig, console: Console) -> None:
    """Write the item vectors of a trained teacher, for schemes that learn from interactions."""
    from baselines.teachers.fit import read_teacher
    from baselines.teachers.vectors import item_vectors

    dataset = read_data(config)
    teacher, lineage = read_teacher(
        dataset,
        seed=config.seed,
        folder=Path(config.teachers),
        model=config.model,
        other_interactions=config.other_interactions,
    )
    vectors = item_vectors(teacher, dataset, lineage)
    vectors.save(config.out)
    zero = vectors.provenance.config["unseen_items"]
    console.print(f"{len(dataset.catalog)} item vectors, {zero} of them zero: {config.out}")
