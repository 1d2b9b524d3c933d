"""SASRec (arXiv:1808.09781): self-attentive sequential recommendation, the default teacher."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch
from baselines.data.dataset import Dataset
from baselines.nn.encoder import CausalEncoder
from baselines.teachers.config import SASRecConfig
from baselines.teachers.losses import (
    binary_loss,
    catalogue_cross_entropy,
    draw_outside,
    gbce_beta,
    sampled_cross_entropy,
)
from baselines.teachers.model import TeacherModel


class SASRec(TeacherModel):
    """Causal transformer over items; the score of an item is its embedding times the last state.

    Positions are counted backwards from the most recent item, equivalent to left padding to a
    fixed length.

    Raises:
        ValueError: If a window could contain the whole catalogue, leaving no negatives, or the loss
            gbce cannot be calibrated with these settings.
    """

    name: ClassVar[str] = "SASRec"

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: SASRecConfig) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(config, len(dataset.catalog), seed)

    def __init__(self, config: SASRecConfig, num_items: int, seed: int) -> None:
        super().__init__()
        window = config.max_history + 1
        if config.loss in ("bce", "gbce") and num_items <= window:
            raise ValueError(
                f"the binary loss draws negatives from outside a window of {window} items, so the "
                f"catalogue must hold more than {window} items, got {num_items}. "
                "Lower max_history, or use the loss ce."
            )
        self.config = config
        self.num_items = num_items
        self.label = f"{self.name} {config.loss}"
        self.max_history = config.max_history
        self.beta = 1.0
        if config.loss == "gbce":
            self.beta = gbce_beta(
                num_negatives=config.num_negatives, num_items=num_items, t=config.gbce_t
            )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.make(config, num_items)

    def make(self, config: SASRecConfig, num_items: int) -> None:
        """Create the weights, drawn from PyTorch's default generator."""
        self.item_embedding = nn.Embedding(num_items, config.encoder.dim)
        self.position_embedding = nn.Embedding(config.max_history, config.encoder.dim)
        self.encoder = CausalEncoder(config.encoder)
        for table in (self.item_embedding, self.position_embedding):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def item_table(self) -> Tensor:
        """Item embeddings, with gradient; float ``(item, dim)``."""
        return self.item_embedding.weight

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
            return catalogue_cross_entropy(states, self.item_table, batch.target_items)
        if self.config.loss == "sampled_softmax":
            sampled = torch.randperm(self.num_items, device=states.device)
            sampled = sampled[: self.config.sampled_items]
            return sampled_cross_entropy(states, self.item_table, batch.target_items, sampled)
        candidates = torch.cat([batch.target_items[:, None], self._negatives(batch)], dim=1)
        vectors = F.embedding(candidates, self.item_table)
        scores = (vectors @ states.float().unsqueeze(-1)).squeeze(-1)
        return binary_loss(scores[:, 0], scores[:, 1:], beta=self.beta)

    def _negatives(self, batch: TrainBatch) -> Tensor:
        windows = batch.windows.items.masked_fill(~batch.windows.mask, -1)[batch.target_row]
        return draw_outside(windows, self.num_items, self.config.num_negatives)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""
        return self.user_vectors(histories) @ self.item_table.T

    @torch.inference_mode()
    def user_vectors(self, histories: Histories) -> Tensor:
        """The last states; float32 ``(batch, dim)``."""
        past = histories.last(self.max_history).to(self.item_table.device)
        return self.states(past)[:, -1]

    def item_vectors(self) -> Tensor:
        """Input embeddings, which are also the output embeddings; float32 ``(item, dim)``."""
        return self.item_table.detach()
