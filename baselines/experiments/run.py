"""The main job: train and compare all arms on the same data, IDs, budget and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from baselines.contracts.scorer import require_vectors
from baselines.data.dataset import Dataset
from baselines.evaluation.measures import require_metrics
from baselines.experiments.arms import Arm, arms_to_fuse, parse_arms
from baselines.experiments.claim import claimed, may_write
from baselines.experiments.comparison import Comparison, compare, write_per_user
from baselines.experiments.config import CompareConfig
from baselines.experiments.controls import control_records
from baselines.experiments.folder import (
    EMBEDDINGS,
    TEACHER_VECTORS,
    TEACHERS,
    begin,
    begun_with,
    dataset_of,
    require_same_data,
    settings_claimed,
)
from baselines.experiments.growth import require_free
from baselines.experiments.report import comparison_page
from baselines.experiments.rows import IN_THE_BEAM, ComparisonRun, popularity_row, rows_of_seed
from baselines.experiments.schemes import Scheme, scheme_card, schemes_of
from baselines.experiments.settings import report_settings
from baselines.models.items import ModelItems
from baselines.models.registry import backbone_settings, require_contract
from baselines.teachers.fit import fit_teacher, settled_training
from baselines.teachers.registry import teacher_class
from baselines.teachers.vectors import item_vectors, require_item_vectors
from baselines.testing.objectives import check_objective
from baselines.training.precision import settled
from semid.atomic import atomic_write, remove_leftovers
from semid.distributed import distributed_state
from semid.ids import SemanticIds
from tca.config import OBJECTIVES

MASS = "mass"


def run_comparison(config: CompareConfig, dataset: Dataset | None = None) -> Comparison:
    """Run every unfinished stage, and write the comparison.

    Writes to ``config.out``: ``config.json``, ``data.json``, ``ids/`` and ``ids-<name>/``, a folder
    for each trained model, ``comparison.json``, ``comparison.md`` and ``per_user.parquet``. Several
    processes (``semid.distributed``) share training and ranking; only the main one writes.

    Args:
        config: The settings.
        dataset: The data, if already loaded; ``config.json`` then records their name as ``data``.
            None to read the data that ``config`` names.

    Raises:
        ValueError: If a setting does not fit the data, ``out`` holds results of other settings
            (``baselines.experiments.growth``) or other data, or another command is using it.
    """
    out = Path(config.out)
    with (
        claimed(out, settings_claimed(config))
        if distributed_state().is_main_process
        else nullcontext()
    ):
        return _compared(begun_with(config), dataset, out)


def _compared(config: CompareConfig, dataset: Dataset | None, out: Path) -> Comparison:
    """The comparison, in a folder that has been claimed."""
    arms = parse_arms(config)
    fused = arms_to_fuse(config, arms)
    require_free(out, config, arms)
    schemes = schemes_of(arms, config.ids, config.schemes, out)
    given = dataset is not None
    if dataset is None:
        dataset = dataset_of(config)
    else:
        config = dataclasses.replace(config, data=dataset.name)
    require_same_data(out, config, dataset)
    require_fit(config, arms, dataset)
    if any(scheme.waits_for_teacher for scheme in schemes):
        require_item_vectors(config.teacher, needed_by="cf_embeddings: teacher")
    teachers = Path(config.teachers) if config.teachers else out / TEACHERS
    masses = Path(config.mass_cache or out / MASS)
    config = settled_config(config, dataset, teachers)
    here = distributed_state()
    here.wait_for_everyone()  # everyone checks the folder before the main process writes
    if here.is_main_process:
        for folder in {out, teachers, masses}:
            remove_leftovers(folder)
    ids = make_ids(config, schemes, dataset, out, teachers)
    if here.is_main_process:
        begin(out, config, dataset, ids, given=given)
    here.wait_for_everyone()
    items = {scheme: ModelItems.of(dataset, made, scheme.folder) for scheme, made in ids.items()}
    run = ComparisonRun(
        config=config, dataset=dataset, items=items, out=out, teachers=teachers, masses=masses
    )
    records = [popularity_row(run)]
    for seed in config.seeds:
        records += rows_of_seed(run, arms, fused, seed)
    if config.fusion.controls:
        records += control_records(run, [arm for arm in arms if arm in fused])
    comparison = compare(
        records,
        baseline=arms[0].label,
        pairs=_pairs(arms, fused),
        settings=report_settings(config, dataset, ids),
        schemes=[scheme_card(scheme, made) for scheme, made in ids.items()],
        resamples=config.resamples,
    )
    if here.is_main_process and may_write(out):
        write_per_user(records, out / "per_user.parquet", users=users_of_targets(dataset))
        comparison.to_json(out / "comparison.json")
        atomic_write(out / "comparison.md", comparison_page(comparison))
    return comparison


def make_ids(
    config: CompareConfig, schemes: Sequence[Scheme], dataset: Dataset, out: Path, teachers: Path
) -> dict[Scheme, SemanticIds]:
    """The IDs of each scheme; the teacher is fitted first if a scheme learns from its vectors."""
    here = distributed_state()
    if any(scheme.waits_for_teacher for scheme in schemes):
        teacher, _, lineage = fit_teacher(
            dataset,
            config.teacher,
            config.teacher_training,
            seed=config.seeds[0],
            folder=teachers,
            selected_by=config.evaluation.selected_by,
        )
        if here.is_main_process:
            item_vectors(teacher, dataset, lineage).save(out / TEACHER_VECTORS)
        here.wait_for_everyone()
    return {
        scheme: scheme.ids(
            dataset, cache_dir=out / EMBEDDINGS, teacher_vectors=out / TEACHER_VECTORS
        )
        for scheme in schemes
    }


def settled_config(config: CompareConfig, dataset: Dataset, teachers: Path) -> CompareConfig:
    """The settings with every ``auto`` precision resolved."""
    return dataclasses.replace(
        config,
        training=settled(config.training),
        teacher_training=settled_training(
            dataset,
            config.teacher,
            config.teacher_training,
            folder=teachers,
            selected_by=config.evaluation.selected_by,
        ),
    )


def require_fit(config: CompareConfig, arms: list[Arm], dataset: Dataset) -> None:
    """Refuse settings that do not fit each other or the data, before anything is trained."""
    require_metrics(config.evaluation)
    config.mass.require_fit(len(dataset.catalog))
    for arm in arms:
        if arm.objective.name not in OBJECTIVES:
            check_objective(arm.objective.name)
    require_contract({arm.backbone for arm in arms}, config.backbones)
    taught = [arm for arm in arms if arm.objective.needs_teacher]
    if config.mass.top_k is not None and taught:
        require_vectors(teacher_class(config.teacher), needed_by="top_k")
    for arm in taught:
        if "bfloat16" in arm.objective.reference:
            require_vectors(teacher_class(config.teacher), needed_by="reference=bfloat16")
            if config.mass.top_k is not None:
                raise ValueError(
                    "reference=bfloat16 rounds the scores of all items, and mass.top_k "
                    f"{config.mass.top_k} takes some. Leave one of them out."
                )
    for backbone in dict.fromkeys(arm.backbone_class for arm in arms):
        shape, _ = backbone_settings(backbone, config.backbones)
        backbone.require_fit(shape, dataset.catalog, teacher_class(config.teacher))


def _pairs(arms: Sequence[Arm], fused: set[Arm]) -> dict[str, str]:
    """Maps the label of each row with a teacher to its counterpart without one."""
    found = {}
    for arm in arms:
        plain = arm.counterpart(arms)
        if plain is not None:
            found[arm.label] = plain.label
            if {arm, plain} <= fused:
                found[arm.label + IN_THE_BEAM] = plain.label + IN_THE_BEAM
    return found


def users_of_targets(dataset: Dataset) -> list[str | int]:
    """The user ID of each test target, or the user's number if there are no IDs."""
    test = dataset.splits.test
    users = test.users[test.targets()[0]]
    if dataset.interactions is None:
        return [int(user) for user in users]
    return [dataset.interactions.user_ids[user] for user in users]
