"""Train a generator with an objective, or read it if it is there already."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from baselines.backbones.backbone import Backbone
from baselines.data.batches import TrainBatch
from baselines.data.splits import Splits
from baselines.evaluation import EvaluationConfig, rank_by_beam
from baselines.training import TrainingConfig, TrainingState, train
from semid.provenance import Provenance
from tca.objective import Objective, ObjectiveConfig, ObjectiveOutput, candidates


def fit_backbone(
    backbone: Backbone,
    objective: ObjectiveConfig,
    mass: Tensor | None,
    splits: Splits,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    *,
    seed: int,
    folder: Path,
    lineage: Provenance,
    title: str,
) -> TrainingState:
    """Train ``backbone`` in place; the epoch with the best validation N@10 is kept.

    Args:
        backbone: The generator.
        objective: Its loss.
        mass: The teacher's token distributions, float ``(target, pos, child)``, rows in the order
            of the training target ids; ``None`` where the objective needs no teacher.
        splits: Only the training sequences are learned from; a fixed subset of the validation
            targets chooses the epoch, seen items removed.
        training: How to train.
        evaluation: How validation decodes.
        seed: Of data order and dropout.
        folder: Where the model ends up.
        lineage: What it is made from.
        title: Name shown beside the progress bar.
    """
    loss_of = Objective(objective)
    windows = backbone.windows(splits.train)

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        at = loss_of.positions(backbone.trie, batch.target_items)
        choices = candidates(backbone.trie, batch.target_items, at)
        teacher = None
        if mass is not None and loss_of.needs_teacher:
            row = batch.target_id[at.target].to(mass.device)
            teacher = mass[row, at.pos.to(mass.device)].to(at.pos.device)
        output: ObjectiveOutput = loss_of(backbone(batch, at), choices, teacher)
        return output

    chosen = evaluation.chosen_for_validation(splits.valid)

    def validate() -> float:
        ranks = rank_by_beam(
            backbone,
            splits.valid,
            beam=evaluation.validation_beam,
            renormalize=evaluation.renormalize,
            batch_size=evaluation.batch_size,
            subset=chosen,
            title="validation",
        )
        return float(ranks.metrics("removed", evaluation.ties)["N@10"].mean())

    return train(
        backbone,
        config=training,
        seed=seed,
        windows=windows,
        loss=loss,
        validate=validate,
        folder=folder,
        lineage=lineage,
        title=title,
    )
