"""A teacher's scores in bfloat16, as TCA4Rec's released code computes them."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer, require_dot_product
from baselines.data.batches import Histories


class RoundedScorer:
    """A teacher whose vectors, and then their products, are rounded to bfloat16.

    The released code casts vectors to the language model's type before the product, so near items
    tie: numbers between 8 and 16 are 1/16 apart. Its softmax and the sums per next token are in
    bfloat16 too; here they stay float32, since on a GPU the rounding of such sums depends on their
    order.

    Args:
        scorer: The frozen teacher, whose scores are dot products.

    Raises:
        ValueError: If they are not.
    """

    def __init__(self, scorer: ItemScorer) -> None:
        self.scorer = require_dot_product(scorer, needed_by="reference=bfloat16")
        self.max_history = scorer.max_history
        self.label = getattr(scorer, "label", type(scorer).__name__)

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``, with bfloat16 values."""
        users = self.scorer.user_vectors(histories).bfloat16().float()
        items = self.scorer.item_vectors().bfloat16().float()
        return (users @ items.T).bfloat16().float()
