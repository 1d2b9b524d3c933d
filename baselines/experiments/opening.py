"""Opens the folder of a run: claims it, checks settings against data, and builds the IDs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from baselines.contracts.scorer import require_vectors
from baselines.data.dataset import Dataset
from baselines.evaluation.measures import require_metrics
from baselines.experiments.arms import Arm, arms_to_fuse, parse_arms
from baselines.experiments.claim import claimed
from baselines.experiments.config import CompareConfig
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
from baselines.experiments.rows import ComparisonRun, counted_teacher, mass_of
from baselines.experiments.schemes import Scheme, schemes_of
from baselines.models.items import ModelItems
from baselines.models.on_policy import require_codes
from baselines.models.registry import backbone_settings, require_contract, require_second_ids
from baselines.teachers.config import IN_SAMPLE
from baselines.teachers.fit import fit_teacher, settled_training
from baselines.teachers.labels import require_labels, settled_labels
from baselines.teachers.registry import teacher_class
from baselines.teachers.vectors import item_vectors, require_item_vectors
from baselines.testing.metrics import check_own_metrics
from baselines.testing.objectives import check_objective
from baselines.training.precision import settled
from baselines.training.tracking import tracking
from semid.atomic import remove_leftovers
from semid.distributed import distributed_state
from semid.ids import SemanticIds
from tca.config import OBJECTIVES

_MASS = "mass"


@contextmanager
def opened(config: CompareConfig, dataset: Dataset | None) -> Iterator[ComparisonRun]:
    """A run whose folder is ours, with checked settings, data and IDs; nothing is trained yet.

    Only a teacher may have been, if IDs are built from its vectors.

    Args:
        config: The settings.
        dataset: The data, if already loaded; ``config.json`` then records their name as ``data``.
            None to read the data that ``config`` names.

    Raises:
        ValueError: If a setting does not fit the data, ``out`` holds results of other settings
            (``baselines.experiments.growth``) or other data, or another command is using it.
    """
    claim = claimed(Path(config.out), settings_claimed(config))
    held = claim if distributed_state().is_main_process else nullcontext()
    with held, tracking(config.log_to, Path(config.out)):
        yield _opened(begun_with(config), dataset)


def _opened(config: CompareConfig, dataset: Dataset | None) -> ComparisonRun:
    out = Path(config.out)
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
    config = _with_labels(config, arms, dataset)
    _require_fit(config, arms, dataset)
    if any(scheme.waits_for_teacher for scheme in schemes):
        require_item_vectors(config.teacher, needed_by="cf_embeddings: teacher")
    teachers = Path(config.teachers) if config.teachers else out / TEACHERS
    masses = Path(config.mass_cache or out / _MASS)
    config = _settled(config, dataset, teachers)
    here = distributed_state()
    here.wait_for_everyone()  # everyone checks the folder before the main process writes
    if here.is_main_process:
        for folder in {out, teachers, masses}:
            remove_leftovers(folder)
    ids = _ids(config, schemes, dataset, out, teachers)
    if here.is_main_process:
        begin(out, config, dataset, ids, given=given)
    here.wait_for_everyone()
    return ComparisonRun(
        config=config,
        arms=arms,
        fused=fused,
        dataset=dataset,
        items={scheme: ModelItems.of(dataset, made, scheme.folder) for scheme, made in ids.items()},
        out=out,
        teachers=teachers,
        masses=masses,
        content=counted_teacher(config, dataset, "content", teachers)
        if config.evaluation.slots
        else None,
    )


def _ids(
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


def _settled(config: CompareConfig, dataset: Dataset, teachers: Path) -> CompareConfig:
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


def _with_labels(config: CompareConfig, arms: list[Arm], dataset: Dataset) -> CompareConfig:
    rounded = any("bfloat16" in arm.objective.reference for arm in arms)
    teacher = teacher_class(config.teacher)
    mass = settled_labels(config.mass, teacher, dataset, rounded=rounded)
    return dataclasses.replace(config, mass=mass)


def _require_fit(config: CompareConfig, arms: list[Arm], dataset: Dataset) -> None:
    """Refuse settings that do not fit each other or the data, before anything is trained."""
    require_metrics(config.evaluation)
    check_own_metrics(config.evaluation)
    config.mass.require_fit(len(dataset.catalog))
    for arm in arms:
        if arm.objective.name not in OBJECTIVES:
            check_objective(arm.objective.name)
    require_contract({arm.backbone for arm in arms}, config.backbones)
    for arm in (arm for arm in arms if arm.objective.needs_teacher):
        _require_labels(config, arm, dataset)
    for backbone in dict.fromkeys(arm.backbone_class for arm in arms if arm.second):
        require_second_ids(backbone, backbone_settings(backbone, config.backbones)[0])
    for backbone in dict.fromkeys(arm.backbone_class for arm in arms):
        shape, _ = backbone_settings(backbone, config.backbones)
        backbone.require_fit(shape, dataset.catalog, teacher_class(config.teacher))


def _require_labels(config: CompareConfig, arm: Arm, dataset: Dataset) -> None:
    """Refuse settings of an arm's distributions that do not fit each other or the teacher."""
    mass, teacher = mass_of(config, arm), teacher_class(config.teacher)
    is_rounded = "bfloat16" in arm.objective.reference
    of_vectors = {"top_k": mass.top_k is not None, "reference=bfloat16": is_rounded}
    for needed_by in (name for name, is_set in of_vectors.items() if is_set):
        require_vectors(teacher, needed_by=needed_by)
        if mass.labels != IN_SAMPLE:
            raise ValueError(
                f"labels {mass.labels} score each user in another way, and {needed_by} needs one "
                "vector per item for all users. Leave one of them out."
            )
    if is_rounded and mass.top_k is not None:
        raise ValueError(
            "reference=bfloat16 rounds the scores of all items, and mass.top_k "
            f"{mass.top_k} takes some. Leave one of them out."
        )
    if arm.objective.on_policy:
        require_codes(arm.backbone_class)
        if mass.best_items == 0:
            raise ValueError(
                "on_policy labels prefixes by the teacher's best items, got mass.best_items 0. "
                "Take at least 1, or leave on_policy out."
            )
    require_labels(mass, teacher, dataset)
