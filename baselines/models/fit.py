"""Train a generator with an objective, or load it if it is already trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone, PathLoss, Stage, TargetDistributions
from baselines.data.batches import ItemLabels, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import rank_by_beam, rank_by_scores, validation_subset
from baselines.evaluation.selection import Selection
from baselines.models.fusion import item_head_fusion
from baselines.models.on_policy import OnPolicyLoss
from baselines.models.stages import is_fitted, one_after_another, stage_folders, stage_lineages
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.distributed import one_run_at_a_time
from semid.provenance import Provenance
from semid.trie import CodeTrie
from tca.alignment import AlphaContext
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

_ITEM_WEIGHT = 0.5  # of an item head when the epoch is selected


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a backbone is trained.

    Attributes:
        objective: Its loss.
        training: Optimiser, batches and epochs; the same for all stages.
        evaluation: How validation decodes, and which metric selects the epoch.
        seed: Seed of data order and dropout.
    """

    objective: ObjectiveConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    seed: int


@dataclass(frozen=True, kw_only=True)
class MoreLabels:
    """A teacher's labels besides those of the codes; None where targets alone are learned.

    Attributes:
        items: Its distributions over whole items, for an item head and on-policy prefixes.
        second: Its token distributions for a second set of IDs.
    """

    items: Callable[[TrainBatch], ItemLabels] | None = None
    second: TargetDistributions | None = None


def fit_backbone(
    backbone: Backbone,
    settings: FitSettings,
    teacher: TargetDistributions | None,
    splits: Splits,
    *,
    folder: Path,
    lineage: Provenance,
    title: str,
    more_labels: MoreLabels | None = None,
) -> TrainingState:
    """Train ``backbone`` in place, keeping the epoch that ``evaluation.selected_by`` selects.

    Its stages are trained in order with the same settings; each can resume on its own.

    Args:
        backbone: The generator.
        settings: How to train and validate it.
        teacher: The teacher's token distributions; ``None`` if the objective needs no teacher or
            ``folder`` already holds the trained model.
        splits: The model learns from the training sequences only; a fixed subset of the
            validation targets selects the epoch, with seen items removed.
        folder: Receives the model; earlier stages are kept below it.
        lineage: Provenance of the model.
        title: Name shown beside the progress bar.
        more_labels: The teacher's labels of whole items, for an item head and for on-policy
            prefixes, and of a second set of IDs.

    Returns:
        The training state, combined over all stages.

    Raises:
        ValueError: If the objective needs a teacher or item labels and none are given, does not fit
            the backbone, or leaves nothing to learn.
    """
    objective = Objective(settings.objective, end_token=backbone.end_token)
    is_taught = teacher is not None or is_fitted(backbone, folder)
    _require_something_to_learn(backbone, objective, is_taught=is_taught, title=title)
    loss = _Loss(backbone, objective, teacher, more_labels or MoreLabels(), splits.train)
    validate = _Validation(backbone, settings.evaluation, splits.valid)
    windows = backbone.windows(splits.train)
    stages, states = backbone.stages, []
    folders, lineages = stage_folders(stages, folder), stage_lineages(stages, folder, lineage)
    for stage, kept, made_from in zip(stages, folders, lineages, strict=True):
        backbone.begin_stage(stage.name)
        task = _task(stage, windows, loss, validate)
        with one_run_at_a_time(kept):
            state = train(
                backbone,
                task,
                config=settings.training,
                seed=settings.seed,
                folder=kept,
                lineage=made_from,
                title=title if len(stages) == 1 else f"{title}, {stage.name}",
            )
        states.append(state)
    backbone.begin_stage(None)
    return one_after_another(states)


def _task(stage: Stage, windows: Windows, loss: _Loss, validate: _Validation) -> TrainingTask:
    return TrainingTask(
        windows=windows,
        loss=stage.loss or loss,
        validate=partial(validate, stage),
        objective=torch.nn.Module() if stage.loss else loss.objective,
    )


