"""Train a teacher on the training interactions of a split, or read one that is there already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from baselines.data.batches import TrainBatch, Windows
from baselines.data.dataset import Dataset
from baselines.encoder import EncoderConfig
from baselines.evaluation import rank_by_scores
from baselines.teachers.sasrec import SASRec, SASRecConfig
from baselines.training import (
    TrainingConfig,
    TrainingState,
    is_trained,
    read_trained,
    train,
)
from semid.provenance import Provenance, hash_json, require_same
from tca.objective import ObjectiveOutput


def teacher_training() -> TrainingConfig:
    """How a SASRec is trained unless told otherwise."""
    return TrainingConfig(epochs=30, patience=4, batch_events=1024, precision="bf16")


def fit_sasrec(
    dataset: Dataset,
    config: SASRecConfig,
    training: TrainingConfig,
    *,
    seed: int,
    folder: Path,
) -> tuple[SASRec, TrainingState, Provenance]:
    """Train SASRec; the epoch with the best validation N@10, seen items removed, is kept.

    Args:
        dataset: Only its training sequences are learned from.
        config: Shape and loss.
        training: How to train.
        seed: Of weights, data order, dropout and negatives.
        folder: Parent of the model's own folder, whose name says what it was made from, so that
            several experiments can share one trained teacher.

    Returns:
        The model in eval mode, its training, and its provenance.
    """
    splits = dataset.splits
    lineage = Provenance(
        kind="teacher",
        content="",
        items=dataset.catalog.order_hash,
        seen=splits.train_hash,
        inputs={"valid": splits.valid.content_hash()},
        config={
            "model": "sasrec",
            "seed": seed,
            **dataclasses.asdict(config),
            "training": dataclasses.asdict(training),
        },
    )
    key = hash_json([lineage.items, lineage.seen, lineage.inputs, lineage.config])
    folder = folder / f"sasrec-{seed}-{key[:8]}"
    model = SASRec(config, len(dataset.catalog), seed)
    windows = Windows.per_sequence(splits.train, config.max_history)

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        count = torch.tensor(len(batch.target_id))
        return ObjectiveOutput(loss=model.loss(batch), parts={}, count=count)

    def validate() -> float:
        ranks = rank_by_scores(model, splits.valid, title="validation")
        return float(ranks.metrics("removed", "expected")["N@10"].mean())

    state = train(
        model,
        config=training,
        seed=seed,
        windows=windows,
        loss=loss,
        validate=validate,
        folder=folder,
        lineage=lineage,
        title=f"SASRec, seed {seed}",
    )
    return model, state, Provenance.read(folder)


def read_sasrec(dataset: Dataset, *, seed: int, folder: Path) -> tuple[SASRec, Provenance]:
    """Read a SASRec that ``fit_sasrec`` has trained on this data.

    Args:
        dataset: What it must have been trained on.
        seed: It was trained with.
        folder: The ``folder`` of ``fit_sasrec``, if it holds one teacher of this seed; else the
            teacher's own folder in it.

    Returns:
        The model in eval mode, and its provenance.

    Raises:
        FileNotFoundError: If there is no trained teacher of this seed.
        ValueError: If there are several.
        ProvenanceError: If it was trained on other items or interactions.
    """
    prefix = f"sasrec-{seed}-"
    below = sorted(path for path in folder.glob(f"{prefix}*") if is_trained(path))
    found = [folder] if folder.name.startswith(prefix) and is_trained(folder) else below
    if not found:
        raise FileNotFoundError(
            f"expected a trained teacher of seed {seed} in {folder}, got none. "
            f"Train it with semid teacher train --out {folder} --seeds '[{seed}]'."
        )
    if len(found) > 1:
        raise ValueError(
            f"expected one teacher of seed {seed} in {folder}, got "
            f"{', '.join(path.name for path in found)}. Name the folder of one of them."
        )
    lineage = Provenance.read(found[0])
    splits, what_to_do = dataset.splits, "Train the teacher on this data and this split."
    whose = f"of the teacher in {found[0]}"
    require_same(
        f"item order {whose}", dataset.catalog.order_hash, lineage.items, what_to_do=what_to_do
    )
    require_same(f"training part {whose}", splits.train_hash, lineage.seen, what_to_do=what_to_do)
    shape = {field.name: lineage.config[field.name] for field in dataclasses.fields(SASRecConfig)}
    shape["encoder"] = EncoderConfig(**shape["encoder"])
    model = SASRec(SASRecConfig(**shape), len(dataset.catalog), seed)
    read_trained(found[0], model)
    return model, lineage
