"""The contract of objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from semid.checks import ContractError
from semid.registry import load_function
from tca.config import OBJECTIVES
from tca.losses import LossFunction

_ALPHA = 0.3
_TOLERANCE = 1e-5


def check_objective(objective: LossFunction | str) -> None:
    """Run a loss through every clause of its contract, `tca.losses.LossFunction`.

    ===============  ============================================================================
    clause           what holds
    ===============  ============================================================================
    ``scalar``       it returns a scalar tensor
    ``finite``       loss and gradient are finite, even if slots are padding (``log_p`` -inf)
    ``gradient``     the loss depends on the model's probabilities
    ``alpha``        at ``alpha = 0`` the teacher has no effect; alpha may be given per position
    ``children``     neither the order of the children nor their padding matters
    ``supervised``   other positions add nothing; with none supervised, the loss is 0
    ``mean``         the loss is a mean: repeating all positions does not change it
    ``positions``    ``(target, pos)`` and ``(position,)`` give the same loss
    ``precision``    float32 and float64 agree
    ===============  ============================================================================

    Args:
        objective: The function, its ``package.module:function``, or the name of a built-in one.

    Raises:
        ContractError: At the first broken clause: its name, what was expected, what was found.
        ValueError: If a name cannot be imported.
    """
    if isinstance(objective, str):
        objective = load_function(objective, OBJECTIVES, what="objective")
    check = _LossCheck(objective, getattr(objective, "__name__", type(objective).__name__))
    case = _LossCase.random()
    value = check.value(case, _ALPHA)
    check.gradient(case)
    other = replace(case, p=case.valid / case.valid.sum(dim=-1, keepdim=True))
    check.same("alpha", "alpha 0 with another teacher", case, other, alpha=0.0)
    check.equal("alpha", "one alpha a position", value, check.value(case, case.alphas(_ALPHA)))
    for doing, changed in (("in another order", case.reordered()), ("padded", case.padded())):
        check.same("children", f"children {doing}", case, changed)
    check.same("supervised", "other positions that are not supervised", case, case.elsewhere())
    nothing = replace(case, supervised=torch.zeros_like(case.supervised))
    check.equal("supervised", "no supervised position", 0.0, check.value(nothing, _ALPHA))
    check.same("mean", "all positions twice", case, case.mapped(lambda x: torch.cat([x, x])))
    check.same(
        "positions", "the positions in one axis", case, case.mapped(lambda x: x.flatten(0, 1))
    )
    double = replace(case, logits=case.logits.double(), p=case.p.double())
    check.same("precision", "float64", case, double)


@dataclass(frozen=True)
class _LossCase:
    """Logits ``(target, pos, child)`` and their other inputs; a position has 2 to 5 tokens."""

    logits: Tensor
    valid: Tensor
    slot: Tensor
    p: Tensor
    supervised: Tensor

    @classmethod
    def random(cls) -> _LossCase:
        gen = torch.Generator().manual_seed(0)
        num_children = torch.randint(2, 6, (6, 3, 1), generator=gen)
        valid = torch.arange(5) < num_children
        p = torch.rand(6, 3, 5, generator=gen) * valid
        return cls(
            logits=2 * torch.randn(6, 3, 5, generator=gen),
            valid=valid,
            slot=(torch.rand(6, 3, generator=gen) * num_children.squeeze(-1)).long(),
            p=p / p.sum(dim=-1, keepdim=True),
            supervised=torch.tensor([[True, True, True], [True, True, False]] * 3),
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> _LossCase:
        return _LossCase(*map(change, vars(self).values()))

    def alphas(self, alpha: float) -> Tensor:
        return torch.full(self.supervised.shape, alpha)

    def reordered(self) -> _LossCase:
        order = torch.tensor([3, 0, 4, 2, 1])
        slot = order.argsort()[self.slot]
        logits, valid, p = (each[..., order] for each in (self.logits, self.valid, self.p))
        return replace(self, logits=logits, valid=valid, p=p, slot=slot)

    def padded(self) -> _LossCase:
        wider = {"logits": self.logits, "valid": self.valid, "p": self.p}
        return replace(
            self, **{k: torch.nn.functional.pad(each, (0, 2)) for k, each in wider.items()}
        )

    def elsewhere(self) -> _LossCase:
        """The same case with other logits and targets at unsupervised positions."""
        out = ~self.supervised
        logits = self.logits + 7 * (out[..., None] & (torch.arange(5) == 0))
        return replace(self, logits=logits, slot=self.slot.masked_fill(out, 0))


@dataclass(frozen=True)
class _LossCheck:
    loss: LossFunction
    name: str

    def run(self, case: _LossCase, alpha: float | Tensor) -> Tensor:
        log_p = case.logits.masked_fill(~case.valid, -torch.inf).log_softmax(dim=-1)
        found = self.loss(log_p, case.slot, case.p, alpha, case.supervised)
        if not isinstance(found, Tensor) or found.shape != ():
            came = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
            self._broken("scalar", f"expected a scalar tensor, got {came}. Return the mean.")
        if not found.isfinite():
            self._broken(
                "finite",
                f"expected a finite loss, got {float(found.detach())}. log_p is -inf in padding, "
                "where p is 0: take neither a product nor a mean over it.",
            )
        return found

    def value(self, case: _LossCase, alpha: float | Tensor) -> float:
        return float(self.run(case, alpha))

    def gradient(self, case: _LossCase) -> None:
        case = replace(case, logits=case.logits.clone().requires_grad_())
        loss = self.run(case, _ALPHA)
        gradient = None
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            gradient = case.logits.grad
        if gradient is None or not gradient.any():
            self._broken("gradient", "expected a gradient in log_p, got none. Do not detach it.")
        if not gradient.isfinite().all():
            self._broken(
                "finite",
                "expected a finite gradient, got one that is not. A torch.where keeps a value that "
                "is not finite out of the loss, but not out of its gradient: replace it before.",
            )

    def same(
        self, clause: str, doing: str, one: _LossCase, other: _LossCase, alpha: float = _ALPHA
    ) -> None:
        self.equal(clause, doing, self.value(one, alpha), self.value(other, alpha))

    def equal(self, clause: str, doing: str, expected: float, came: float) -> None:
        if abs(came - expected) > _TOLERANCE * max(1.0, abs(expected)):
            self._broken(clause, f"expected {expected:.6g} with {doing}, got {came:.6g}.")

    def _broken(self, clause: str, says: str) -> NoReturn:
        raise ContractError(self.name, clause, says, contract="objectives")
