"""Train one model without a comparison: IDs, the teacher if needed, and the model itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from baselines.data.dataset import Dataset
from baselines.experiments.arms import parse_arms
from baselines.experiments.config import CompareConfig
from baselines.experiments.folder import CONFIG, begun_with, describe
from baselines.experiments.opening import opened
from baselines.experiments.rows import ComparisonRun, mass_of, spec_of
from baselines.experiments.settings import report_settings
from baselines.models.trained import TrainedModel
from baselines.training.checkpoint import without_memory_settings
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
            f"{arm.at_schemes}, and say by --ids.scheme how they are made."
        )
    _require_same_model(begun_with(config))
    with opened(config, dataset) as run:
        model = _fitted(run)
        model = dataclasses.replace(
            model,
            content=run.content,
            about={
                "settings": report_settings(run.config, run.dataset, run.ids),
                "data": describe(run.dataset),
                "training": {"epochs": model.state.epoch, "best_epoch": model.state.best_epoch},
            },
        )
        if distributed_state().is_main_process:
            model.keep()
        distributed_state().wait_for_everyone()
    return model


def _require_same_model(config: CompareConfig) -> None:
    """Refuse a folder that holds another model; unlike a comparison, a model cannot grow."""
    out = Path(config.out)
    found = read_json(out / CONFIG, take_unsealed=True)
    if found is None:
        return
    before, now = without_memory_settings(found), without_memory_settings(config)
    if changed := [name for name in _OF_MODEL if before.get(name) != now.get(name)]:
        raise ValueError(
            f"{out} holds a model trained with other settings ({', '.join(changed)}). Name "
            "another folder with --out, or remove this one."
        )


def _fitted(run: ComparisonRun) -> TrainedModel:
    (arm,), (items,) = run.arms, run.items.values()
    (seed,) = run.config.seeds
    supervision = None
    if arm.objective.needs_teacher or arm.backbone_class.needs_teacher:
        supervision = run.supervision(run.teacher(seed), seed, items.ids, mass_of(run.config, arm))
    return TrainedModel.fit(
        spec_of(run.config, arm, seed),
        run.dataset,
        items,
        supervision,
        folder=run.out,
        title=f"{arm.label}, seed {seed}",
    )
