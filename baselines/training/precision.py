"""What ``precision: auto`` comes to: decided when something is begun, and kept from then on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baselines.runtime import precision
from baselines.training.config import Precision, TrainingConfig
from semid.distributed import broadcast_from_main, distributed_state


def settled(
    config: TrainingConfig, begun: Callable[[], Precision | None] = lambda: None
) -> TrainingConfig:
    """Settings with a precision in place of ``auto``: the one that was begun with, or the faster.

    Of several processes the main one decides; all have to call this.

    Args:
        config: Returned as it is where it names a precision.
        begun: The precision that an earlier decision was for; None where there was none.
    """
    if config.precision != "auto":
        return config

    def is_bf16() -> bool:
        found = begun()
        return (
            found == "bf16" if found else precision.is_bfloat16_faster(distributed_state().device)
        )

    return replace(config, precision="bf16" if broadcast_from_main(is_bf16) else "fp32")
