"""Product quantisation: an independent code for each part of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semid.checks import require_int, require_sizes
from semid.tokenizers.base import MOST_SEED, SemanticIdTokenizer
from semid.tokenizers.kmeans import (
    CHUNK,
    cluster_means,
    kmeans,
    mean_of,
    nearest,
    require_distinct,
    require_spread,
    row_chunks,
    squared_distances,
)
from semid.tokenizers.residual import codebooks_of

__all__ = ["OPQ", "PQ"]


@dataclass(kw_only=True, eq=False)
class PQ(SemanticIdTokenizer):
    """Splits the embedding into one part per level and runs k-means on each.

    Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011,
    section II-B. No level is coarser than another, so a shared prefix is less informative than with
    residual codes. Parts are equally wide or, if their number does not divide the width, differ by
    one dimension, the wider first. Sizes need not be powers of two or equal.

    Attributes:
        codebook_sizes: Number of codewords per part, at most its number of distinct values.
        iterations: Lloyd iterations per part.
        seed: Of the random starts; level ``l`` uses ``seed + l``.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    iterations: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        require_sizes("codebook_sizes", self.codebook_sizes)
        require_int("iterations", self.iterations, 1)
        require_int("seed", self.seed, 0, MOST_SEED)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        if embeddings.shape[1] < len(self.codebook_sizes):
            raise ValueError(
                f"expected embeddings at least as wide as there are levels, got "
                f"{embeddings.shape[1]} dimensions for codebook sizes {self.codebook_sizes}. "
                "Choose fewer levels, or wider embeddings."
            )
        require_spread(embeddings)
        learned = {"mean": mean_of(embeddings)}
        return learned | _named(self._codebooks(self._parts(embeddings, learned)))

    def _codebooks(self, parts: Sequence[Tensor]) -> list[Tensor]:
        codebooks = []
        for level, (part, size) in enumerate(zip(parts, self.codebook_sizes, strict=True)):
            part, what = part.contiguous(), f"values at level {level}'s part of embeddings"
            require_distinct(part, (size,), what=what)
            require_spread(part, what=what)
            codebooks.append(kmeans(part, size, iterations=self.iterations, seed=self.seed + level))
        return codebooks

    def _parts(self, embeddings: Tensor, learned: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views ``(item, width)`` of the centred and, if learned, rotated embeddings."""
        centred = embeddings - learned["mean"]
        if "rotation" in learned:
            turned = [part @ learned["rotation"] for part in row_chunks(centred)]
            centred = torch.cat(turned)[: len(embeddings)]
        return centred.tensor_split(len(self.codebook_sizes), dim=1)

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        codebooks = codebooks_of(learned)
        found = [
            _nearest_of_each(self._parts(rows, learned), codebooks)
            for rows in torch.split(embeddings, CHUNK)
        ]
        return torch.cat(found)

    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        parts, codebooks = self._parts(embeddings, learned), codebooks_of(learned)
        level = prefix.shape[1]
        costs = squared_distances(parts[level], codebooks[level])
        for before in range(level):
            chosen = codebooks[before][prefix[:, before]]
            costs += (parts[before] - chosen).square().sum(dim=1, keepdim=True)
        return costs


@dataclass(kw_only=True, eq=False)
class OPQ(PQ):
    """`PQ` after a rotation that reduces its error.

    Ge, He, Ke and Sun, "Optimized product quantization", TPAMI 2014. The rotation starts from
    principal directions allocated to the parts (section 3.2, eigenvalue allocation by the sum of
    logarithms) and is then alternated with the codebooks (section 3.1): the orthogonal matrix that
    best maps the embeddings to their reconstructions, then one step of k-means.

    Attributes:
        rotations: Number of alternations.
    """

    rotations: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("rotations", self.rotations, 0)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        learned = super()._fit(embeddings, cf_embeddings)  # refuses what PQ refuses
        learned["rotation"] = _dealt_directions(
            embeddings, learned["mean"], len(self.codebook_sizes)
        )
        codebooks = self._codebooks(self._parts(embeddings, learned))
        for _ in range(self.rotations):
            parts = self._parts(embeddings, learned)
            codes = _nearest_of_each(parts, codebooks)
            codebooks = [
                cluster_means(part, codes[:, level], codebooks[level])
                for level, part in enumerate(parts)
            ]
            learned["rotation"] = _towards(embeddings, learned["mean"], codes, codebooks)
        return learned | _named(codebooks)


def _named(codebooks: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"codebook.{level}": codebook for level, codebook in enumerate(codebooks)}


def _nearest_of_each(parts: Sequence[Tensor], codebooks: Sequence[Tensor]) -> Tensor:
    found = [nearest(part, codebook) for part, codebook in zip(parts, codebooks, strict=True)]
    return torch.stack(found, dim=1)


def _dealt_directions(embeddings: Tensor, mean: Tensor, levels: int) -> Tensor:
    """Principal directions as columns, each allocated to the non-full part of least variance.

    The variance of a part is the product over its directions (a sum of logarithms), with which a
    quantiser's error grows.
    """
    dim = len(mean)
    moments = torch.zeros(dim, dim, dtype=torch.float64, device=mean.device)
    for rows in torch.split(embeddings, CHUNK):
        centred = (rows - mean).double()
        moments += centred.T @ centred
    values, directions = torch.linalg.eigh(moments)
    floor = values[-1].clamp_min(torch.finfo(torch.float64).tiny) * 1e-12
    logs = values.clamp_min(floor).log() - floor.log()  # at least 0, so that each adds to its part
    room = [len(part) for part in torch.arange(dim).tensor_split(levels)]
    dealt: list[list[int]] = [[] for _ in room]
    total = [0.0] * levels
    for direction in reversed(range(dim)):
        open_parts = [part for part in range(levels) if len(dealt[part]) < room[part]]
        part = min(open_parts, key=total.__getitem__)
        dealt[part].append(direction)
        total[part] += float(logs[direction])
    order = [direction for part in dealt for direction in part]
    dealt_out: Tensor = directions[:, order]
    return dealt_out.float()


def _towards(
    embeddings: Tensor, mean: Tensor, codes: Tensor, codebooks: Sequence[Tensor]
) -> Tensor:
    """The orthogonal matrix that best maps embeddings to their codewords (Procrustes)."""
    dim = len(mean)
    products = torch.zeros(dim, dim, dtype=torch.float64, device=mean.device)
    for rows, rows_codes in zip(
        torch.split(embeddings, CHUNK), torch.split(codes, CHUNK), strict=True
    ):
        codewords = [book[rows_codes[:, level]] for level, book in enumerate(codebooks)]
        products += (rows - mean).double().T @ torch.cat(codewords, dim=1).double()
    left, _, right = torch.linalg.svd(products)
    nearest_rotation: Tensor = left @ right
    return nearest_rotation.float()
