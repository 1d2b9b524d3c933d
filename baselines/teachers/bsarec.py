"""BSARec (arXiv:2312.10325): self-attention beside a low-pass filter of the sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.nn.config import EncoderConfig
from baselines.nn.dropout import Dropout
from baselines.nn.low_pass import causal_low_pass, fourier_low_pass, over_existing
from baselines.teachers.config import BSARecConfig
from baselines.teachers.losses import catalogue_cross_entropy
from baselines.teachers.model import TeacherModel

_EPS = 1e-12  # epsilon of every layer norm, as released
_ALL, _LAST = slice(None), slice(-1, None)


class BSARec(TeacherModel):
    """Layers that mix a filtered sequence with attention; scores are dot products with items.

    With the filter ``fft``, as released, every position reads the whole window, later items
    included. So there is one window for each target, which is learned from the last position only;
    windows are padded to ``max_history``, and padding holds its position embedding. With the filter
    ``causal``, a position reads its past only, and all targets of a window are learned at once.

    Positions are counted backwards from the most recent item, equivalent to left padding to a fixed
    length.
    """

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: BSARecConfig) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(config, len(dataset.catalog), seed)

    def __init__(self, config: BSARecConfig, num_items: int, seed: int) -> None:
        super().__init__()
        shape, length, bins = config.encoder, config.max_history, config.cutoff // 2 + 1
        self.is_causal = config.filter == "causal"
        self.label = "BSARec causal" if self.is_causal else "BSARec"
        self.max_history = length
        self.low_pass: Tensor
        weights = (
            causal_low_pass(length, bins) if self.is_causal else fourier_low_pass(length, bins)
        )
        self.register_buffer("low_pass", weights, persistent=False)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.item_embedding = nn.Embedding(num_items, shape.dim)
            self.position_embedding = nn.Embedding(length, shape.dim)
            self.embedding_norm = nn.LayerNorm(shape.dim, eps=_EPS)
            self.dropout = Dropout(shape.dropout)
            self.layers = nn.ModuleList(
                _Layer(shape, config.alpha) for _ in range(shape.num_layers)
            )
            for module in self.modules():
                if isinstance(module, (nn.Linear, nn.Embedding)):
                    nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)

    def windows(self, data: SequenceSet) -> Windows:
        """All targets of a sequence in one window if causal, else one window per target."""
        if self.is_causal:
            return super().windows(data)
        return Windows.per_target(data, self.max_history).padded_to(self.max_history + 1)

    def states(self, histories: Histories) -> Tensor:
        """State after each position; float ``(batch, pos, dim)``."""
        return self._encode(histories, _ALL)[:, -histories.items.shape[1] :]

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean cross-entropy over the targets of a batch; scalar float32.

        Raises:
            ValueError: If a target is not the last item of its window, where the filter ``fft``
                would read it.
        """
        past = batch.windows.without_last()
        if self.is_causal:
            states = self.states(past)[batch.target_row, batch.target_pos - 1]
        else:
            width = batch.windows.items.shape[1]
            if (batch.target_pos < width - 1).any():
                raise ValueError(
                    "with the filter fft, states read later items: expected windows that end with "
                    f"their only target, at position {width - 1}, got a target at "
                    f"{int(batch.target_pos.min())}. Use Windows.per_target, or the filter causal."
                )
            states = self._encode(past, _LAST)[batch.target_row, 0]
        return catalogue_cross_entropy(states, self.item_embedding.weight, batch.target_items)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""
        return self.user_vectors(histories) @ self.item_embedding.weight.T

    @torch.inference_mode()
    def user_vectors(self, histories: Histories) -> Tensor:
        """The last states; float32 ``(batch, dim)``."""
        past = histories.last(self.max_history).to(self.item_embedding.weight.device)
        return self._encode(past, _LAST)[:, 0]

    def item_vectors(self) -> Tensor:
        """Input embeddings, which are also the output embeddings; float32 ``(item, dim)``."""
        return self.item_embedding.weight.detach()

    def _encode(self, histories: Histories, rows: slice) -> Tensor:
        """The last layer's states at some positions; earlier layers need them all."""
        missing = 0 if self.is_causal else self.max_history - histories.items.shape[1]
        items = F.pad(histories.items, (missing, 0))
        mask = F.pad(histories.mask, (missing, 0))
        width = items.shape[1]
        x = self.item_embedding(items) * mask.unsqueeze(-1)
        x = self.dropout(self.embedding_norm(x + self.position_embedding.weight[-width:]))
        # a padded query attends to itself, so that no softmax is over an empty set
        itself = torch.eye(width, dtype=torch.bool, device=x.device)
        allowed = (mask.unsqueeze(1) | itself).tril()
        bias = torch.zeros(allowed.shape, device=x.device).masked_fill(~allowed, -torch.inf)
        low_pass = self.low_pass
        if self.is_causal:
            low_pass = over_existing(low_pass[-width:, -width:], allowed)
        for layer in self.layers[:-1]:
            x = layer(x, low_pass, bias, _ALL)
        states: Tensor = self.layers[-1](x, low_pass, bias, rows)
        return states


class _Layer(nn.Module):
    """``alpha`` times the filter branch plus the rest of attention, then a feed-forward."""

    def __init__(self, shape: EncoderConfig, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.filter = _Filter(shape)
        self.attention = _Attention(shape)
        self.feed_forward = _FeedForward(shape)

    def forward(self, x: Tensor, low_pass: Tensor, bias: Tensor, rows: slice) -> Tensor:
        here = x[:, rows]
        filtered = self.filter(here, low_pass[..., rows, :] @ x)
        attended = self.attention(here, x, bias[:, rows])
        mixed: Tensor = self.feed_forward(self.alpha * filtered + (1 - self.alpha) * attended)
        return mixed


class _Filter(nn.Module):
    """``LN(x + dropout(low + b^2 (x - low)))``, with a learned ``b`` for each channel."""

    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.randn(shape.dim))
        self.dropout = Dropout(shape.dropout)
        self.norm = nn.LayerNorm(shape.dim, eps=_EPS)

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        out: Tensor = self.norm(x + self.dropout(low + self.b.square() * (x - low)))
        return out


class _Attention(nn.Module):
    """``LN(x + dropout(attention))``, with dropout on the attention weights too."""

    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key_value = nn.Linear(shape.dim, 2 * shape.dim)
        self.project = nn.Linear(shape.dim, shape.dim)
        self.dropout = Dropout(shape.dropout)
        self.norm = nn.LayerNorm(shape.dim, eps=_EPS)

    def forward(self, here: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        query = rearrange(
            self.query(here), "batch pos (head dim) -> batch head pos dim", head=self.num_heads
        )
        key, value = rearrange(
            self.key_value(x),
            "batch pos (two head dim) -> two batch head pos dim",
            two=2,
            head=self.num_heads,
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias.unsqueeze(1)
        weights = self.dropout(scores.softmax(dim=-1).to(value.dtype))
        mixed = rearrange(weights @ value, "batch head pos dim -> batch pos (head dim)")
        out: Tensor = self.norm(here + self.dropout(self.project(mixed)))
        return out


class _FeedForward(nn.Module):
    """``LN(x + dropout(W2 gelu(W1 x)))``."""

    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        self.ff_in = nn.Linear(shape.dim, shape.ff_dim)
        self.ff_out = nn.Linear(shape.ff_dim, shape.dim)
        self.dropout = Dropout(shape.dropout)
        self.norm = nn.LayerNorm(shape.dim, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x + self.dropout(self.ff_out(F.gelu(self.ff_in(x)))))
        return out
