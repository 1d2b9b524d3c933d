"""LETTER: RQ-VAE that also learns from collaborative vectors (arXiv:2405.07314)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from semid.checks import require_int, require_real
from semid.tokenizers.estimators import Batch
from semid.tokenizers.kmeans import squared_distances
from semid.tokenizers.letter_losses import LetterLosses
from semid.tokenizers.rqvae import RQVAE
from semid.tokenizers.sinkhorn import sinkhorn
from semid.tokenizers.training import AuxiliaryLosses, Quantised

__all__ = ["LETTER"]


@dataclass(kw_only=True, eq=False)
class LETTER(RQVAE):
    """RQ-VAE with collaborative alignment, diverse codes and an even last level (section 3.2).

    The reconstruction of `semid.tokenizers.RQVAE`, plus ``cf_weight L_CF``, plus
    ``quant_loss_weight`` times (its two other terms and ``diversity_weight L_div``):

    - ``L_CF`` pulls an item's quantised latent towards its own collaborative vector among those of
      the batch (3.2.2). Items with an all-zero vector are excluded.
    - ``L_div`` spreads the codewords of a level, group by group (3.2.3).

    In training, the last level's codes share the batch evenly (Sinkhorn; the paper's code and
    LC-Rec, arXiv:2311.09049, section 3.1); encoding takes the nearest code. With both weights and
    ``sinkhorn_epsilon`` 0 this is RQ-VAE, bit for bit.

    Losses are summed over dimensions and levels here, as in TIGER. The paper's code averages:
    reconstruction over the ``D`` inputs, and quantisation with the weighted ``L_div`` over the
    latent's ``d`` dimensions and the ``L`` levels. Multiplied by ``D``, that is our loss with a
    ``quant_loss_weight`` of ``D / (d L)`` (32 for 4096, 32 and 4), a ``diversity_weight`` of ``d``
    times theirs and a ``cf_weight`` of ``D`` times theirs. All other settings are RQ-VAE's.

    The gradient of the commitment loss reaches the encoder from every level. In the paper's code
    the residual for the next level is detached, so only the first level's does.

    Attributes:
        codebook_sizes: Codewords of each level (paper: four of 256).
        epochs: Number of passes over the items (paper's code: 20,000 on 4096 dimensions).
        learning_rate: AdamW's learning rate (paper's code: 0.001, for many more epochs).
        cf_weight: Weight of ``L_CF`` (paper's code: 0.01 to 0.1 with a mean over 4096 dimensions,
            equivalent to 41 to 410 with their sum); without collaborative vectors it must be 0.
        diversity_weight: Weight of ``L_div``, summed over levels, relative to quantisation sums
            (paper's code: 0.0001, relative to means over 32 dimensions).
        quant_loss_weight: Weight of quantisation plus ``L_div`` (paper's code: 1 with a mean over
            4096 dimensions, equivalent to 32 with their sum).
        num_clusters: Groups of each level's codes, recomputed each epoch (paper's code: 10); at
            most half the codes.
        sinkhorn_epsilon: Weight of the entropy (paper's code: 0.003); 0 for the nearest code in
            training too.
        sinkhorn_iterations: Sinkhorn iterations (paper's code: 50).
    """

    uses_cf: ClassVar[bool] = True

    codebook_sizes: tuple[int, ...] = (256, 256, 256, 256)
    epochs: int = 50
    learning_rate: float = 5e-3
    cf_weight: float = 200.0
    diversity_weight: float = 32e-4
    quant_loss_weight: float = field(default=1.0, metadata={"before": 1.0})
    num_clusters: int = 10
    sinkhorn_epsilon: float = 0.003
    sinkhorn_iterations: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cf_weight", "diversity_weight", "quant_loss_weight", "sinkhorn_epsilon"):
            require_real(name, getattr(self, name), low=0)
        require_int("num_clusters", self.num_clusters, 1)
        require_int("sinkhorn_iterations", self.sinkhorn_iterations, 1)
        if self.diversity_weight and self.codebook_update == "ema":
            raise ValueError(
                "expected codebook_update='gradient', got 'ema': the diversity loss moves "
                "codewords by its gradient. Or set diversity_weight to 0."
            )

    def _auxiliary_losses(self, cf_embeddings: Tensor | None) -> AuxiliaryLosses:
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
            diversity_weight=self.quant_loss_weight * self.diversity_weight,
            num_clusters=self.num_clusters,
            seed=self.seed + 1,
        )

    def _quantise(self, latent: Tensor, codebooks: Sequence[Tensor], batch: Batch) -> Quantised:
        quantised = super()._quantise(latent, codebooks, batch)
        return replace(quantised, loss=self.quant_loss_weight * quantised.loss)

    def _choose(
        self, level: int, residual: Tensor, codebook: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        if level < len(self.codebook_sizes) - 1 or not self.sinkhorn_epsilon:
            return super()._choose(level, residual, codebook, batch)
        fixed = codebook.detach()
        distances = squared_distances(residual.detach(), fixed)
        plan = sinkhorn(
            distances, epsilon=self.sinkhorn_epsilon, iterations=self.sinkhorn_iterations
        )
        codes = plan.argmax(dim=1)
        return codes, F.embedding(codes, fixed)
