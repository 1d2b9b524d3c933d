"""Arms of a comparison: which backbone is trained with which objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from baselines.backbones.backbone import Backbone
from baselines.backbones.causal import CausalBackbone, CausalConfig
from baselines.backbones.tiger import TigerBackbone, TigerConfig
from tca.objective import ObjectiveConfig


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
    """

    backbone: str
    objective: ObjectiveConfig

    @classmethod
    def parse(cls, text: str, *, masked: bool, tau: float) -> Arm:
        """Read ``backbone:objective`` or ``backbone:objective:alpha``, such as ``tiger:ntp``.

        Args:
            text: The arm.
            masked: Whether softmaxes run over the tokens that may follow; the same for all arms.
            tau: Temperature of the model's softmax.

        Raises:
            ValueError: If a name is unknown, or alpha is missing, superfluous or not in [0, 1].
        """
        parts = text.split(":")
        if len(parts) not in (2, 3) or parts[0] not in _CLASSES:
            raise ValueError(
                f"expected an arm backbone:objective[:alpha] with a backbone out of "
                f"{', '.join(_CLASSES)}, got {text!r}; for example tiger:soft_ce:0.5"
            )
        backbone, name, *rest = parts
        try:
            alpha = float(rest[0]) if rest else 0.0
        except ValueError as error:
            raise ValueError(f"expected a number for alpha in arm {text!r}") from error
        values: Any = {"name": name, "alpha": alpha, "tau": tau}
        objective = ObjectiveConfig(**values, masked=masked or name == "msl")
        if rest and not objective.is_soft:
            raise ValueError(f"{name} has no teacher, so arm {text!r} takes no alpha")
        if objective.is_soft and not rest:
            raise ValueError(f"arm {text!r} needs an alpha, for example {text}:0.5")
        return cls(backbone=backbone, objective=objective)

    @property
    def label(self) -> str:
        """What reports call the arm."""
        name = _CLASSES[self.backbone].label
        if self.objective.is_soft:
            return f"{name}+TCA {self.objective.name} alpha={self.objective.alpha:g}"
        return f"{name} {self.objective.name}"

    @property
    def folder(self) -> str:
        """A name for the arm's files."""
        alpha = f"-{self.objective.alpha:g}" if self.objective.is_soft else ""
        return f"{self.backbone}-{self.objective.name}{alpha}"

    def build(
        self, configs: BackboneConfigs, codes: Tensor, sizes: tuple[int, ...], seed: int
    ) -> Backbone:
        """A fresh backbone over the codes ``(item, level)`` of a catalogue."""
        backbone: Callable[..., Backbone] = _CLASSES[self.backbone]
        return backbone(getattr(configs, self.backbone), codes, sizes, seed)
