"""Resolution of ``precision: auto``: decided when a folder is started, and kept from then on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baselines.runtime import precision
from baselines.training.config import Precision, TrainingConfig
from semid.distributed import broadcast_from_main, distributed_state


def settled(
    config: TrainingConfig, begun: Callable[[], Precision | None] = lambda: None
) -> TrainingConfig:
    """Replace precision ``auto`` by the one already in use, or else the faster one.

    A collective call: the main process decides, and every process must make it.

    Args:
        config: Returned unchanged if it names a precision.
        begun: Returns the precision chosen earlier, or None.
    """
    if config.precision != "auto":
        return config

    def is_bf16() -> bool:
        found = begun()
        return (
            found == "bf16" if found else precision.is_bfloat16_faster(distributed_state().device)
        )

    return replace(config, precision="bf16" if broadcast_from_main(is_bf16) else "fp32")
