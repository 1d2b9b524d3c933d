"""Residual quantisation: a vector as a sum of codewords, each coding the previous residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from semid.tokenizers.balanced import balanced_kmeans
from semid.tokenizers.kmeans import (
    CHUNK,
    TILE,
    Scores,
    argmin,
    kmeans,
    nearest,
    require_distinct,
    row_chunks,
    squared_distances,
)

__all__ = [
    "balanced_residual_kmeans",
    "codebooks_of",
    "level_by_level",
    "nearest",
    "reconstruct",
    "residual_codes",
    "residual_costs",
    "residual_kmeans",
]


@torch.no_grad()
def residual_codes(
    vectors: Tensor,
    codebooks: Sequence[Tensor],
    *,
    beam: int = 1,
    prices: Sequence[Tensor] | None = None,
) -> Tensor:
    """Quantise level by level, each time what the levels before left over.

    ``c[l] = argmin_k ||r[l] - e[l, k]||^2`` and ``r[l + 1] = r[l] - e[l, c[l]]`` with ``r[0]`` the
    vector (TIGER, arXiv:2305.05065, section 3.1).

    A larger beam keeps that many prefixes at each level, those of the least squared residual, and
    returns the path that leaves least over in the end: Babenko and Lempitsky, "Additive
    quantization for extreme vector compression", CVPR 2014, section 3, on residual codebooks, as
    in ``faiss.ResidualQuantizer``. Time grows with the beam. A beam of as many as there are
    prefixes finds the best path of all. Ties go to the lowest code of the lowest prefix.

    Args:
        vectors: float32 ``(item, dim)``.
        codebooks: Per level, float32 ``(code, dim)``.
        beam: Prefixes kept; 1 is the greedy rule above.
        prices: Per level, float32 ``(code,)``, added to the squared distances of the greedy rule;
            see `semid.tokenizers.balanced.balanced_kmeans`.

    Returns:
        int64 ``(item, level)``.

    Raises:
        ValueError: If the beam is below 1, or above 1 with prices.
    """
    if beam < 1 or (beam > 1 and prices is not None):
        limit = "1 with prices, which hold for the greedy rule alone" if prices else "at least 1"
        raise ValueError(f"expected a beam of {limit}, got {beam}. Choose beam=1.")
    offsets = [codebook.square().sum(dim=1) for codebook in codebooks]
    if prices is not None:
        offsets = [norms + price for norms, price in zip(offsets, prices, strict=True)]
    levels = [(codebook, norms / 2) for codebook, norms in zip(codebooks, offsets, strict=True)]
    rows = max(CHUNK // beam // TILE, 1) * TILE
    room = Scores(vectors)
    found = [_chunk_codes(part, levels, beam, room) for part in row_chunks(vectors, rows)]
    return torch.cat(found)[: len(vectors)]


def _chunk_codes(
    part: Tensor, levels: Sequence[tuple[Tensor, Tensor]], beam: int, room: Scores
) -> Tensor:
    """Codes of one chunk; ``residual`` is ``(item, prefix, dim)``, ``paths`` its prefixes."""
    residual = part[:, None]
    paths = torch.empty(len(part), 1, 0, dtype=torch.int64, device=part.device)
    item = torch.arange(len(part), device=part.device)[:, None]
    for level, (codebook, offsets) in enumerate(levels):
        width, size, last = residual.shape[1], len(codebook), level == len(levels) - 1
        scores = room.of(residual.flatten(0, 1), codebook, offsets)
        spent = residual.square().sum(dim=2) / 2 if width > 1 else 0
        kept = _least(scores.view(len(part), width, size), spent, 1 if last else beam)
        if width == 1:
            paths = paths.expand(-1, kept.shape[1], -1)
        else:
            prefix = torch.div(kept, size, rounding_mode="floor")
            kept = kept - size * prefix
            paths = paths[item, prefix]
            if not last:
                flat = (item * width + prefix).flatten()
                residual = residual.flatten(0, 1).index_select(0, flat).view(*kept.shape, -1)
        paths = torch.cat([paths, kept[:, :, None]], dim=2)
        if not last:
            words = codebook.index_select(0, kept.flatten()).view(*kept.shape, -1)
            residual = torch.sub(residual, words, out=words)
    return paths[:, 0]


def _least(scores: Tensor, spent: Tensor | int, count: int) -> Tensor:
    """The ``count`` smallest of each item, as ``size * prefix + code``, ascending; first of ties.

    Finds the minimum of each prefix once, and recomputes it whenever one is taken: less work than
    ``topk``, whose choice among ties is undefined.

    Args:
        scores: float32 ``(item, prefix, code)``; overwritten.
        spent: Constant added to all scores of a prefix, ``(item, prefix)`` or one number.
        count: Number of results; all if there are fewer.

    Returns:
        int64 ``(item, count)``.
    """
    items, width, size = scores.shape
    if width * size <= count:
        return torch.arange(width * size, device=scores.device).expand(items, width * size)
    rows = scores.flatten(0, 1)
    code = argmin(rows)
    spent = torch.as_tensor(spent, device=scores.device).expand(items, width).flatten()
    least = rows.gather(1, code[:, None])[:, 0] + spent
    first_row = width * torch.arange(items, device=scores.device)
    found = []
    while True:
        prefix = argmin(least.view(items, width))
        row = first_row + prefix
        taken = code[row]
        found.append(size * prefix + taken)
        if len(found) == count:
            return torch.stack(found, dim=1).sort(dim=1).values
        rows[row, taken] = torch.inf
        others = rows.index_select(0, row)
        code[row] = argmin(others)
        least[row] = others.gather(1, code[row][:, None])[:, 0] + spent[row]


def residual_costs(vectors: Tensor, prefix: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Squared norm of the residual after a prefix and each next code.

    Args:
        vectors: float32 ``(item, dim)``.
        prefix: int64 ``(item, level)``, codes of the first levels.
        codebooks: Per level, float32 ``(code, dim)``.

    Returns:
        float32 ``(item, code)``, over the codes of the level after ``prefix``.
    """
    residual = vectors
    for level, codebook in enumerate(codebooks[: prefix.shape[1]]):
        residual = residual - codebook[prefix[:, level]]
    return squared_distances(residual, codebooks[prefix.shape[1]])


