"""GRU4Rec (arXiv:1511.06939): a recurrent network over the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch
from baselines.data.dataset import Dataset
from baselines.nn.dropout import Dropout
from baselines.teachers.config import GRU4RecConfig
from baselines.teachers.losses import catalogue_cross_entropy
from baselines.teachers.model import TeacherModel


class GRU4Rec(TeacherModel):
    """A GRU over the history; a score is the projected state times an item's embedding.

    The cells have no biases (as in RecBole), so that a zero state stays zero over padding.
    """

    label = "GRU4Rec"

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: GRU4RecConfig) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(config, len(dataset.catalog), seed)

    def __init__(self, config: GRU4RecConfig, num_items: int, seed: int) -> None:
        super().__init__()
        self.max_history = config.max_history
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.item_embedding = nn.Embedding(num_items, config.dim)
            self.dropout = Dropout(config.dropout)
            self.gru = nn.GRU(
                config.dim, config.hidden_dim, config.num_layers, bias=False, batch_first=True
            )
            self.project = nn.Linear(config.hidden_dim, config.dim)
            nn.init.xavier_normal_(self.item_embedding.weight)
            for weight in self.gru.parameters():
                nn.init.xavier_uniform_(weight)

    def states(self, histories: Histories) -> Tensor:
        """State after each position; float ``(batch, pos, dim)``."""
        x = self.dropout(self.item_embedding(histories.items)) * histories.mask.unsqueeze(-1)
        states: Tensor = self.project(self.gru(x)[0])
        return states

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean cross-entropy over the targets of a batch; scalar float32."""
        states = self.states(batch.windows.without_last())
        states = states[batch.target_row, batch.target_pos - 1]
        return catalogue_cross_entropy(states, self.item_embedding.weight, batch.target_items)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""
        return self.user_vectors(histories) @ self.item_embedding.weight.T

    @torch.inference_mode()
    def user_vectors(self, histories: Histories) -> Tensor:
        """The last states, projected; float32 ``(batch, dim)``."""
        past = histories.last(self.max_history).to(self.item_embedding.weight.device)
        return self.states(past)[:, -1]

    def item_vectors(self) -> Tensor:
        """Input embeddings, which are also the output embeddings; float32 ``(item, dim)``."""
        return self.item_embedding.weight.detach()
