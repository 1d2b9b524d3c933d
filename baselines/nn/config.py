"""Shapes of layers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of a transformer.

    Raises:
        ValueError: If ``dim`` is not a multiple of ``num_heads``.
    """

    dim: int = 64
    num_layers: int = 2
    num_heads: int = 1
    ff_dim: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.dim < 1 or self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads, got dim {self.dim} and "
                f"{self.num_heads} heads"
            )
