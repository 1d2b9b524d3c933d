"""Shapes of the backbones that write codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baselines.nn.config import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class CausalConfig:
    """Shape of the causal backbone.

    Attributes:
        input: One position an item, the sum of its code embeddings and of one of its whole path;
            or one position a code.
        path_dropout: How often training leaves the embedding of an item's whole path out, so that
            the codes carry what they can. With positions for codes there is no such embedding.
        max_history: Most items looked back on.
        encoder: Shape of the transformer.
    """

    input: Literal["item", "code"] = "item"
    path_dropout: float = 0.5
    max_history: int = 50
    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(dim=128, num_heads=4, ff_dim=512)
    )


@dataclass(frozen=True, kw_only=True)
class TigerConfig:
    """Shape of TIGER (arXiv:2305.05065, section 4.1) and what stands in its input.

    Attributes:
        num_layers: Of the encoder and of the decoder.
        dim: Width of the model.
        num_heads: Attention heads.
        head_dim: Width of a head.
        ff_dim: Width of the feed-forward layers.
        dropout: Dropout rate.
        max_history: Most items looked back on.
        user_tokens: Number of user tokens; a user's is ``user mod user_tokens``. 0 for none, which
            reproductions found best; the paper has 2000.
        separator: Whether a separator token follows each item.
    """

    num_layers: int = 4
    dim: int = 128
    num_heads: int = 6
    head_dim: int = 64
    ff_dim: int = 1024
    dropout: float = 0.1
    max_history: int = 20
    user_tokens: int = 0
    separator: bool = False
