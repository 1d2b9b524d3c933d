"""The successive training stages of a backbone, and their folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.contracts.backbone import Stage
from baselines.training.checkpoint import TrainingState, is_trained, read_trained
from semid.provenance import Provenance, require_same

if TYPE_CHECKING:
    from baselines.contracts.backbone import Backbone


def stage_folders(stages: Sequence[Stage], folder: Path) -> list[Path]:
    """Folder of each stage: below ``folder`` by name, and ``folder`` itself for the last."""
    return [*(folder / stage.name for stage in stages[:-1]), folder]


def stage_lineages(
    stages: Sequence[Stage], folder: Path, lineage: Provenance
) -> Iterable[Provenance]:
    """Provenance of each stage's model, including the stages before it.

    Advance the iterator only once the preceding stages are trained.
    """
    inputs = dict(lineage.inputs)
    for stage, kept in zip(stages[:-1], stage_folders(stages, folder), strict=False):
        config = {**lineage.config, "stage": stage.name}
        yield dataclasses.replace(lineage, inputs=dict(inputs), config=config)
        inputs[_input(stage)] = Provenance.read(kept).content
    yield dataclasses.replace(lineage, inputs=inputs)


def is_fitted(backbone: Backbone, folder: Path) -> bool:
    """Whether every stage of ``backbone`` has been trained in ``folder``."""
    return all(map(is_trained, stage_folders(backbone.stages, folder)))


def read_fitted(backbone: Backbone, folder: Path) -> TrainingState:
    """Load the weights of a finished training, of all its stages, into ``backbone``.

    Args:
        backbone: Changed in place; in eval mode afterwards.
        folder: The folder given to ``fit_backbone``.

    Raises:
        ProvenanceError: If the weights are not those that were trained, or a stage is not the one
            that the last stage was trained on.
    """
    stages, found = backbone.stages, Provenance.read(folder).inputs
    folders = stage_folders(stages, folder)
    for stage, kept in zip(stages[:-1], folders, strict=False):
        require_same(
            f"the stage {stage.name} of the model in {folder}",
            found.get(_input(stage), "none"),
            Provenance.read(kept).content,
            what_to_do="It was trained again or replaced: remove the folder to train all stages.",
        )
    states = [read_trained(kept, backbone) for kept in folders]
    backbone.begin_stage(None)
    return one_after_another(states)


def one_after_another(states: Sequence[TrainingState]) -> TrainingState:
    """Combine training states: epochs and seconds are summed, the best value is the last one's."""
    last, before = states[-1], sum(state.epoch for state in states[:-1])
    return TrainingState(
        epoch=before + last.epoch,
        best=last.best,
        best_epoch=before + last.best_epoch,
        seconds=sum(state.seconds for state in states),
        validation_seconds=sum(state.validation_seconds for state in states),
        history=[entry for state in states for entry in state.history],
        stopped_by_time=any(state.stopped_by_time for state in states),
    )


def _input(stage: Stage) -> str:
    return f"stage_{stage.name}"
