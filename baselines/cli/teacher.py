"""``semid teacher``: collaborative-filtering teachers and their item vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.config import TeacherExportConfig, TeacherTrainConfig

if TYPE_CHECKING:
    from rich.console import Console


def teacher_train(config: TeacherTrainConfig, console: Console) -> None:
    """Train a collaborative-filtering teacher and print how it ranks the test targets."""
    from rich.table import Table

    from baselines.data.loading import load_dataset
    from baselines.evaluation.ranking import rank_by_scores
    from baselines.evaluation.ranks import POLICIES
    from baselines.teachers.fit import fit_teacher
    from semid.atomic import remove_leftovers

    remove_leftovers(config.out)
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
        model=config.model,
        other_interactions=config.other_interactions,
    )
    vectors = item_vectors(teacher, dataset, lineage)
    vectors.save(config.out)
    zero = vectors.provenance.config["unseen_items"]
    console.print(f"{len(dataset.catalog)} item vectors, {zero} of them zero: {config.out}")
