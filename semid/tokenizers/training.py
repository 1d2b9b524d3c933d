"""Mini-batch training of residual codebooks, shared by RQ-VAE, LETTER and R-VQ."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.checks import require_choice, require_int, require_real, require_sizes
from semid.tokenizers.base import MOST_SEED, SemanticIdTokenizer
from semid.tokenizers.codebooks import MovingAverages, forget_moments, restart_unused
from semid.tokenizers.collapse import (
    CollapseReport,
    collapse_warning,
    collapses,
    perplexity,
    utilisation,
)
from semid.tokenizers.estimators import Batch, StraightThrough
from semid.tokenizers.kmeans import require_distinct, require_spread
from semid.tokenizers.residual import codebooks_of, residual_codes, residual_costs
from semid.tokenizers.starts import STARTS, start_codebooks

__all__ = ["CODEBOOK_UPDATES", "AuxiliaryLosses", "Quantised", "ResidualVQ"]

logger = logging.getLogger(__name__)

CODEBOOK_UPDATES = ("gradient", "ema")
"""How codewords are updated: by the gradient of the loss, or as averages of their items."""

_ALARM_AT = 0.2  # share of the epochs after which levels are checked for collapse


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A batch after the quantiser.

    Attributes:
        output: float32 ``(item, dim)``, sum of the codewords with the estimator's gradient.
        loss: Scalar, the quantiser's loss summed over the items.
        codes: Per level, int64 ``(item,)``.
        residuals: Per level, float32 ``(item, dim)``: the level's inputs; no gradient.
    """

    output: Tensor
    loss: Tensor
    codes: list[Tensor]
    residuals: list[Tensor]


class AuxiliaryLosses:
    """Terms that a scheme adds to reconstruction and quantisation; none here."""

    def parameters(self) -> list[Tensor]:
        """Parameters trained only for these terms, and not saved."""
        return []

    def begin_epoch(self, codebooks: Sequence[Tensor]) -> None:
        """Called before each epoch."""

    def of_batch(self, batch: Batch, quantised: Quantised, codebooks: Sequence[Tensor]) -> Tensor:
        """The weighted terms, summed over the items, as a scalar."""
        return quantised.output.new_zeros(())


