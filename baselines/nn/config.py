"""Settings of layers."""

from __future__ import annotations

from dataclasses import dataclass

from semid.checks import require_int, require_real
from semid.field_types import require_types

MOST_WIDE, MOST_LAYERS, MOST_ITEMS = 2**16, 2**10, 2**20
"""Upper bounds of widths, layers and history lengths, to catch typing errors."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of a transformer.

    Raises:
        ValueError: If a value is out of its range, or ``dim`` is not a multiple of ``num_heads``.
    """

    dim: int = 64
    num_layers: int = 2
    num_heads: int = 1
    ff_dim: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("dim", "num_heads", "ff_dim"):
            require_int(name, getattr(self, name), 1, MOST_WIDE)
        require_int("num_layers", self.num_layers, 1, MOST_LAYERS)
        require_real("dropout", self.dropout, low=0, below=1)
        if self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads, got dim {self.dim} and "
                f"{self.num_heads} heads"
            )
