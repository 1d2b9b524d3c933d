"""SASRec as in TCA4Rec's released code (arXiv:2601.18457), to train or to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.data.batches import Histories, Windows
from baselines.data.sequences import SequenceSet
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec

_EPS = 1e-8  # epsilon of every layer norm


class ReleasedSASRec(SASRec):
    """The teacher of the released code, with its parameter names.

    A block attends with queries ``q = LN(x)`` to ``x`` and adds its residual to ``q``:
    ``y = q + MHA(q, x, x)``, ``z = LN(y)``, ``x = z + W2 relu(W1 z)``. Windows always have length
    ``max_history``. Padding is not masked in attention, but its rows are zeroed before and after
    each block: its keys and values are the biases of their projections, and a short history has
    many of them.

    It learns from the last position of each window only, with one window per target.

    Raises:
        ValueError: As ``SASRec``.
    """

    name: ClassVar[str] = "SASRec released"

    def make(self, config: SASRecConfig, num_items: int) -> None:
        """Create the weights, drawn from PyTorch's default generator."""
        shape = config.encoder
        dim, layers = shape.dim, range(shape.num_layers)
        self.item_emb = nn.Embedding(num_items + 1, dim)  # row 0 is padding
        self.pos_emb = nn.Embedding(config.max_history, dim)
        self.emb_dropout = nn.Dropout(shape.dropout)
        self.attention_layernorms = nn.ModuleList(nn.LayerNorm(dim, eps=_EPS) for _ in layers)
        self.attention_layers = nn.ModuleList(
            nn.MultiheadAttention(dim, shape.num_heads, shape.dropout, batch_first=True)
            for _ in layers
        )
        self.forward_layernorms = nn.ModuleList(nn.LayerNorm(dim, eps=_EPS) for _ in layers)
        self.forward_layers = nn.ModuleList(_FeedForward(shape) for _ in layers)
        self.last_layernorm = nn.LayerNorm(dim, eps=_EPS)
        for table in (self.item_emb, self.pos_emb):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def item_table(self) -> Tensor:
        """Item embeddings, without the padding row; float ``(item, dim)``."""
        return self.item_emb.weight[1:]

    def windows(self, data: SequenceSet) -> Windows:
        """One window per target, its last item."""
        return Windows.per_target(data, self.max_history)

    def states(self, histories: Histories) -> Tensor:
        """State after each position; float ``(batch, pos, dim)``."""
        width = histories.items.shape[1]
        missing = (self.max_history - width, 0)
        real = F.pad(histories.mask, missing)
        rows = F.pad(histories.items + 1, missing).masked_fill(~real, 0)
        x = self.item_emb(rows) * self.item_emb.embedding_dim**0.5 + self.pos_emb.weight
        x = self.emb_dropout(x) * real.unsqueeze(-1)
        later = torch.ones(2 * (self.max_history,), dtype=torch.bool, device=x.device).triu(1)
        for norm, attention, between, feed_forward in zip(
            self.attention_layernorms,
            self.attention_layers,
            self.forward_layernorms,
            self.forward_layers,
            strict=True,
        ):
            query = norm(x)
            mixed, _ = attention(query, x, x, attn_mask=later)
            x = feed_forward(between(query + mixed)) * real.unsqueeze(-1)
        states: Tensor = self.last_layernorm(x)
        return states[:, -width:]

    def load_released(self, weights: Mapping[str, Tensor]) -> Self:
        """Load weights trained by the released code.

        Their training data is not recorded: make sure that they were trained on this split's
        training part alone. The weights shipped with the released code were trained on all of its
        train file, of which its language model uses 10,000 rows.

        Args:
            weights: Its state dict: ``item_emb.weight`` ``(item + 1, dim)``, row 0 for padding and
                row ``i + 1`` for catalogue row ``i``; ``pos_emb.weight`` ``(max_history, dim)``;
                for each block ``i`` ``attention_layernorms.i``, ``attention_layers.i``,
                ``forward_layernorms.i`` and ``forward_layers.i.conv1`` and ``.conv2``, with
                matrices ``(dim, dim, 1)``; ``last_layernorm``.

        Returns:
            This model, in eval mode.

        Raises:
            ValueError: If a name is missing or unknown, or a shape differs; the model is then
                unchanged.
        """
        expected = self.state_dict()
        whose = "weights of the released SASRec"
        if missing := [name for name in expected if name not in weights]:
            raise ValueError(
                f"expected {whose} with {len(expected)} tensors, got some without {missing[0]!r}"
                f"{_and_others(missing)}. Does it have {self.config.encoder.num_layers} blocks?"
            )
        if unknown := [name for name in weights if name not in expected]:
            raise ValueError(
                f"expected {whose} of {self.config.encoder.num_layers} blocks, got {unknown[0]!r} "
                f"too{_and_others(unknown)}. Set encoder.num_layers to their number of blocks."
            )
        for name, value in expected.items():
            if weights[name].shape != value.shape:
                raise ValueError(
                    f"expected {name} of {whose} to be {tuple(value.shape)} for {self.num_items} "
                    f"items, a max_history of {self.max_history} and a width of "
                    f"{self.config.encoder.dim}, got {tuple(weights[name].shape)}. "
                    "Is it for this catalogue and these settings?"
                )
        self.load_state_dict(dict(weights))
        return self.eval()


class _FeedForward(nn.Module):
    """``z + W2 relu(W1 z)``, with the matrices stored as convolutions of width 1."""

    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(shape.dim, shape.dim, kernel_size=1)
        self.dropout1 = nn.Dropout(shape.dropout)
        self.conv2 = nn.Conv1d(shape.dim, shape.dim, kernel_size=1)
        self.dropout2 = nn.Dropout(shape.dropout)

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.dropout1(F.linear(z, self.conv1.weight.squeeze(-1), self.conv1.bias))
        out = F.linear(hidden.relu(), self.conv2.weight.squeeze(-1), self.conv2.bias)
        added: Tensor = z + self.dropout2(out)
        return added


def _and_others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
