"""Arms of a comparison: which backbone, on which semantic ids, is trained with which objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from baselines.backbones.backbone import Backbone
from baselines.backbones.causal import CausalBackbone, CausalConfig
from baselines.backbones.tiger import TigerBackbone, TigerConfig
from tca.objective import LETTER_TAU, ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class BackboneConfigs:
    """Shapes of the backbones, by the name that an arm calls them."""

    tiger: TigerConfig = field(default_factory=TigerConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)


_CLASSES: dict[str, type[TigerBackbone] | type[CausalBackbone]] = {
    "tiger": TigerBackbone,
    "causal": CausalBackbone,
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a comparison.

    Attributes:
        backbone: A key of ``BackboneConfigs``.
        objective: What it is trained with.
        scheme: Name of its ID scheme; None for the comparison's own.
        own_tau: Whether its temperature is its own and not that of all arms.
    """

    backbone: str
    objective: ObjectiveConfig
    scheme: str | None = None
    own_tau: bool = False

    @classmethod
    def parse(cls, text: str, *, masked: bool, tau: float) -> Arm:
        """Read ``backbone[@scheme]:objective[:alpha][:tau=TAU]``, such as ``tiger:soft_ce:0.5``.

        Args:
            text: The arm.
            masked: Whether softmaxes run over the tokens that may follow; the same for all arms.
            tau: Temperature of the model's softmax where the arm names none; ``letter`` then takes
                ``LETTER_TAU``.

        Raises:
            ValueError: If a name is unknown, a number is none or out of its range, or alpha is
                missing or superfluous.
        """
        head, *parts = text.split(":")
        backbone, at, scheme = head.partition("@")
        wanted = parts.pop() if parts and parts[-1].startswith("tau=") else None
        if len(parts) not in (1, 2) or backbone not in _CLASSES or (at and not scheme):
            raise ValueError(
                f"expected an arm backbone[@scheme]:objective[:alpha][:tau=TAU] with a backbone "
                f"out of {', '.join(_CLASSES)}, got {text!r}; for example tiger:soft_ce:0.5"
            )
        name, *rest = parts
        alpha = _number(rest[0], "alpha", text) if rest else 0.0
        if wanted is not None:
            own = _number(wanted.removeprefix("tau="), "tau", text)
        else:
            own = LETTER_TAU if name == "letter" else tau
        values: Any = {"name": name, "alpha": alpha, "tau": own}
        objective = ObjectiveConfig(**values, masked=masked or name == "msl")
        if rest and not objective.is_soft:
            raise ValueError(f"{name} has no teacher, so arm {text!r} takes no alpha")
        if objective.is_soft and not rest:
            raise ValueError(f"arm {text!r} needs an alpha, for example {head}:{name}:0.5")
        return cls(
            backbone=backbone,
            objective=objective,
            scheme=scheme or None,
            own_tau=own != tau or name == "letter",
        )

    @property
    def label(self) -> str:
        """What reports call the arm; LETTER's loss on the scheme ``letter`` takes its name."""
        objective, name = self.objective, _CLASSES[self.backbone].label
        tau = f" tau={objective.tau:g}" if self.own_tau else ""
        if self.scheme == objective.name == "letter":
            return f"LETTER-{name}{tau}"
        if self.scheme:
            name = f"{name}@{self.scheme}"
        if objective.is_soft:
            return f"{name}+TCA {objective.name} alpha={objective.alpha:g}{tau}"
        return f"{name} {objective.name}{tau}"

    @property
    def folder(self) -> str:
        """A name for the arm's files."""
        objective = self.objective
        scheme = f"@{self.scheme}" if self.scheme else ""
        alpha = f"-{objective.alpha:g}" if objective.is_soft else ""
        tau = f"-tau{objective.tau:g}" if self.own_tau else ""
        return f"{self.backbone}{scheme}-{objective.name}{alpha}{tau}"

    def build(
        self, configs: BackboneConfigs, codes: Tensor, sizes: tuple[int, ...], seed: int
    ) -> Backbone:
        """A fresh backbone over the codes ``(item, level)`` of a catalogue."""
        backbone: Callable[..., Backbone] = _CLASSES[self.backbone]
        return backbone(getattr(configs, self.backbone), codes, sizes, seed)


def _number(text: str, what: str, arm: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"expected a number for {what} in arm {arm!r}") from error
