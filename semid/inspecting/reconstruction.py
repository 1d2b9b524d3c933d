"""How much of an item's vector its codes keep."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.extension import costs_of
from semid.reassignment import costs_of_paths
from semid.tokenizers.base import SemanticIdTokenizer

__all__ = ["reconstruction_error"]

_SEED = 0


def reconstruction_error(
    codes: Tensor, tokenizer: SemanticIdTokenizer, embeddings: Tensor
) -> float | None:
    """Squared distance of items to their codes, relative to that to another item's codes.

    In the space that the scheme quantises (`semid.tokenizers.SemanticIdTokenizer.costs`): 0 if the
    codes are exact, 1 if they say no more of an item than those of any other, drawn at random.

    Args:
        codes: int64 ``(item, level)``; levels behind those of the tokenizer are ignored.
        tokenizer: The scheme, fitted.
        embeddings: Float ``(item, dim)``, the vectors that were encoded.

    Returns:
        None if the scheme defines no distances, or all items have equal ones.
    """
    rows, own = torch.arange(len(codes)), codes[:, : len(tokenizer.codebook_sizes)]
    drawn = torch.randperm(len(codes), generator=torch.Generator().manual_seed(_SEED))
    others = torch.empty_like(drawn).index_copy_(0, drawn, drawn.roll(1))
    costs = costs_of(tokenizer, embeddings)
    error, by_chance = (
        float(costs_of_paths(rows, path, costs).mean()) for path in (own, own[others])
    )
    return error / by_chance if by_chance else None
