"""RQ-VAE: an autoencoder with a residual quantiser in the middle (TIGER, arXiv:2305.05065)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.checks import require_choice, require_int, require_ints, require_real
from semid.tokenizers.estimators import (
    ESTIMATORS,
    StraightThrough,
    estimator_of,
    require_temperatures,
)
from semid.tokenizers.training import ResidualVQ

__all__ = ["RQVAE"]


@dataclass(kw_only=True, eq=False)
class RQVAE(ResidualVQ):
    """Learned encoder, residual codebooks and decoder (section 3.1).

    Per item with latent ``r[0] = encoder(x)`` and ``x' = decoder(sum of codewords)`` the loss is
    ``||x - x'||^2 + sum_l ||sg(r[l]) - e[l]||^2 + beta ||r[l] - sg(e[l])||^2``, and the decoder's
    gradient reaches the encoder through ``estimator``.

    With the paper's recipe on raw unit-norm sentence embeddings all items collapse onto one code,
    so this departs from it: inputs are standardised per dimension; codebooks start from k-means on
    the latents of the whole corpus instead of one batch; unused codes are restarted; AdamW replaces
    Adagrad at 0.4.

    If a level uses few of its codes after a fifth of the epochs, a warning with a likely remedy is
    logged.

    Attributes:
        codebook_sizes: Number of codewords per level (paper: three of 256).
        latent_dim: Width of latent and codewords (paper: 32).
        hidden_dims: Widths of the encoder's hidden ReLU layers, mirrored in the decoder (paper:
            512, 256, 128).
        beta: Weight of the commitment term (paper: 0.25).
        estimator: How the gradient passes the quantiser: ``straight_through`` (paper),
            ``rotation`` (the rotation trick, arXiv:2410.06424) or ``gumbel`` (Gumbel-softmax,
            arXiv:1611.01144); see `semid.tokenizers.estimators`.
        temperatures: First and last temperature of the Gumbel-softmax, falling geometrically.
        codebook_update: ``gradient`` (paper) or ``ema``: codewords as moving averages of their
            items (van den Oord et al. 2017, arXiv:1711.00937, appendix A.1), which replaces the
            loss's second term.
        ema_decay: Decay of the moving averages (there: 0.99).
        start: ``kmeans``; ``kmeans++``, with initial items drawn far apart; ``balanced``, with
            clusters of near-equal size.
        epochs: Number of passes over the items.
        batch_size: Items per step (paper: 1024).
        learning_rate: AdamW's learning rate.
        restart_every: Epochs between restarts of unused codes, which move to residuals of random
            items and lose their optimiser moments. There are no restarts in the last quarter, so
            that restarted codes can settle.
        kmeans_iterations: Lloyd iterations of the k-means start.
        seed: Seed of initial weights, batches, k-means and restarts.
        on_epoch: Called with each new entry of ``history_``, for progress displays.
        history_: One entry per epoch of the latest `fit`: ``epoch`` (from 1), ``epochs``, ``loss``,
            ``reconstruction`` (mean squared error of the standardised inputs), ``utilisation``
            (share of each level's codes in use during the epoch), ``perplexity``.
    """

    latent_dim: int = 32
    hidden_dims: tuple[int, ...] = (512, 256, 128)
    beta: float = 0.25
    estimator: str = "straight_through"
    temperatures: tuple[float, float] = (1.0, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("latent_dim", self.latent_dim, 1)
        require_ints("hidden_dims", self.hidden_dims, 1)
        require_real("beta", self.beta, low=0)
        require_choice("estimator", self.estimator, ESTIMATORS)
        require_temperatures(self.temperatures)

    def _estimator(self) -> StraightThrough:
        return estimator_of(self.estimator, self.temperatures)

    def _commitment(self) -> float:
        return self.beta

    def _scaling(self, embeddings: Tensor) -> dict[str, Tensor]:
        mean, std = _standardisation(embeddings)
        return {"mean": mean, "std": std}

    def _networks(self, dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        widths = (dim, *self.hidden_dims, self.latent_dim)
        return {
            **_initial_mlp("encoder", widths, generator),
            **_initial_mlp("decoder", widths[::-1], generator),
        }

    def _latents(self, inputs: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return _mlp(inputs, learned, "encoder")

    def _decoded(self, quantised: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return _mlp(quantised, learned, "decoder")


def _standardisation(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension; 1 where a dimension is constant."""
    std, mean = torch.std_mean(embeddings.double(), dim=0, correction=0)
    constant = std <= 1e-6 * mean.abs()
    return mean.float(), torch.where(constant, 1.0, std).float()


def _initial_mlp(name: str, widths: Sequence[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Weights initialised like ``torch.nn.Linear``, but from a given generator."""
    layers: dict[str, Tensor] = {}
    for layer, (width_in, width_out) in enumerate(pairwise(widths)):
        bound = 1 / math.sqrt(width_in)
        weight = torch.empty(width_out, width_in).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(width_out).uniform_(-bound, bound, generator=generator)
        layers |= {f"{name}.{layer}.weight": weight, f"{name}.{layer}.bias": bias}
    return layers


def _mlp(inputs: Tensor, learned: dict[str, Tensor], name: str) -> Tensor:
    depth = sum(key.startswith(f"{name}.") for key in learned) // 2
    hidden = inputs
    for layer in range(depth):
        hidden = F.linear(
            hidden, learned[f"{name}.{layer}.weight"], learned[f"{name}.{layer}.bias"]
        )
        if layer < depth - 1:
            hidden = hidden.relu()
    return hidden