@dataclass(kw_only=True, eq=False)
class ResidualVQ(SemanticIdTokenizer):
    """Residual quantisation of latents, with codebooks and networks trained in mini-batches.

    A scheme implements `_scaling`, and overrides `_networks`, `_latents` and `_decoded` unless the
    inputs are quantised directly.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    codebook_update: str = "gradient"
    ema_decay: float = 0.99
    start: str = "kmeans"
    epochs: int = 150
    batch_size: int = 1024
    learning_rate: float = 1e-3
    restart_every: int = 5
    kmeans_iterations: int = 10
    seed: int = 0
    on_epoch: Callable[[dict[str, Any]], None] | None = field(default=None, init=False, repr=False)
    history_: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        require_sizes("codebook_sizes", self.codebook_sizes)
        require_choice("codebook_update", self.codebook_update, CODEBOOK_UPDATES)
        require_real("ema_decay", self.ema_decay, low=0, below=1)
        require_choice("start", self.start, STARTS)
        require_int("epochs", self.epochs, 0)
        require_int("batch_size", self.batch_size, 1)
        require_real("learning_rate", self.learning_rate, above=0)
        require_int("restart_every", self.restart_every, 1)
        require_int("kmeans_iterations", self.kmeans_iterations, 0)
        require_int("seed", self.seed, 0, MOST_SEED)

    @abstractmethod
    def _scaling(self, embeddings: Tensor) -> dict[str, Tensor]:
        """``mean``, and ``std`` if inputs are divided by it, float32 ``(dim,)``."""

    def _networks(self, dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights to train along with the codebooks, for inputs of width ``dim``."""
        return {}

    def _latents(self, inputs: Tensor, learned: dict[str, Tensor]) -> Tensor:
        """The latents to be quantised, float32 ``(item, latent)``."""
        return inputs

    def _decoded(self, quantised: Tensor, learned: dict[str, Tensor]) -> Tensor:
        """Inputs reconstructed from the quantised latents, float32 ``(item, dim)``."""
        return quantised

    def _estimator(self) -> StraightThrough:
        return StraightThrough()

    def _commitment(self) -> float:
        """Weight of the commitment term."""
        return 0.0

    def _auxiliary_losses(self, cf_embeddings: Tensor | None) -> AuxiliaryLosses:
        return AuxiliaryLosses()

    def _choose(
        self, level: int, residual: Tensor, codebook: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Code of each item at a level, and its contribution to the quantised latent."""
        return self._estimator().choose(residual, codebook, batch)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        require_spread(embeddings)
        require_distinct(
            embeddings, self.codebook_sizes
        )  # latents of equal texts may differ by rounding
        more = self._auxiliary_losses(cf_embeddings)
        generator = torch.Generator().manual_seed(self.seed)
        learned = self._scaling(embeddings)
        inputs = _scaled(embeddings, learned)
        networks = self._networks(inputs.shape[1], generator)
        learned |= {name: value.to(inputs.device) for name, value in networks.items()}
        latents = self._latents(inputs, learned)
        sizes, rounds = self.codebook_sizes, self.kmeans_iterations
        codebooks = start_codebooks(self.start, latents, sizes, iterations=rounds, seed=self.seed)
        learned |= {f"codebook.{level}": codebook for level, codebook in enumerate(codebooks)}
        self._train(inputs, learned, more, generator)
        return learned

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        latents = self._latents(_scaled(embeddings, learned), learned)
        return residual_codes(latents, codebooks_of(learned))

    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        latents = self._latents(_scaled(embeddings, learned), learned)
        return residual_costs(latents, prefix, codebooks_of(learned))

    def _train(
        self,
        inputs: Tensor,
        learned: dict[str, Tensor],
        more: AuxiliaryLosses,
        generator: torch.Generator,
    ) -> None:
        codebooks = codebooks_of(learned)
        averages: MovingAverages | None = None
        trained = {name: value for name, value in learned.items() if name not in ("mean", "std")}
        if self.codebook_update == "ema":
            size = min(self.batch_size, len(inputs))
            averages = MovingAverages(codebooks, decay=self.ema_decay, batch_size=size)
            trained = {
                name: value for name, value in trained.items() if not name.startswith("codebook.")
            }
        parameters = [*trained.values(), *more.parameters()]
        for parameter in parameters:
            parameter.requires_grad_()
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate) if parameters else None
        self.history_ = []
        for epoch in range(1, self.epochs + 1):
            more.begin_epoch([codebook.detach() for codebook in codebooks])
            counts = [
                torch.zeros(len(codebook), dtype=torch.int64, device=inputs.device)
                for codebook in codebooks
            ]
            sums = torch.zeros(2, dtype=torch.float64)
            order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
            for rows in torch.split(order, self.batch_size):
                batch = Batch(
                    rows=rows,
                    inputs=inputs[rows],
                    progress=(epoch - 1) / self.epochs,
                    generator=generator,
                )
                quantised, losses = self._step(batch, learned, more, optimizer)
                if averages is not None:
                    averages.update(quantised.codes, quantised.residuals)
                sums += losses
                for level, codes in enumerate(quantised.codes):
                    counts[level] += torch.bincount(codes, minlength=len(counts[level]))
            if epoch % self.restart_every == 0 and epoch <= 0.75 * self.epochs:
                self._restart(inputs, learned, optimizer, averages, generator)
            if epoch == max(1, round(_ALARM_AT * self.epochs)):
                self._warn_of_collapse(
                    inputs,
                    counts,
                    standardised="std" in learned,
                    has_optimizer=optimizer is not None,
                )
            self._log_epoch(epoch, sums / torch.tensor([len(inputs), inputs.numel()]), counts)
        for parameter in parameters:
            parameter.requires_grad_(False)

    def _step(
        self,
        batch: Batch,
        learned: dict[str, Tensor],
        more: AuxiliaryLosses,
        optimizer: torch.optim.Optimizer | None,
    ) -> tuple[Quantised, Tensor]:
        """One step; the quantised batch, and its loss and squared error, float64 ``(2,)``."""
        codebooks = codebooks_of(learned)
        quantised = self._quantise(self._latents(batch.inputs, learned), codebooks, batch)
        decoded = self._decoded(quantised.output, learned)
        error = (batch.inputs - decoded).square().sum()
        loss = error + quantised.loss + more.of_batch(batch, quantised, codebooks)
        loss = loss / len(batch.rows)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses = [float(loss.detach()) * len(batch.rows), float(error.detach())]
        return quantised, torch.tensor(losses, dtype=torch.float64)

    def _quantise(self, latent: Tensor, codebooks: Sequence[Tensor], batch: Batch) -> Quantised:
        """Choose a code at each level for the residual of the previous levels."""
        residual, output = latent, torch.zeros_like(latent)
        loss = latent.new_zeros(())
        chosen: list[Tensor] = []
        given: list[Tensor] = []
        for level, codebook in enumerate(codebooks):
            codes, part = self._choose(level, residual, codebook, batch)
            codeword = F.embedding(codes, codebook)
            chosen.append(codes)
            given.append(residual.detach())
            if codebook.requires_grad:
                loss = loss + (residual.detach() - codeword).square().sum()
            if self._commitment():
                commitment = (residual - codeword.detach()).square().sum()
                loss = loss + self._commitment() * commitment
            residual = residual - codeword.detach()
            output = output + part
        output = self._estimator().join(latent, output)
        return Quantised(output=output, loss=loss, codes=chosen, residuals=given)

    def _restart(
        self,
        inputs: Tensor,
        learned: dict[str, Tensor],
        optimizer: torch.optim.Optimizer | None,
        averages: MovingAverages | None,
        generator: torch.Generator,
    ) -> None:
        codebooks = codebooks_of(learned)
        with torch.no_grad():
            moved = restart_unused(self._latents(inputs, learned), codebooks, generator)
        for level, codes in enumerate(moved):
            if averages is not None:
                averages.restart(level, codes)
            elif optimizer is not None:
                forget_moments(optimizer, codebooks[level], codes)

    def _warn_of_collapse(
        self, inputs: Tensor, counts: Sequence[Tensor], *, standardised: bool, has_optimizer: bool
    ) -> None:
        collapsed = [level for level, used in enumerate(counts) if collapses(used)]
        if not collapsed:
            return
        report = CollapseReport(
            items=len(inputs),
            distinct=len(torch.unique(inputs, dim=0)),
            restart_every=self.restart_every,
            restarts=int(0.75 * self.epochs) // self.restart_every,
            learning_rate=self.learning_rate if has_optimizer else None,
            standardised=standardised,
        )
        for level in collapsed:
            warning = collapse_warning(level, counts[level], report)
            logger.warning("%s: %s", type(self).__name__, warning)

    def _log_epoch(self, epoch: int, means: Tensor, counts: Sequence[Tensor]) -> None:
        loss, reconstruction = means.tolist()
        entry = {
            "epoch": epoch,
            "epochs": self.epochs,
            "loss": loss,
            "reconstruction": reconstruction,
            "utilisation": [utilisation(level) for level in counts],
            "perplexity": [perplexity(level) for level in counts],
        }
        self.history_.append(entry)
        logger.info(
            "%s epoch %d of %d: loss %.4f, reconstruction %.4f, codes used %s",
            type(self).__name__,
            epoch,
            self.epochs,
            loss,
            reconstruction,
            ", ".join(f"{utilisation(level):.0%}" for level in counts),
        )
        if self.on_epoch is not None:
            self.on_epoch(entry)


def _scaled(embeddings: Tensor, scaling: dict[str, Tensor]) -> Tensor:
    centred = embeddings - scaling["mean"]
    return centred / scaling["std"] if "std" in scaling else centred
