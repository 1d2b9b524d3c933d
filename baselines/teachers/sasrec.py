"""SASRec (arXiv:1808.09781): self-attentive sequential recommendation, the default teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch
from baselines.encoder import CausalEncoder, EncoderConfig


@dataclass(frozen=True, kw_only=True)
class SASRecConfig:
    """Shape and loss of SASRec.

    Attributes:
        loss: Full cross-entropy over the catalogue, whose softmax is a calibrated start for a
            teacher, or the paper's binary cross-entropy with sampled negatives.
        num_negatives: Uniform negatives a position for the binary loss, none of them in the
            window.
        max_history: Most items looked back on.
        encoder: Shape of the transformer.
    """

    loss: Literal["ce", "bce"] = "ce"
    num_negatives: int = 1
    max_history: int = 50
    encoder: EncoderConfig = field(default_factory=EncoderConfig)


class SASRec(nn.Module):
    """Causal transformer over items; the score of an item is its embedding times the last state.

    Positions are counted back from the most recent item, as left padding to a fixed length does.

    Raises:
        ValueError: If a window could hold the whole catalogue, so that no negative is left.
    """

    def __init__(self, config: SASRecConfig, num_items: int, seed: int) -> None:
        super().__init__()
        window = config.max_history + 1
        if config.loss == "bce" and num_items <= window:
            raise ValueError(
                f"the binary loss draws negatives from outside a window of {window} items, so the "
                f"catalogue must hold more than {window} items, got {num_items}. "
                "Lower max_history, or take the loss ce."
            )
        self.config = config
        self.num_items = num_items
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.item_embedding = nn.Embedding(num_items, config.encoder.dim)
            self.position_embedding = nn.Embedding(config.max_history, config.encoder.dim)
            self.encoder = CausalEncoder(config.encoder)
            for table in (self.item_embedding, self.position_embedding):
                nn.init.normal_(table.weight, std=0.02)

    @property
    def max_history(self) -> int:
        """Most items looked back on."""
        return self.config.max_history

    def states(self, histories: Histories) -> Tensor:
        """State after each position; float ``(batch, pos, dim)``."""
        items = histories.items
        distance = torch.arange(items.shape[1] - 1, -1, -1, device=items.device)
        x = self.item_embedding(items) * self.config.encoder.dim**0.5
        x = x + self.position_embedding(distance)
        states: Tensor = self.encoder(x, histories.mask)[0]
        return states

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean loss over the targets of a batch; scalar float32."""
        past = batch.windows.without_last()
        states = self.states(past)[batch.target_row, batch.target_pos - 1]
        if self.config.loss == "ce":
            logits = states @ self.item_embedding.weight.to(states.dtype).T
            return F.cross_entropy(logits.float(), batch.target_items)
        candidates = torch.cat([batch.target_items[:, None], self._negatives(batch)], dim=1)
        scores = (self.item_embedding(candidates) @ states.float().unsqueeze(-1)).squeeze(-1)
        return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(dim=1)).mean()

    def _negatives(self, batch: TrainBatch) -> Tensor:
        shape = (len(batch.target_row), self.config.num_negatives)
        seen = batch.windows.items.masked_fill(~batch.windows.mask, -1)[batch.target_row]
        negatives = torch.randint(self.num_items, shape, device=seen.device)
        while (clash := (negatives[:, :, None] == seen[:, None, :]).any(dim=-1)).any():
            fresh = torch.randint(self.num_items, shape, device=seen.device)
            negatives = torch.where(clash, fresh, negatives)
        return negatives

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""
        return self.user_vectors(histories) @ self.item_embedding.weight.T

    @torch.inference_mode()
    def user_vectors(self, histories: Histories) -> Tensor:
        """The last states; float32 ``(batch, dim)``."""
        past = histories.last(self.max_history).to(self.item_embedding.weight.device)
        return self.states(past)[:, -1]

    def item_vectors(self) -> Tensor:
        """The item embeddings; float32 ``(item, dim)``."""
        return self.item_embedding.weight.detach()
