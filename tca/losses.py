"""The losses that objectives train with; a custom loss has the same signature.

`tca.config.OBJECTIVES` names them. The arithmetic is that of `tca.functional`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from semid.registry import load_function
from tca.config import OBJECTIVES, ObjectiveConfig
from tca.functional import ntp_loss, soft_ce_loss, soft_labels, soft_ntp_loss


class LossFunction(Protocol):
    """A loss over a set of positions; `baselines.testing.check_objective` checks an implementation.

    At ``alpha = 0`` the loss must not depend on ``p``.
    """

    def __call__(
        self,
        log_p: Tensor,
        slot: Tensor,
        p: Tensor,
        alpha: float | Tensor,
        supervised: Tensor,
        /,
    ) -> Tensor:
        """Mean loss over the supervised positions.

        The axes ``(target, pos)`` may be flattened to ``(position,)``.

        Args:
            log_p: float32 ``(target, pos, child)``, the model's log-probability of each token that
                may follow; ``-inf`` in padding slots.
            slot: int64 ``(target, pos)``, the slot of the target's next token.
            p: float32 ``(target, pos, child)``, the teacher's probability of each; 0 in padding.
            alpha: Weight of the teacher, in [0, 1]; or one per position, float32 ``(target, pos)``.
            supervised: bool ``(target, pos)``; other positions add nothing to the loss.

        Returns:
            Scalar float32, finite; 0 if no position is supervised.
        """


def next_token(
    log_p: Tensor, slot: Tensor, p: Tensor, alpha: float | Tensor, supervised: Tensor
) -> Tensor:
    """`tca.functional.ntp_loss`; ignores the teacher."""
    return ntp_loss(log_p, slot, supervised)


def soft_ntp(
    log_p: Tensor, slot: Tensor, p: Tensor, alpha: float | Tensor, supervised: Tensor
) -> Tensor:
    """`tca.functional.soft_ntp_loss` of soft labels."""
    return soft_ntp_loss(log_p, soft_labels(slot, p, alpha), supervised)


def soft_ce(
    log_p: Tensor, slot: Tensor, p: Tensor, alpha: float | Tensor, supervised: Tensor
) -> Tensor:
    """`tca.functional.soft_ce_loss` of soft labels."""
    return soft_ce_loss(log_p, soft_labels(slot, p, alpha), supervised)


def load_loss(config: ObjectiveConfig) -> LossFunction:
    """The loss that a config names.

    At ``alpha = 0`` every built-in objective is `next_token`.

    Raises:
        ValueError: If it cannot be imported or is not a function.
    """
    if config.alpha == 0 and config.name in OBJECTIVES:
        return next_token
    return load_function(config.name, OBJECTIVES, what="objective")
