"""LETTER: RQ-VAE that also learns from collaborative vectors (arXiv:2405.07314)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from semid import distributed as ranks
from semid.tokenizers.estimators import Batch
from semid.tokenizers.kmeans import squared_distances
from semid.tokenizers.letter_losses import LetterLosses
from semid.tokenizers.rqvae import RQVAE
from semid.tokenizers.sinkhorn import sinkhorn
from semid.tokenizers.training import MoreLosses

__all__ = ["LETTER"]


@dataclass(kw_only=True, eq=False)
class LETTER(RQVAE):
    """RQ-VAE with collaborative alignment, diverse codes and an even last level (section 3.2).

    The loss of `semid.tokenizers.RQVAE`, plus ``cf_weight L_CF + diversity_weight L_div``:

    - ``L_CF`` draws an item's quantised latent to its own collaborative vector among those of the
      batch (3.2.2). Items whose vector is all zero are left out of it.
    - ``L_div`` draws the codewords of a level apart, group by group (3.2.3).

    In training, the last level's codes are an even share of the batch (Sinkhorn; the paper's code
    and LC-Rec, arXiv:2311.09049, section 3.1); encoding takes the nearest code. With both weights
    and ``sinkhorn_epsilon`` 0 this is RQ-VAE, bit for bit.

    Losses are summed over dimensions and levels here, as in TIGER; the paper's code takes means,
    where a weight means more the wider the inputs are. All other settings are RQ-VAE's.

    Attributes:
        codebook_sizes: Codewords of each level (paper: four of 256).
        epochs: Passes over the items (paper's code: 20,000 on 4096 dimensions).
        learning_rate: Of AdamW (paper's code: 0.001, for many more epochs).
        cf_weight: Of ``L_CF`` (paper's code: 0.01 to 0.1 beside a mean over 4096 dimensions, as 41
            to 410 beside their sum); without collaborative vectors it must be 0.
        diversity_weight: Of ``L_div``, summed over levels (paper's code: 0.0001).
        num_clusters: Groups of each level's codes, made anew each epoch (paper's code: 10); at most
            half the codes.
        sinkhorn_epsilon: Weight of the entropy (paper's code: 0.003); 0 for the nearest code also
            in training.
        sinkhorn_iterations: Rounds (paper's code: 50).
    """

    uses_cf: ClassVar[bool] = True

    codebook_sizes: tuple[int, ...] = (256, 256, 256, 256)
    epochs: int = 50
    learning_rate: float = 5e-3
    cf_weight: float = 200.0
    diversity_weight: float = 1e-4
    num_clusters: int = 10
    sinkhorn_epsilon: float = 0.003
    sinkhorn_iterations: int = 50

    def _check_settings(self) -> None:
        super()._check_settings()
        if min(self.cf_weight, self.diversity_weight, self.sinkhorn_epsilon) < 0:
            raise ValueError(
                "expected cf_weight, diversity_weight and sinkhorn_epsilon of at least 0, got "
                f"{self.cf_weight}, {self.diversity_weight} and {self.sinkhorn_epsilon}."
            )
        if self.num_clusters < 1:
            raise ValueError(f"expected num_clusters of at least 1, got {self.num_clusters}.")
        if self.diversity_weight and self.codebook_update == "ema":
            raise ValueError(
                "expected codebook_update='gradient', got 'ema': the diversity loss moves "
                "codewords by its gradient. Or set diversity_weight to 0."
            )

    def _more_losses(self, cf_embeddings: Tensor | None) -> MoreLosses:
        if cf_embeddings is None and self.cf_weight:
            raise ValueError(
                f"expected cf_embeddings for cf_weight {self.cf_weight:g}, got none. Pass one "
                "collaborative vector an item, or set cf_weight to 0."
            )
        if cf_embeddings is not None and self.cf_weight and not cf_embeddings.any():
            raise ValueError(
                "expected cf_embeddings with a collaborative signal, got zeros throughout. "
                "Pass a trained teacher's item vectors, or set cf_weight to 0."
            )
        return LetterLosses(
            cf_embeddings,
            latent_dim=self.latent_dim,
            cf_weight=self.cf_weight,
            diversity_weight=self.diversity_weight,
            num_clusters=self.num_clusters,
            seed=self.seed + 1,
        )

    def _choose(
        self, level: int, residual: Tensor, codebook: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        if level < len(self.codebook_sizes) - 1 or not self.sinkhorn_epsilon:
            return super()._choose(level, residual, codebook, batch)
        fixed = codebook.detach()
        distances = residual.new_zeros(len(batch.rows), len(codebook))
        distances[batch.share] = squared_distances(residual.detach(), fixed)
        ranks.add_up([distances])
        plan = sinkhorn(
            distances, epsilon=self.sinkhorn_epsilon, iterations=self.sinkhorn_iterations
        )
        codes = plan.argmax(dim=1)[batch.share]
        return codes, F.embedding(codes, fixed)