def _require_something_to_learn(
    backbone: Backbone, objective: Objective, *, is_taught: bool, title: str
) -> None:
    config = objective.config
    if config.needs_teacher and not is_taught:
        raise ValueError(
            f"{title} is trained with {config.name} at alpha {config.alpha}, which needs the "
            "teacher's token distributions, got none. Compute them with cached_mass, or take "
            "uniform labels."
        )
    if backbone.trie.depth <= objective.unsupervised:
        raise ValueError(
            f"{title} has nothing to learn: reference=end leaves the last {objective.unsupervised} "
            f"tokens of each path without a loss, and none has more. Leave it out."
        )


class _Loss:
    """The objective, evaluated at the targets of a batch."""

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        teacher: TargetDistributions | None,
        more: MoreLabels,
        train: SequenceSet,
    ) -> None:
        self.backbone, self.objective, config = backbone, objective, objective.config
        self.teacher = teacher if objective.needs_teacher else None
        self.more = more if objective.needs_teacher else MoreLabels()
        if config.on_policy and teacher is not None and more.items is None:
            raise ValueError(
                "on_policy needs the teacher's distributions over items, got none. Compute them "
                "with item_labels."
            )
        self.on_policy = OnPolicyLoss(backbone, config) if config.on_policy else None
        self.history_length, self.popularity = _counts(train)

    def __call__(self, batch: TrainBatch) -> ObjectiveOutput:
        backbone, objective = self.backbone, self.objective
        batch = backbone.prepare_batch(batch)
        if self.more.items is not None:
            labels = replace(self.more.items(batch), alpha=objective.config.alpha)
            batch = replace(batch, item_labels=labels)
        first = self._of_paths(backbone.trie, batch, self.teacher)
        if backbone.second_trie is None:
            output = backbone.loss(batch, first.at, first.of)
        else:
            second = self._of_paths(backbone.second_trie, batch, self.more.second)
            output = backbone.loss_of_both(batch, first, second)
        return output if self.on_policy is None else self.on_policy(batch, output)

    def _of_paths(
        self, trie: CodeTrie, batch: TrainBatch, teacher: TargetDistributions | None
    ) -> PathLoss:
        """The objective on one set of paths."""
        objective, items = self.objective, batch.target_items
        at = objective.positions(trie, items, pad_to=self.backbone.pad_positions_to)
        choices = candidates(trie, items, at)
        p = None if teacher is None else teacher(batch, at)
        number = batch.target_id[at.target].to(self.history_length.device)
        context = AlphaContext(
            progress=batch.progress,
            history_length=self.history_length[number].to(at.pos.device),
            popularity=self.popularity[number].to(at.pos.device),
        )
        return PathLoss(at, lambda logits: objective(logits, choices, p, context))


class _Validation:
    """The value that selects the epoch of a stage."""

    def __init__(
        self, backbone: Backbone, evaluation: EvaluationConfig, valid: SequenceSet
    ) -> None:
        self.backbone, self.evaluation, self.valid = backbone, evaluation, valid
        self.chosen = validation_subset(evaluation, valid)

    def __call__(self, stage: Stage) -> float:
        evaluation = self.evaluation
        how: dict[str, Any] = {"subset": self.chosen, "batch_size": evaluation.batch_size}
        if stage.scorer is not None:
            ranks = rank_by_scores(stage.scorer, self.valid, title="validation", **how)
        else:
            ranks = rank_by_beam(
                self.backbone,
                self.valid,
                beam=evaluation.validation_beam,
                renormalize=evaluation.renormalize,
                fuse=item_head_fusion(self.backbone, _ITEM_WEIGHT),
                title="validation",
                **how,
            )
        return Selection.of(evaluation.selected_by).value(ranks, evaluation.ties)


def _counts(train: SequenceSet) -> tuple[Tensor, Tensor]:
    """For each training target: the number of items before it, and its item's training events."""
    sequence, event = train.targets()
    popularity = np.bincount(train.items)[train.items[event]]
    return torch.from_numpy(event - train.offsets[sequence]), torch.from_numpy(popularity)
