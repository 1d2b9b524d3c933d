"""Settings of the backbones that generate codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baselines.nn.config import MOST_ITEMS, MOST_LAYERS, MOST_WIDE, EncoderConfig
from semid.checks import require_int, require_real
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class CausalConfig:
    """Shape of the causal backbone.

    Attributes:
        input: ``item`` for one position per item, the sum of its code embeddings and an embedding
            of its whole path; ``code`` for one position per code.
        path_dropout: Probability of dropping an item's path embedding in training, so that the
            codes carry as much as they can. Unused with input ``code``, which has no path
            embeddings.
        max_history: Maximum number of history items.
        encoder: Shape of the transformer.
        filter_share: Share of a causal low-pass filter in a layer's update, as in BSARec
            (arXiv:2312.10325, where it is 0.1 to 0.9); the rest is attention's. 0 for no filter.
        filter_cutoff: The filter keeps the lowest ``filter_cutoff // 2 + 1`` frequencies.
        item_head: Weight of the cross-entropy over whole items, per target, beside the loss of its
            codes. The state that predicts the first code then also scores every item by its dot
            product with the item's input vector; ``evaluation.item_weight`` mixes these scores
            into the search. 0 for no head; requires input ``item``.

    Raises:
        ValueError: If a value is out of its range, a filter's cutoff exceeds ``max_history``, or
            there is an item head without one position per item.
    """

    input: Literal["item", "code"] = "item"
    path_dropout: float = 0.5
    max_history: int = 50
    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(dim=128, num_heads=4, ff_dim=512)
    )
    filter_share: float = field(default=0.0, metadata={"before": 0.0})
    filter_cutoff: int = field(default=5, metadata={"before": 5})
    item_head: float = field(default=0.0, metadata={"before": 0.0})

    def __post_init__(self) -> None:
        require_types(self)
        require_real("path_dropout", self.path_dropout, low=0, below=1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)
        require_real("filter_share", self.filter_share, low=0, below=1)
        most = self.max_history if self.filter_share else MOST_ITEMS
        require_int("filter_cutoff", self.filter_cutoff, 1, most)
        require_real("item_head", self.item_head, low=0)
        if self.item_head and self.input != "item":
            raise ValueError(
                f"item_head needs one position per item, got input {self.input!r}. Take input "
                "item, or leave the head out."
            )


@dataclass(frozen=True, kw_only=True)
class TigerConfig:
    """Shape of TIGER (arXiv:2305.05065, section 4.1) and the contents of its input.

    Attributes:
        num_layers: Number of layers in the encoder and in the decoder.
        dim: Width of the model.
        num_heads: Attention heads.
        head_dim: Width of each head.
        ff_dim: Width of the feed-forward layers.
        dropout: Dropout rate.
        max_history: Maximum number of history items.
        user_tokens: Number of user tokens; a user is hashed to ``user mod user_tokens``. 0 for
            none, which reproductions found best; the paper uses 2000.
        separator: Whether a separator token follows each item.
        attention: What a position of the encoder attends to: ``bidirectional`` is all of the
            history, as in the paper; ``causal`` is its past only, so that all targets of a window
            are learned in one pass.

    Raises:
        ValueError: If a value is out of its range.
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
    attention: Literal["bidirectional", "causal"] = field(
        default="bidirectional", metadata={"before": "bidirectional"}
    )

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("dim", "num_heads", "head_dim", "ff_dim"):
            require_int(name, getattr(self, name), 1, MOST_WIDE)
        require_int("num_layers", self.num_layers, 1, MOST_LAYERS)
        require_real("dropout", self.dropout, low=0, below=1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)
        require_int("user_tokens", self.user_tokens, 0, MOST_ITEMS)
