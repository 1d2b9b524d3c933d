"""LightGCN (arXiv:2002.02126): embeddings smoothed over the graph of users and items."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.data.batches import Histories, TrainBatch
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.config import LightGCNConfig
from baselines.teachers.model import TeacherModel


class LightGCN(TeacherModel):
    """Embeddings propagated between users and items; scores are inner products of layer means.

    Layer ``k + 1`` of a user is ``sum e_i^k / sqrt(|N_u| |N_i|)`` over its items, that of an item
    likewise, and the final embedding is the mean of layers ``0 .. K`` (equations 3 and 4). Trained
    by BPR with negatives outside the user's training items (equation 15).

    ``score`` gets a history and no user. It uses the final embedding of a user connected to exactly
    the distinct items of the history, with a layer-0 embedding of zero, in the training graph:
    ``1 / (K + 1) sum_{k < K} sum_{i in H} e_i^k / sqrt(|H| |N_i|)``. For a training user with all
    their items, this is the paper's score without the user's layer 0. Items without training users
    are left out of ``H``; if none is left, all scores are 0.

    Raises:
        ValueError: If a user has every item, leaving no negatives.
    """

    label = "LightGCN"
    needs_interactions = True

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: LightGCNConfig) -> TeacherModel:
        """Build a teacher for a data set."""
        return cls(config, dataset.splits.train, len(dataset.catalog), seed)

    def __init__(
        self, config: LightGCNConfig, train: SequenceSet, num_items: int, seed: int
    ) -> None:
        super().__init__()
        self.config = config
        self.num_items = num_items
        self.max_history = config.max_history
        owner = np.repeat(train.users, train.lengths)
        edges = torch.from_numpy(np.unique(owner * num_items + train.items))
        user, item = edges // num_items, edges % num_items
        num_users = int(train.users.max()) + 1
        of_user = torch.bincount(user, minlength=num_users)
        of_item = torch.bincount(item, minlength=num_items)
        if int(of_user.max()) == num_items:
            raise ValueError(
                f"lightgcn draws negatives among items that a user does not have, but user "
                f"{int(of_user.argmax())} has all {num_items}. Use another teacher."
            )
        weight = (of_user[user] * of_item[item]).float().rsqrt()
        to_users = _sparse(user, item, weight, (num_users, num_items))
        to_items = _sparse(item, user, weight, (num_items, num_users))
        self.to_users: Tensor
        self.to_items: Tensor
        self.edges: Tensor
        self.item_weight: Tensor
        self.register_buffer("to_users", to_users, persistent=False)
        self.register_buffer("to_items", to_items, persistent=False)
        self.register_buffer("edges", edges, persistent=False)  # sorted: user * num_items + item
        item_weight = of_item.float().rsqrt().masked_fill(of_item == 0, 0)
        self.register_buffer("item_weight", item_weight, persistent=False)
        self._cached_tables: tuple[Tensor, Tensor] | None = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.user_embedding = nn.Embedding(num_users, config.dim)
            self.item_embedding = nn.Embedding(num_items, config.dim)
            for table in (self.user_embedding, self.item_embedding):
                nn.init.normal_(table.weight, std=0.1)

    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Layers 0 to K of users ``(user, dim)`` and of items ``(item, dim)``."""
        users, items = [self.user_embedding.weight], [self.item_embedding.weight]
        for _ in range(self.config.num_layers):
            next_users = _propagate(items[-1], self.to_users, self.to_items)
            items.append(_propagate(users[-1], self.to_items, self.to_users))
            users.append(next_users)
        return users, items

    def loss(self, batch: TrainBatch) -> Tensor:
        """Mean BPR loss over the targets of a batch, with L2 regularisation."""
        user, item = batch.windows.users[batch.target_row], batch.target_items
        negative = self._negatives(user)
        users, items = self.layers()
        all_users, all_items = torch.stack(users).mean(dim=0), torch.stack(items).mean(dim=0)
        gain = (all_users[user] * (all_items[item] - all_items[negative])).sum(dim=1)
        layer_0 = [users[0][user], items[0][item], items[0][negative]]
        norm = torch.stack([rows.square().sum() for rows in layer_0]).sum() / (2 * len(user))
        return F.softplus(-gain).mean() + self.config.regularisation * norm

    def _negatives(self, user: Tensor) -> Tensor:
        negative = torch.randint(self.num_items, user.shape, device=user.device)
        while (clash := self._is_edge(user, negative)).any():
            fresh = torch.randint(self.num_items, user.shape, device=user.device)
            negative = torch.where(clash, fresh, negative)
        return negative

    def _is_edge(self, user: Tensor, item: Tensor) -> Tensor:
        key = user * self.num_items + item
        place = torch.searchsorted(self.edges, key).clamp_max(len(self.edges) - 1)
        return self.edges[place] == key

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items for users connected to their histories; float32 ``(batch, item)``."""
        return self.user_vectors(histories) @ self._tables()[1].T

    @torch.inference_mode()
    def user_vectors(self, histories: Histories) -> Tensor:
        """Final embeddings of users connected to their histories; float32 ``(batch, dim)``."""
        past = histories.last(self.max_history).to(self.item_embedding.weight.device)
        to_user, _ = self._tables()
        again = (past.items[:, :, None] == past.items[:, None, :]) & past.mask[:, None, :]
        counted = past.mask & ~again.triu(diagonal=1).any(dim=-1)  # each item once
        counted &= self.item_weight[past.items] > 0
        size = counted.sum(dim=1, keepdim=True).clamp_min(1)
        return (to_user[past.items] * counted.unsqueeze(-1)).sum(dim=1) * size.float().rsqrt()

    def train(self, mode: bool = True) -> LightGCN:
        """Switch mode, and drop cached tables, since weights may change."""
        self._cached_tables = None
        return super().train(mode)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Items' contributions to users, and their final embeddings; cached in eval mode."""
        if self._cached_tables is None or self.training:
            items = torch.stack(self.layers()[1])
            to_user = items[:-1].sum(dim=0) * self.item_weight[:, None] / len(items)
            self._cached_tables = to_user, items.mean(dim=0)
        return self._cached_tables

    def item_vectors(self) -> Tensor:
        """Final embeddings, used for scoring; float32 ``(item, dim)``."""
        with torch.no_grad():
            return torch.stack(self.layers()[1]).mean(dim=0)


class _Propagate(torch.autograd.Function):
    """Sparse matrix times embeddings, with the transposed matrix given for the gradient.

    In float32, since a mean over many neighbours loses too much precision in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.save_for_backward(transposed)
        with torch.autocast(embeddings.device.type, enabled=False):
            return matrix @ embeddings

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (transposed,) = ctx.saved_tensors
        return transposed @ gradient, None, None


def _propagate(embeddings: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
    propagated: Tensor = _Propagate.apply(embeddings, matrix, transposed)  # type: ignore[no-untyped-call]
    return propagated


def _sparse(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    matrix = torch.sparse_coo_tensor(
        torch.stack([row, column]), values, shape, check_invariants=True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.coalesce().to_sparse_csr()
