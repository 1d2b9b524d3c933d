"""RQ-VAE: an autoencoder with a residual quantiser in the middle (TIGER, arXiv:2305.05065)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers.base import SemanticIdTokenizer
from semid.tokenizers.residual import codebooks_of, nearest, residual_codes, residual_kmeans

__all__ = ["RQVAE"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class RQVAE(SemanticIdTokenizer):
    """Learned encoder, residual codebooks and decoder (section 3.1).

    Per item with latent ``r[0] = encoder(x)`` and ``x' = decoder(sum of codewords)`` the loss is
    ``||x - x'||^2 + sum_l ||sg(r[l]) - e[l]||^2 + beta ||r[l] - sg(e[l])||^2``, and the decoder's
    gradient reaches the encoder straight through the codewords.

    With the paper's recipe on raw unit-norm sentence embeddings all items fall onto one code, so
    this departs from it: inputs are standardised in each dimension; codebooks start as k-means on
    the latents of the whole corpus instead of one batch; codes that no item uses are restarted;
    AdamW takes the place of Adagrad at 0.4.

    Attributes:
        codebook_sizes: Codewords of each level (paper: three of 256).
        latent_dim: Width of latent and codewords (paper: 32).
        hidden_dims: Widths of the encoder's hidden ReLU layers, mirrored in the decoder (paper:
            512, 256, 128).
        beta: Weight of the commitment term (paper: 0.25).
        epochs: Passes over the items.
        batch_size: Items a step (paper: 1024).
        learning_rate: Of AdamW.
        restart_every: Epochs between restarts of unused codes, which move to residuals of random
            items. There are none in the last quarter, so that what was restarted can settle.
        kmeans_iterations: Lloyd iterations of the k-means start.
        seed: Of initial weights, batches, k-means and restarts.
        on_epoch: Called with each entry of ``history_`` as it is made; for progress displays.
        history_: One entry an epoch of the latest `fit`: ``epoch`` (from 1), ``epochs``, ``loss``,
            ``reconstruction`` (mean squared error of the standardised inputs), ``utilisation``
            (share of each level's codes that some item used during the epoch).
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    latent_dim: int = 32
    hidden_dims: tuple[int, ...] = (512, 256, 128)
    beta: float = 0.25
    epochs: int = 150
    batch_size: int = 1024
    learning_rate: float = 1e-3
    restart_every: int = 5
    kmeans_iterations: int = 10
    seed: int = 0
    on_epoch: Callable[[dict[str, Any]], None] | None = field(default=None, init=False, repr=False)
    history_: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        mean, std = _standardisation(embeddings)
        inputs = (embeddings - mean) / std
        widths = (inputs.shape[1], *self.hidden_dims, self.latent_dim)
        weights = {
            **_initial_mlp("encoder", widths, generator),
            **_initial_mlp("decoder", widths[::-1], generator),
        }
        learned = {name: value.to(inputs.device) for name, value in weights.items()}
        codebooks = residual_kmeans(
            _mlp(inputs, learned, "encoder"),
            self.codebook_sizes,
            iterations=self.kmeans_iterations,
            seed=self.seed,
        )
        learned |= {f"codebook.{level}": codebook for level, codebook in enumerate(codebooks)}
        self._train(inputs, learned, generator)
        return {"mean": mean, "std": std, **learned}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        inputs = (embeddings - learned["mean"]) / learned["std"]
        return residual_codes(_mlp(inputs, learned, "encoder"), codebooks_of(learned))

    def _train(
        self, inputs: Tensor, learned: dict[str, Tensor], generator: torch.Generator
    ) -> None:
        for value in learned.values():
            value.requires_grad_()
        optimizer = torch.optim.AdamW(learned.values(), lr=self.learning_rate)
        self.history_ = []
        for epoch in range(1, self.epochs + 1):
            used = [
                torch.zeros(size, dtype=torch.bool, device=inputs.device)
                for size in self.codebook_sizes
            ]
            total = reconstruction = 0.0
            order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
            for rows in torch.split(order, self.batch_size):
                batch = inputs[rows]
                quantised, quantiser_loss, codes = self._quantise(batch, learned)
                error = (batch - _mlp(quantised, learned, "decoder")).square().sum()
                loss = (error + quantiser_loss) / len(batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach()) * len(batch)
                reconstruction += float(error.detach())
                for level, level_codes in enumerate(codes):
                    used[level][level_codes] = True
            if epoch % self.restart_every == 0 and epoch <= 0.75 * self.epochs:
                _restart_unused(_mlp(inputs, learned, "encoder"), codebooks_of(learned), generator)
            utilisation = [float(level.float().mean()) for level in used]
            entry = {
                "epoch": epoch,
                "epochs": self.epochs,
                "loss": total / len(inputs),
                "reconstruction": reconstruction / inputs.numel(),
                "utilisation": utilisation,
            }
            self.history_.append(entry)
            logger.info(
                "RQ-VAE epoch %d of %d: loss %.4f, reconstruction %.4f, codes used %s",
                epoch,
                self.epochs,
                entry["loss"],
                entry["reconstruction"],
                ", ".join(f"{share:.0%}" for share in utilisation),
            )
            if self.on_epoch is not None:
                self.on_epoch(entry)
        for value in learned.values():
            value.requires_grad_(False)

    def _quantise(
        self, batch: Tensor, learned: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Codewords' sum with a straight-through gradient, the quantiser's loss (sum), codes."""
        latent = _mlp(batch, learned, "encoder")
        residual, quantised = latent, torch.zeros_like(latent)
        loss, codes = latent.new_zeros(()), []
        for codebook in codebooks_of(learned):
            codes.append(nearest(residual.detach(), codebook.detach()))
            codeword = F.embedding(codes[-1], codebook)
            loss = loss + (residual.detach() - codeword).square().sum()
            loss = loss + self.beta * (residual - codeword.detach()).square().sum()
            residual = residual - codeword.detach()
            quantised = quantised + codeword.detach()
        return latent + (quantised - latent).detach(), loss, codes


def _standardisation(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension; 1 where a dimension is constant."""
    std, mean = torch.std_mean(embeddings.double(), dim=0, correction=0)
    constant = std <= 1e-6 * mean.abs()
    return mean.float(), torch.where(constant, 1.0, std).float()


def _initial_mlp(name: str, widths: Sequence[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Weights drawn as ``torch.nn.Linear`` draws its own, but from our generator."""
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


@torch.no_grad()
def _restart_unused(latents: Tensor, codebooks: list[Tensor], generator: torch.Generator) -> None:
    """Move each code that no item uses to the residual of a random item, level by level."""
    residual = latents.detach()
    for codebook in codebooks:
        used = torch.bincount(nearest(residual, codebook), minlength=len(codebook)) > 0
        unused = used.logical_not().nonzero()[:, 0]
        chosen = torch.randint(len(residual), (len(unused),), generator=generator)
        codebook[unused] = residual[chosen.to(residual.device)]
        residual = residual - codebook[nearest(residual, codebook)]
