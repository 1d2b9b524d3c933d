"""Settings for training a small language model."""

from __future__ import annotations

from dataclasses import dataclass, field

from baselines.nn.config import MOST_ITEMS, MOST_LAYERS, MOST_WIDE
from baselines.training.config import MOST_DECAY, MOST_LR
from semid.checks import require_int, require_real
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class NextTokenConfig:
    """How a causal language model is trained to predict the next token.

    Attributes:
        epochs: Passes over the texts; the one that predicts held-out titles best is kept.
        batch_blocks: Batch size in blocks of ``context`` tokens, over all processes.
        lr: Peak learning rate of AdamW, with linear warm-up and cosine decay.
        weight_decay: AdamW's weight decay, on matrices only.
        warmup: Warm-up steps, as a share of all steps.
        clip: Maximum gradient norm.

    Raises:
        ValueError: If a value is out of its range, or not finite.
    """

    epochs: int = 8
    batch_blocks: int = 4
    lr: float = 3e-3
    weight_decay: float = 0.1
    warmup: float = 0.05
    clip: float = 1.0

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("epochs", "batch_blocks"):
            require_int(name, getattr(self, name), 1)
        require_real("lr", self.lr, above=0, high=MOST_LR)
        require_real("weight_decay", self.weight_decay, low=0, high=MOST_DECAY)
        require_real("warmup", self.warmup, low=0, high=1)
        require_real("clip", self.clip, above=0)


@dataclass(frozen=True, kw_only=True)
class TextsConfig:
    """The texts that a small language model is trained on.

    Attributes:
        title: Template of an item's title, with column names in braces.
        further: Templates of further texts such as ``{description}``, each one text per item.
        lists: Share of the texts that are lists of titles in the order of a training sequence,
            in ``[0, 1)``; fewer if there are not enough sequences.
        list_titles: Maximum number of titles per list, the last of its sequence.
        held_out: Share of the titles, in ``(0, 1)``, hidden from tokenizer and model, alone and in
            lists. They select the epoch and measure it.

    Raises:
        ValueError: If a value is out of its range.
    """

    title: str = "{title}"
    further: tuple[str, ...] = ()
    lists: float = 0.1
    list_titles: int = 10
    held_out: float = 0.02

    def __post_init__(self) -> None:
        require_types(self)
        require_real("lists", self.lists, low=0, below=1)
        require_int("list_titles", self.list_titles, 2)
        require_real("held_out", self.held_out, above=0, below=1)


_SMALLEST_VOCABULARY = 256 + 3  # all bytes and the special tokens


@dataclass(frozen=True, kw_only=True)
class SmallModelConfig:
    """Shape of a small Llama and of its vocabulary.

    Attributes:
        vocab_size: Maximum size of the byte-pair vocabulary: all bytes, three special tokens and
            the most useful merges.
        dim: Width of the model.
        num_layers: Number of layers.
        num_heads: Attention heads; ``dim / num_heads`` must be even.
        ff_dim: Width of the feed-forward layers.
        context: Longest text, in tokens.

    Raises:
        ValueError: If the vocabulary cannot hold all bytes, or the heads do not fit the width.
    """

    vocab_size: int = 4096
    dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    ff_dim: int = 384
    context: int = 512

    def __post_init__(self) -> None:
        require_types(self)
        require_int("vocab_size", self.vocab_size, _SMALLEST_VOCABULARY, MOST_ITEMS)
        require_int("num_layers", self.num_layers, 1, MOST_LAYERS)
        for name in ("dim", "num_heads", "ff_dim"):
            require_int(name, getattr(self, name), 1, MOST_WIDE)
        require_int("context", self.context, 8, MOST_ITEMS)
        if self.dim % (2 * self.num_heads):
            raise ValueError(
                f"dim must be a multiple of twice num_heads ({self.num_heads}), got {self.dim}"
            )


@dataclass(frozen=True, kw_only=True)
class SmallLMConfig:
    """A small language model: its texts, its shape, and its training."""

    texts: TextsConfig = field(default_factory=TextsConfig)
    model: SmallModelConfig = field(default_factory=SmallModelConfig)
    training: NextTokenConfig = field(default_factory=NextTokenConfig)

    def __post_init__(self) -> None:
        require_types(self)
