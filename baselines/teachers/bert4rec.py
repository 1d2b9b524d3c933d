"""BERT4Rec (arXiv:1904.06690): masked items predicted from both sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch
from baselines.data.dataset import Dataset
from baselines.nn.encoder import CausalEncoder
from baselines.teachers.config import BERT4RecConfig
from baselines.teachers.losses import catalogue_cross_entropy
from baselines.teachers.model import TeacherModel
from tca.objective import ObjectiveOutput


class BERT4Rec(TeacherModel):
    """Bidirectional transformer; the next item is predicted at a mask appended to the history.

    Scores are ``gelu(state W + b) E^T + c`` with the input embeddings ``E`` (equation 7).
    Positions are counted backwards from the last one.
    """

    label = "BERT4Rec"

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: BERT4RecConfig) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(config, len(dataset.catalog), seed)

    def __init__(self, config: BERT4RecConfig, num_items: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.max_history = config.max_history
        dim = config.encoder.dim
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.item_embedding = nn.Embedding(num_items, dim)
            self.position_embedding = nn.Embedding(config.max_history + 1, dim)
            self.mask_embedding = nn.Parameter(torch.empty(dim))
            self.embedding_norm = nn.LayerNorm(dim)
            self.encoder = CausalEncoder(config.encoder, both_ways=True)
            self.project = nn.Linear(dim, dim)
            self.bias = nn.Parameter(torch.zeros(num_items))
            tables = (self.item_embedding.weight, self.position_embedding.weight)
            for table in (*tables, self.mask_embedding):
                nn.init.normal_(table, std=0.02)

    def states(self, histories: Histories, masked: Tensor) -> Tensor:
        """Output state of each position; float ``(batch, pos, dim)``.

        Args:
            histories: At most ``max_history + 1`` items each.
            masked: bool ``(batch, pos)``, True where the item is masked.
        """
        distance = torch.arange(masked.shape[1] - 1, -1, -1, device=masked.device)
        items = self.item_embedding(histories.items)
        x = torch.where(masked.unsqueeze(-1), self.mask_embedding, items)
        x = self.embedding_norm(x + self.position_embedding(distance))
        states: Tensor = F.gelu(self.project(self.encoder(x, histories.mask)[0]))
        return states

    def objective(self, batch: TrainBatch) -> ObjectiveOutput:
        """Mean cross-entropy over masked items; masks are redrawn on every call."""
        windows = batch.windows
        masked = self._draw_masks(windows.mask)
        loss = catalogue_cross_entropy(
            self.states(windows, masked)[masked],
            self.item_embedding.weight,
            windows.items[masked],
            self.bias,
        )
        return ObjectiveOutput(loss=loss, parts={}, count=masked.sum())

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean cross-entropy over masked items; scalar float32."""
        return self.objective(batch).loss

    def _draw_masks(self, real: Tensor) -> Tensor:
        """Mask positions: bool ``(batch, pos)``; at least one and not all of each window."""
        lengths = real.sum(dim=1, keepdim=True)
        counts = (lengths * self.config.masked).round().clamp_min(1).minimum(lengths - 1)
        noise = torch.rand(real.shape, device=real.device).masked_fill(~real, 2)
        masked = noise.argsort(dim=1).argsort(dim=1) < counts
        last = torch.zeros_like(real)
        last[:, -1] = True
        only = torch.rand(len(real), 1, device=real.device) < self.config.last_only
        return torch.where(only, last, masked)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items after a mask; float32 ``(batch, item)``."""
        past = histories.last(self.max_history).to(self.item_embedding.weight.device)
        asked = Histories(
            items=F.pad(past.items, (0, 1)), mask=F.pad(past.mask, (0, 1), value=True),
            users=past.users,
        )  # fmt: skip
        masked = torch.zeros_like(asked.mask)
        masked[:, -1] = True
        return self.states(asked, masked)[:, -1] @ self.item_embedding.weight.T + self.bias

    def item_vectors(self) -> Tensor:
        """Input embeddings, which are also the output embeddings; float32 ``(item, dim)``."""
        return self.item_embedding.weight.detach()
