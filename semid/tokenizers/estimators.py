"""Gradient estimators for code selection: straight-through, rotation, and Gumbel-softmax."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.checks import require_real
from semid.tokenizers.kmeans import squared_distances
from semid.tokenizers.residual import nearest

__all__ = [
    "ESTIMATORS",
    "Batch",
    "Gumbel",
    "Rotation",
    "StraightThrough",
    "estimator_of",
    "require_temperatures",
    "rotate",
]

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The items of one training step.

    Attributes:
        rows: int64 ``(item,)``, rows of the catalogue.
        inputs: float32 ``(item, dim)`` of these rows.
        progress: Completed share of the training, from 0 to 1.
        generator: Source of the batch's random draws, on the CPU.
    """

    rows: Tensor
    inputs: Tensor
    progress: float
    generator: torch.Generator

    def uniform(self, num_codes: int) -> Tensor:
        """Uniform draws in [0, 1), float32 ``(item, code)``."""
        drawn = torch.rand(len(self.rows), num_codes, generator=self.generator)
        return drawn.to(self.inputs.device)


class StraightThrough:
    """The gradient passes as if the quantiser were the identity (van den Oord et al. 2017, 3.2)."""

    def choose(self, residual: Tensor, codebook: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Code of each item at one level, and its contribution to the quantised latent.

        Args:
            residual: float32 ``(item, dim)``, with its gradient.
            codebook: float32 ``(code, dim)``, with its gradient.
            batch: The batch of these items.

        Returns:
            int64 ``(item,)`` and float32 ``(item, dim)``.
        """
        codes = nearest(residual.detach(), codebook.detach())
        return codes, F.embedding(codes, codebook.detach())

    def join(self, latent: Tensor, quantised: Tensor) -> Tensor:
        """The quantised latent, with the gradient that reaches the encoder."""
        return latent + (quantised - latent).detach()


class Rotation(StraightThrough):
    """The gradient is rotated and scaled like the latent (Fifty et al., arXiv:2410.06424)."""

    def join(self, latent: Tensor, quantised: Tensor) -> Tensor:
        """``lambda R e`` for the latent ``e``, see `rotate`; its value is ``quantised``."""
        turned = rotate(latent, quantised.detach())
        return turned + (quantised - turned).detach()


@dataclass(frozen=True, kw_only=True)
class Gumbel(StraightThrough):
    """Codes sampled by distance, with the gradient of a softmax (Jang et al. 2017, 2.2).

    The straight-through form of arXiv:1611.01144: forward, the codeword of
    ``argmax_k (g_k - d_k / s)`` with Gumbel noise ``g`` and squared distances ``d``; backward,
    ``softmax((g - d / s) / temperature)``. ``s`` is the mean squared distance of the batch's
    items to their nearest codewords, so that the noise matches the quantisation error at any scale
    of the latents. The temperature falls geometrically over the training.

    Attributes:
        start: Temperature at the beginning.
        end: Temperature at the end.
    """

    start: float
    end: float

    def temperature(self, progress: float) -> float:
        """``start^(1 - progress) * end^progress``."""
        return float(self.start ** (1 - progress) * self.end**progress)

    def choose(self, residual: Tensor, codebook: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in `StraightThrough`, but sampled; the codeword carries the softmax's gradient."""
        distances = squared_distances(residual, codebook)
        uniform = batch.uniform(len(codebook)).clamp_min(_TINY)
        noise = -(-uniform.log()).clamp_min(_TINY).log()
        nearest_ones = distances.detach().amin(dim=1)
        scale = nearest_ones.sum() / max(len(nearest_ones), 1) + _TINY
        scores = noise - distances / scale
        soft = (scores / self.temperature(batch.progress)).softmax(dim=1)
        codes = scores.detach().argmax(dim=1)
        hard = F.one_hot(codes, len(codebook)).to(soft.dtype)
        return codes, (hard + soft - soft.detach()) @ codebook

    def join(self, latent: Tensor, quantised: Tensor) -> Tensor:
        """The unchanged sum of codewords: each has its own gradient."""
        return quantised


ESTIMATORS = ("straight_through", "rotation", "gumbel")
"""Names of the estimators."""


def estimator_of(name: str, temperatures: tuple[float, float]) -> StraightThrough:
    """The estimator with a given name.

    Args:
        name: One of `ESTIMATORS`.
        temperatures: First and last temperature of the Gumbel-softmax; see `require_temperatures`.
    """
    if name == "gumbel":
        return Gumbel(start=temperatures[0], end=temperatures[1])
    return Rotation() if name == "rotation" else StraightThrough()


def require_temperatures(temperatures: object) -> None:
    """Require a first and a last temperature above 0.

    Raises:
        ValueError: If there are not two, or one is not such a number.
    """
    if not isinstance(temperatures, (list, tuple)) or len(temperatures) != 2:
        raise ValueError(f"temperatures must be two numbers, got {temperatures!r}")
    for place, temperature in enumerate(temperatures):
        require_real(f"temperatures[{place}]", temperature, above=0)


def rotate(vectors: Tensor, targets: Tensor) -> Tensor:
    """``(|q| / |e|) R e`` with the rotation ``R`` that takes ``e``'s direction to ``q``'s.

    ``R = I - 2 r r' + 2 q^ e^'`` with ``r = (e^ + q^) / |e^ + q^|`` and ``e^``, ``q^`` of length 1,
    all treated as constants by the gradient (arXiv:2410.06424, section 4.2 and equation 1). Equal
    to ``targets`` up to rounding. If ``e`` and ``q`` are opposite or one is zero, the rotation is
    undefined; the gradient is then scaled, mirrored or zero, and finite.

    Args:
        vectors: float32 ``(item, dim)``, ``e``.
        targets: float32 ``(item, dim)``, ``q``; a constant.

    Returns:
        float32 ``(item, dim)``.
    """
    source, target = F.normalize(vectors.detach(), dim=1), F.normalize(targets, dim=1)
    between = F.normalize(source + target, dim=1)
    length = vectors.detach().norm(dim=1, keepdim=True).clamp_min(_TINY)
    scale = targets.norm(dim=1, keepdim=True) / length
    mirrored = 2 * between * (between * vectors).sum(dim=1, keepdim=True)
    turned = vectors - mirrored + 2 * target * (source * vectors).sum(dim=1, keepdim=True)
    rotated: Tensor = scale * turned
    return rotated
