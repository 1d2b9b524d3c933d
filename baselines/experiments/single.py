"""Train one model without a comparison: IDs, the teacher if needed, and the model itself."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

from baselines.data.dataset import Dataset
from baselines.experiments.arms import Arm, parse_arms
from baselines.experiments.claim import claimed
from baselines.experiments.config import CompareConfig
from baselines.experiments.folder import (
    CONFIG,
    TEACHERS,
    begin,
    begun_with,
    dataset_of,
    describe,
    require_same_data,
    settings_claimed,
)
from baselines.experiments.growth import require_free
from baselines.experiments.rows import ComparisonRun, spec_of
from baselines.experiments.run import MASS, make_ids, require_fit, settled_config
from baselines.experiments.schemes import schemes_of
from baselines.experiments.settings import report_settings
from baselines.models.items import ModelItems
from baselines.models.trained import TrainedModel
from baselines.teachers.supervision import Supervision
from baselines.training.checkpoint import without_memory_settings
from semid.atomic import remove_leftovers
from semid.distributed import distributed_state
from semid.provenance import read_json

_OF_MODEL = ("arms", "seeds", "backbones")


def train_model(config: CompareConfig, dataset: Dataset | None = None) -> TrainedModel:
    """Train the only arm of a comparison with its only seed, or load it if already trained.

    ``config.out`` becomes the folder of the model. ``embeddings/``, ``teachers/`` and ``mass/``
    below it are needed only to resume, not by the model.

    Args:
        config: The settings.
        dataset: The data, if already loaded; None to read the data that ``config`` names.

    Raises:
        ValueError: If a setting does not fit the data, the arm names a scheme, ``out`` holds
            another model or other files, or another command is using it.
    """
    (arm,) = parse_arms(config)
    if arm.scheme is not None:
        raise ValueError(
            f"expected an arm whose ids are those of --ids, got {config.arms[0]!r}. Leave out "
            f"@{arm.scheme}, and say by --ids.scheme how they are made."
        )
    out = Path(config.out)
    with (
        claimed(out, settings_claimed(config))
        if distributed_state().is_main_process
        else nullcontext()
    ):
        return _trained(begun_with(config), arm, dataset, out)


def _trained(config: CompareConfig, arm: Arm, dataset: Dataset | None, out: Path) -> TrainedModel:
    require_free(out, config, [arm])
    _require_same_model(out, config)
    given = dataset is not None
    dataset = dataset_of(config) if dataset is None else dataset
    require_same_data(out, config, dataset)
    require_fit(config, [arm], dataset)
    teachers = Path(config.teachers) if config.teachers else out / TEACHERS
    config = settled_config(config, dataset, teachers)
    here = distributed_state()
    here.wait_for_everyone()  # everyone checks the folder before the main process writes
    if here.is_main_process:
        for folder in {out, teachers}:
            remove_leftovers(folder)
    schemes = schemes_of([arm], config.ids, {}, out)
    made = make_ids(config, schemes, dataset, out, teachers)
    if here.is_main_process:
        begin(out, config, dataset, made, given=given)
    here.wait_for_everyone()
    items = {scheme: ModelItems.of(dataset, ids, scheme.folder) for scheme, ids in made.items()}
    run = ComparisonRun(
        config=config, dataset=dataset, items=items, out=out, teachers=teachers, masses=out / MASS
    )
    model = _fitted(run, arm)
    model = dataclasses.replace(
        model,
        about={
            "settings": report_settings(config, dataset, made),
            "data": describe(dataset),
            "training": {"epochs": model.state.epoch, "best_epoch": model.state.best_epoch},
        },
    )
    if here.is_main_process:
        model.keep()
    here.wait_for_everyone()
    return model


def _require_same_model(out: Path, config: CompareConfig) -> None:
    """Refuse a folder that holds another model; unlike a comparison, a model cannot grow."""
    found = read_json(out / CONFIG, take_unsealed=True)
    if found is None:
        return
    before, now = without_memory_settings(found), without_memory_settings(config)
    if changed := [name for name in _OF_MODEL if before.get(name) != now.get(name)]:
        raise ValueError(
            f"{out} holds a model trained with other settings ({', '.join(changed)}). Name "
            "another folder with --out, or remove this one."
        )


def _fitted(run: ComparisonRun, arm: Arm) -> TrainedModel:
    (items,) = run.items.values()
    (seed,) = run.config.seeds
    supervision = None
    if arm.objective.needs_teacher or arm.backbone_class.needs_teacher:
        train, mass = run.dataset.splits.train, run.config.mass
        supervision = Supervision(run.teacher(seed), items.ids, train, mass, run.masses)
    return TrainedModel.fit(
        spec_of(run.config, arm, seed),
        run.dataset,
        items,
        supervision,
        folder=run.out,
        title=f"{arm.label}, seed {seed}",
    )
