"""LETTER's two auxiliary losses: collaborative alignment and code diversity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers.clustering import bounded_kmeans
from semid.tokenizers.estimators import Batch
from semid.tokenizers.training import AuxiliaryLosses, Quantised

__all__ = ["LetterLosses", "cluster_codes", "collaborative_loss", "diversity_loss", "other_codes"]

_CLUSTER_ITERATIONS = 5


def collaborative_loss(quantised: Tensor, candidates: Tensor, targets: Tensor) -> Tensor:
    """``-sum_i log softmax_j(z_i . h_j)[i]`` over the batch's items ``j``.

    Plain dot products, as in arXiv:2405.07314, section 3.2.2, and its code: no temperature, no
    normalisation.

    Args:
        quantised: float32 ``(item, dim)``, quantised latents ``z``.
        candidates: float32 ``(candidate, dim)``, collaborative vectors ``h`` of the batch.
        targets: int64 ``(item,)``, the candidate that is the item itself.

    Returns:
        Scalar, the sum over the items.
    """
    return F.cross_entropy(quantised @ candidates.T, targets, reduction="sum")


def diversity_loss(codewords: Tensor, codebook: Tensor, codes: Tensor, positives: Tensor) -> Tensor:
    """``-sum_i log softmax_k(e_i . e_k)[positive]`` over codes ``k`` except the item's own.

    It pulls a codeword towards another of its group and away from the rest (arXiv:2405.07314,
    section 3.2.3; the softmax excludes the code itself, as in the paper's code).

    Args:
        codewords: float32 ``(item, dim)``, codewords of the items' codes.
        codebook: float32 ``(code, dim)``.
        codes: int64 ``(item,)``, the items' codes.
        positives: int64 ``(item,)``, never equal to ``codes``; -1 leaves an item out.

    Returns:
        Scalar, the sum over the items.
    """
    logits = codewords @ codebook.T
    logits = logits.scatter(1, codes[:, None], float("-inf"))
    return F.cross_entropy(logits, positives, reduction="sum", ignore_index=-1)


def cluster_codes(codebook: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """Group of each code, int64 ``(code,)``, by k-means with bounded sizes.

    A group has between half and twice an equal share of the codes, and at least two (paper's code:
    10 to 60 of 256 codes in 10 groups). There are never more groups than half the codes.
    """
    size = len(codebook)
    clusters = max(1, min(num_clusters, size // 2))
    even = size / clusters
    _, cluster = bounded_kmeans(
        codebook,
        clusters,
        smallest=min(max(2, int(even / 2)), size),
        largest=int(2 * even) + 1,
        iterations=_CLUSTER_ITERATIONS,
        generator=generator,
    )
    return cluster


def other_codes(codes: Tensor, group_of_code: Tensor, uniform: Tensor) -> Tensor:
    """Another code of the same group for each item, drawn uniformly.

    Args:
        codes: int64 ``(item,)``.
        group_of_code: int64 ``(code,)``.
        uniform: Draws in [0, 1), ``(item,)``.

    Returns:
        int64 ``(item,)``; -1 if a code is alone in its group.
    """
    members = group_of_code.argsort(stable=True)  # grouped
    sizes = torch.bincount(group_of_code)
    starts = sizes.cumsum(dim=0) - sizes
    place = torch.empty_like(members)
    place[members] = torch.arange(len(members), device=members.device)
    groups = group_of_code[codes]
    others = sizes[groups] - 1
    steps = 1 + (uniform * others).long().minimum(others - 1)
    within = (place[codes] - starts[groups] + steps) % sizes[groups]
    return torch.where(others > 0, members[starts[groups] + within], -1)


class LetterLosses(AuxiliaryLosses):
    """``cf_weight L_CF + diversity_weight sum_l L_div`` of a batch.

    Args:
        cf_embeddings: float32 ``(item, cf_dim)`` of all items, frozen; None if ``cf_weight`` is 0.
            Items with an all-zero vector have no collaborative signal and are excluded.
        latent_dim: Width of the latents. If ``cf_dim`` differs, quantised latents are mapped by a
            learned linear layer first.
        cf_weight: Weight of the collaborative loss.
        diversity_weight: Weight of the diversity loss.
        num_clusters: Number of groups of each level's codes.
        seed: Seed of the linear map, the groups and the codes drawn from them.
    """

    def __init__(
        self,
        cf_embeddings: Tensor | None,
        *,
        latent_dim: int,
        cf_weight: float,
        diversity_weight: float,
        num_clusters: int,
        seed: int,
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._cf = cf_embeddings
        self._cf_weight = cf_weight
        self._diversity_weight = diversity_weight
        self._num_clusters = num_clusters
        self._groups: list[Tensor] = []
        self._map: Tensor | None = None
        if cf_embeddings is not None:
            self._has_cf = cf_embeddings.ne(0).any(dim=1)
            cf_dim = cf_embeddings.shape[1]
            if cf_dim != latent_dim:
                bound = latent_dim**-0.5
                start = torch.empty(latent_dim, cf_dim)
                start.uniform_(-bound, bound, generator=self._generator)
                self._map = start.to(cf_embeddings.device)

    def parameters(self) -> list[Tensor]:
        """The linear map from latents to collaborative vectors, if there is one."""
        return [] if self._map is None else [self._map]

    def begin_epoch(self, codebooks: Sequence[Tensor]) -> None:
        """Regroup the codes of each level."""
        if self._diversity_weight:
            self._groups = [
                cluster_codes(codebook, self._num_clusters, self._generator)
                for codebook in codebooks
            ]

    def of_batch(self, batch: Batch, quantised: Quantised, codebooks: Sequence[Tensor]) -> Tensor:
        """The weighted losses, summed over the items."""
        loss = quantised.output.new_zeros(())
        if self._cf is not None and self._cf_weight:
            loss = loss + self._cf_weight * self._collaborative(self._cf, batch, quantised)
        if self._diversity_weight:
            loss = loss + self._diversity_weight * self._diversity(batch, quantised, codebooks)
        return loss

    def _collaborative(self, cf: Tensor, batch: Batch, quantised: Quantised) -> Tensor:
        known = self._has_cf[batch.rows]
        outputs = quantised.output[known]
        if self._map is not None:
            outputs = outputs @ self._map
        candidates = cf[batch.rows[known]]
        own = torch.arange(len(candidates), device=candidates.device)
        return collaborative_loss(outputs, candidates, own)

    def _diversity(self, batch: Batch, quantised: Quantised, codebooks: Sequence[Tensor]) -> Tensor:
        loss = quantised.output.new_zeros(())
        drawn = torch.rand(len(codebooks), len(batch.rows), generator=self._generator)
        for codes, codebook, groups, uniform in zip(
            quantised.codes, codebooks, self._groups, drawn.to(loss.device), strict=True
        ):
            positives = other_codes(codes, groups, uniform)
            codewords = F.embedding(codes, codebook)
            loss = loss + diversity_loss(codewords, codebook, codes, positives)
        return loss