def reconstruct(codes: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum of the codewords of each item: ``(item, level)`` codes to ``(item, dim)`` vectors."""
    return torch.stack([codebook[codes[:, level]] for level, codebook in enumerate(codebooks)]).sum(
        dim=0
    )


def residual_kmeans(
    vectors: Tensor,
    sizes: Sequence[int],
    *,
    iterations: int,
    seed: int,
    start: str = "random",
    origin: Tensor | None = None,
) -> list[Tensor]:
    """K-means on the whole corpus, then on its residuals, once per level.

    Needs a copy of ``vectors``, which are not modified.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        sizes: Codewords of each level.
        iterations: Lloyd iterations per level.
        seed: Of the random start; level ``l`` uses ``seed + l``.
        start: As in `semid.tokenizers.kmeans.kmeans`.
        origin: float32 ``(dim,)``, subtracted from every vector first; 0 by default.

    Returns:
        Per level, float32 ``(code, dim)`` on the device of ``vectors``. Deterministic.

    Raises:
        ValueError: If a level wants more codewords than there are distinct vectors.
    """

    def cluster(residual: Tensor, level: int) -> tuple[Tensor, None]:
        size = sizes[level]
        return kmeans(residual, size, iterations=iterations, seed=seed + level, start=start), None

    return [codebook for codebook, _ in level_by_level(vectors, sizes, cluster, origin)]


def balanced_residual_kmeans(
    vectors: Tensor,
    sizes: Sequence[int],
    *,
    iterations: int,
    seed: int,
    start: str = "random",
    origin: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """`residual_kmeans` with clusters of near-equal size at each level.

    Returns:
        Codewords and prices of each level, see `semid.tokenizers.balanced.balanced_kmeans`.

    Raises:
        ValueError: If a level wants more codewords than there are distinct vectors.
    """

    def cluster(residual: Tensor, level: int) -> tuple[Tensor, Tensor]:
        size = sizes[level]
        return balanced_kmeans(
            residual, size, iterations=iterations, seed=seed + level, start=start
        )

    levels = level_by_level(vectors, sizes, cluster, origin)
    return [codebook for codebook, _ in levels], [prices for _, prices in levels]


_Priced = TypeVar("_Priced", Tensor, None)


def level_by_level(
    vectors: Tensor,
    sizes: Sequence[int],
    cluster: Callable[[Tensor, int], tuple[Tensor, _Priced]],
    origin: Tensor | None = None,
) -> list[tuple[Tensor, _Priced]]:
    """Codewords and prices of each level, fitted to the residuals of the previous levels.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        sizes: Codewords of each level.
        cluster: Maps residual ``(item, dim)`` and level to codewords ``(code, dim)`` and prices.
        origin: As in `residual_kmeans`.

    Raises:
        ValueError: If a level wants more codewords than there are distinct vectors.
    """
    residual = vectors.clone() if origin is None else vectors - origin
    require_distinct(residual, sizes)
    levels = []
    for level in range(len(sizes)):
        codebook, prices = cluster(residual, level)
        levels.append((codebook, prices))
        for part in torch.split(residual, CHUNK):  # in place: the corpus may fill half the memory
            part -= codebook[nearest(part, codebook, prices=prices)]
    return levels


def codebooks_of(learned: dict[str, Tensor]) -> list[Tensor]:
    """Codebooks saved as ``codebook.<level>``, in level order."""
    count = sum(name.startswith("codebook.") for name in learned)
    return [learned[f"codebook.{level}"] for level in range(count)]
