"""Train a generator with an objective, or read it if it is there already."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone, Stage, TargetDistributions
from baselines.data.batches import TrainBatch
from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import rank_by_beam, rank_by_scores, validation_subset
from baselines.evaluation.selection import Selection
from baselines.models.stages import is_fitted, one_after_another, stage_folders, stage_lineages
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.distributed import one_run_at_a_time
from semid.provenance import Provenance
from tca.alignment import AlphaContext
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput


def fit_backbone(
    backbone: Backbone,
    objective: ObjectiveConfig,
    teacher: TargetDistributions | None,
    splits: Splits,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    *,
    seed: int,
    folder: Path,
    lineage: Provenance,
    title: str,
) -> TrainingState:
    """Train ``backbone`` in place, and keep the epoch that ``evaluation.selected_by`` selects.

    Its stages are trained one after another, each by the same settings, and each resumes by itself.

    Args:
        backbone: The generator.
        objective: Its loss.
        teacher: The teacher's token distributions; ``None`` where the objective needs no teacher,
            or ``folder`` holds the trained model.
        splits: Only the training sequences are learned from; a fixed subset of the validation
            targets chooses the epoch, seen items removed.
        training: How to train.
        evaluation: How validation decodes.
        seed: Of data order and dropout.
        folder: Where the model ends up; stages before the last are kept below it.
        lineage: What it is made from.
        title: Name shown beside the progress bar.

    Returns:
        The training, of all stages together.

    Raises:
        ValueError: If the objective needs a teacher and there is none, or leaves nothing to learn.
    """
    if objective.needs_teacher and teacher is None and not is_fitted(backbone, folder):
        raise ValueError(
            f"{title} is trained with {objective.name} at alpha {objective.alpha}, which needs the "
            "teacher's token distributions, got none. Compute them with cached_mass, or take "
            "uniform labels."
        )
    loss_of = Objective(objective, end_token=backbone.end_token)
    if backbone.trie.depth <= loss_of.unsupervised:
        raise ValueError(
            f"{title} has nothing to learn: reference=end leaves the last {loss_of.unsupervised} "
            f"tokens of each path without a loss, and none has more. Leave it out."
        )
    windows = backbone.windows(splits.train)
    history_length, popularity = _counts(splits.train)

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        batch = backbone.posed(batch)
        trie, items = backbone.trie, batch.target_items
        at = loss_of.positions(trie, items, together=backbone.together)
        choices = candidates(trie, items, at)
        p = None
        if teacher is not None and loss_of.needs_teacher:
            p = teacher(batch, at)
        number = batch.target_id[at.target].to(history_length.device)
        context = AlphaContext(
            progress=batch.progress,
            history_length=history_length[number].to(at.pos.device),
            popularity=popularity[number].to(at.pos.device),
        )
        return backbone.loss(batch, at, lambda logits: loss_of(logits, choices, p, context))

    chosen, selection = (
        validation_subset(evaluation, splits.valid),
        Selection.of(evaluation.selected_by),
    )

    def validate(stage: Stage) -> float:
        how: dict[str, Any] = {"subset": chosen, "batch_size": evaluation.batch_size}
        if stage.scorer is not None:
            ranks = rank_by_scores(stage.scorer, splits.valid, title="validation", **how)
        else:
            ranks = rank_by_beam(
                backbone,
                splits.valid,
                beam=evaluation.validation_beam,
                renormalize=evaluation.renormalize,
                title="validation",
                **how,
            )
        return selection.value(ranks, evaluation.ties)

    stages, states = backbone.stages, []
    folders, lineages = stage_folders(stages, folder), stage_lineages(stages, folder, lineage)
    for stage, kept, made_from in zip(stages, folders, lineages, strict=True):
        backbone.enter(stage.name)
        with one_run_at_a_time(kept):
            state = train(
                backbone,
                config=training,
                seed=seed,
                task=TrainingTask(
                    windows=windows,
                    loss=stage.loss or loss,
                    validate=partial(validate, stage),
                    objective=torch.nn.Module() if stage.loss else loss_of,
                ),
                folder=kept,
                lineage=made_from,
                title=title if len(stages) == 1 else f"{title}, {stage.name}",
            )
        states.append(state)
    backbone.enter(None)
    return one_after_another(states)


def _counts(train: SequenceSet) -> tuple[Tensor, Tensor]:
    """Of every training target: the items before it, and the training events of its item."""
    sequence, event = train.targets()
    popularity = np.bincount(train.items)[train.items[event]]
    return torch.from_numpy(event - train.offsets[sequence]), torch.from_numpy(popularity)
