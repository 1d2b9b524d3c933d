"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from semid.checks import require_int, require_real
from semid.field_types import require_types

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

LARGEST_SEED = 2**63 - 1

MOST_LR, MOST_DECAY = 100, 100
"""Bounds of learning rates and weight decays: no training comes through with more."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: Most epochs.
        patience: Validations without a better result before training stops.
        eval_every: Epochs between validations.
        batch_events: Events (items, padding included) of a batch.
        accumulate: Parts of a batch that are run one after another before each step, to save
            memory. The step is that of the whole batch, but for what is drawn at random.
        lr: Peak learning rate of AdamW.
        betas: AdamW's averaging coefficients.
        weight_decay: AdamW's weight decay, on matrices only.
        warmup: Share of all steps with a rising learning rate.
        schedule: After the warm-up: constant, or cosine to zero at the last epoch.
        precision: ``bf16`` runs matrix products in bfloat16, losses and weights stay float32;
            ``fp32`` does not; ``auto`` is bf16 where the processor or device has it and is faster
            with it. That is decided when a folder is begun, and kept wherever it goes on.
        clip: Largest gradient norm.

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
