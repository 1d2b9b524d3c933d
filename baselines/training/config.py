"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
        precision: bf16 runs matrix products in bfloat16; losses and weights stay float32.
        clip: Largest gradient norm.

    Raises:
        ValueError: If a count is below 1, or the learning rate is not above 0.
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
    precision: Literal["fp32", "bf16"] = "fp32"
    clip: float = 5.0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "eval_every", "batch_events", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
