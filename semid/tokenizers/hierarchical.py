"""Hierarchical k-means: a separate codebook below every prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semid.checks import require_int, require_sizes
from semid.tokenizers.base import MOST_SEED, SemanticIdTokenizer
from semid.tokenizers.content import row_hashes
from semid.tokenizers.kmeans import (
    kmeans,
    mean_of,
    nearest,
    require_distinct,
    require_spread,
    squared_distances,
)

__all__ = ["HierarchicalKMeans"]


@dataclass(kw_only=True, eq=False)
class HierarchicalKMeans(SemanticIdTokenizer):
    """K-means on all items, then within each cluster, once for each level.

    The tree of Nister and Stewenius, "Scalable recognition with a vocabulary tree", CVPR 2006,
    section 3. Equal codes below different prefixes are unrelated. A node with fewer distinct items
    than codes gives each its own, using only the lowest codes, so no level takes more memory than
    the embeddings.

    Attributes:
        codebook_sizes: Number of codewords per node of each level. The first is at most the number
            of distinct items.
        iterations: Lloyd iterations per node.
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
        require_spread(embeddings)
        mean = mean_of(embeddings)
        vectors = embeddings - mean
        require_distinct(vectors, self.codebook_sizes[:1])
        learned, hashes = {"mean": mean}, row_hashes(vectors)
        node = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
        codewords = torch.zeros_like(mean)[None]  # of the root
        for level, size in enumerate(self.codebook_sizes):
            codebooks = list(
                torch.split(codewords, 1)
            )  # for codes without items, the parent's own codeword
            codes = torch.empty_like(node)
            for place, rows in _rows_of_nodes(node):
                codebooks[place] = self._codebook(vectors[rows], hashes[rows], size, level)
                codes[rows] = nearest(vectors[rows], codebooks[place])
            sizes = torch.tensor([0, *map(len, codebooks)], device=vectors.device)
            first, codewords = sizes.cumsum(0), torch.cat(codebooks)
            learned |= {f"codewords.{level}": codewords, f"first.{level}": first}
            node = first[node] + codes
        return learned

    def _codebook(self, vectors: Tensor, hashes: Tensor, size: int, level: int) -> Tensor:
        found, group = torch.unique(hashes, return_inverse=True)
        if len(found) > size:
            return kmeans(vectors, size, iterations=self.iterations, seed=self.seed + level)
        codebook = vectors.new_empty(len(found), vectors.shape[1])
        codebook[group] = vectors  # rows of a group are equal, so any may be the last written
        return codebook

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        vectors = embeddings - learned["mean"]
        node = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
        codes = []
        for level in range(len(self.codebook_sizes)):
            first, codewords = learned[f"first.{level}"], learned[f"codewords.{level}"]
            codes.append(torch.empty_like(node))
            for place, rows in _rows_of_nodes(node):
                codebook = codewords[first[place] : first[place + 1]]
                codes[-1][rows] = nearest(vectors[rows], codebook)
            node = first[node] + codes[-1]
        return torch.stack(codes, dim=1)

    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        """An unused code is reconstructed as its prefix."""
        vectors = embeddings - learned["mean"]
        node = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
        known, reconstructed = torch.ones_like(node, dtype=torch.bool), torch.zeros_like(vectors)
        for level in range(prefix.shape[1]):
            first, codewords = learned[f"first.{level}"], learned[f"codewords.{level}"]
            flat = first[node] + prefix[:, level]
            known &= flat < first[node + 1]
            node = torch.where(known, flat, 0)
            reconstructed = torch.where(known[:, None], codewords[node], reconstructed)
        level = prefix.shape[1]
        first, codewords = learned[f"first.{level}"], learned[f"codewords.{level}"]
        costs = (vectors - reconstructed).square().sum(dim=1, keepdim=True)
        costs = costs.repeat(1, self.codebook_sizes[level])
        item = known.nonzero()[:, 0]
        for place, rows in _rows_of_nodes(node[item]):
            codebook = codewords[first[place] : first[place + 1]]
            costs[item[rows], : len(codebook)] = squared_distances(vectors[item[rows]], codebook)
        return costs


def _rows_of_nodes(node: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each node with items, and their rows."""
    places, counts = torch.unique(node, return_counts=True)
    rows = torch.split(torch.argsort(node, stable=True), counts.tolist())
    return zip(places.tolist(), rows, strict=True)
