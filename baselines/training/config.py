"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from semid.checks import require_int, require_real
from semid.field_types import require_types

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

TrackerName = Literal["tensorboard", "trackio", "wandb", "mlflow"]
"""Where losses and validation values of trainings may be logged."""

LARGEST_SEED = 2**63 - 1

MOST_LR, MOST_DECAY = 100, 100
"""Upper bounds of learning rate and weight decay, beyond which no training converges."""

MOST_AVERAGED = 2**10
"""Upper bound of the epochs averaged over, to catch typing errors."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of a training run.

    Attributes:
        epochs: Maximum number of epochs.
        patience: Validations without improvement before training stops.
        eval_every: Epochs between validations.
        batch_events: Batch size in events (items, padding included).
        accumulate: Micro-batches per step (gradient accumulation), to save memory; equal to the
            full batch up to dropout and sampled negatives.
        lr: Peak learning rate of AdamW.
        betas: AdamW's averaging coefficients.
        weight_decay: AdamW's weight decay, on matrices only.
        warmup: Warm-up steps, as a share of all steps.
        schedule: Learning rate after the warm-up: constant, or cosine decay to zero.
        precision: ``bf16`` runs matrix products in bfloat16, with losses and weights in float32;
            ``fp32`` runs all in float32; ``auto`` is bf16 if the device supports it and is faster
            with it. The choice is made when a folder is started, and kept when it is resumed.
        clip: Maximum gradient norm.
        average_last: Number of epochs over whose ends the weights are averaged for validation and
            for the saved model; 1 for the weights as they are. Training goes on from the weights
            without averaging. Needs memory for that many copies of the trained weights.
        drop_items: Probability of dropping each item of a training window, anew in every epoch; an
            item dropped is no target either. The last target and the item before it always stay.
        crop_history: Probability of cropping a training window to a suffix of uniform length.
        max_minutes: Minutes of training and validation after which training stops at the end of an
            epoch, validated first; summed over resumes. None for no limit. The number of epochs
            then depends on the machine, so that a run cannot be repeated exactly.

    Raises:
        ValueError: If a value is out of its range, or not finite.
    """

    epochs: int = 20
    patience: int = 3
    eval_every: int = 1
    batch_events: int = 640
    accumulate: int = 1
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup: float = 0.02
    schedule: Literal["constant", "cosine"] = "constant"
    precision: Precision | Literal["auto"] = field(default="auto", metadata={"settled": True})
    clip: float = 5.0
    average_last: int = field(default=1, metadata={"before": 1})
    drop_items: float = field(default=0.0, metadata={"before": 0.0})
    crop_history: float = field(default=0.0, metadata={"before": 0.0})
    max_minutes: float | None = field(default=None, metadata={"before": None})

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("epochs", "patience", "eval_every", "batch_events", "accumulate"):
            require_int(name, getattr(self, name), 1)
        require_real("lr", self.lr, above=0, high=MOST_LR)
        for beta in self.betas:
            require_real("betas", beta, low=0, below=1)
        require_real("weight_decay", self.weight_decay, low=0, high=MOST_DECAY)
        require_real("warmup", self.warmup, low=0, high=1)
        require_real("clip", self.clip, above=0)
        require_int("average_last", self.average_last, 1, MOST_AVERAGED)
        require_real("drop_items", self.drop_items, low=0, below=1)
        require_real("crop_history", self.crop_history, low=0, high=1)
        if self.max_minutes is not None:
            require_real("max_minutes", self.max_minutes, above=0)
