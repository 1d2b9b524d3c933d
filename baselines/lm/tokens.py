"""Codes as tokens added to a language model's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor, nn

from semid.vocab import CodeVocab

_NOISE = 0.1  # of the vocabulary's standard deviation


def add_code_tokens(tokenizer: Any, sizes: tuple[int, ...], vocabulary: int) -> CodeVocab:
    """Add a token for each code: ``<a_0>`` for code 0 of the first level, and so on.

    Args:
        tokenizer: Changed in place.
        sizes: Number of codes of each level.
        vocabulary: Rows of the model's embedding matrix.

    Raises:
        ValueError: If there are more levels than letters, or the tokenizer has such tokens already.
    """
    if len(sizes) > len(ascii_lowercase):
        raise ValueError(f"expected at most {len(ascii_lowercase)} levels, got {len(sizes)}")
    first = len(tokenizer)
    levels = zip(ascii_lowercase, sizes, strict=False)
    names = [f"<{letter}_{code}>" for letter, size in levels for code in range(size)]
    added = tokenizer.add_tokens(names, special_tokens=True)
    if added != len(names) or tokenizer.convert_tokens_to_ids(names[-1]) != first + added - 1:
        raise ValueError(
            f"expected a tokenizer without tokens such as {names[0]}, got one that has some. "
            "Use the model as it was before codes were added."
        )
    flat = CodeVocab.flat(sizes, num_special=first)
    return CodeVocab(
        sizes=flat.sizes, offsets=flat.offsets, num_tokens=max(vocabulary, flat.num_tokens)
    )


class AddedTokens(nn.Module):
    """Trainable rows of tokens added to the vocabulary; the base's matrices stay unchanged.

    ``peft``'s ``trainable_token_indices`` would train the same rows, but copies the whole embedding
    matrix, and the output matrix too, in every forward pass.

    Args:
        embedding: The base's input embedding.
        first: Id of the first added token. Where the base has padding rows for these ids, the rows
            here take precedence.
        rows: Input rows, float ``(added, dim)``.
        output_rows: Output rows, same shape; None if the base's matrices are tied, so that a row
            serves as both.
    """

    def __init__(
        self, embedding: nn.Module, first: int, rows: Tensor, output_rows: Tensor | None
    ) -> None:
        super().__init__()
        self.first = first
        self.rows = nn.Parameter(rows.float().clone())
        own = None if output_rows is None else nn.Parameter(output_rows.float().clone())
        self.output_rows = own
        self._scale = float(getattr(embedding, "embed_scale", 1.0))  # Gemma's

    def embed(self, embedding: nn.Module, tokens: Tensor) -> Tensor:
        """Input embeddings of tokens int64 ``(...)``, added or not; float ``(..., dim)``."""
        place, added = self._place(tokens)
        base: Tensor = embedding(tokens.masked_fill(added, 0))
        own = nn.functional.embedding(place, self.rows) * self._scale
        return torch.where(added.unsqueeze(-1), own.to(base.dtype), base)

    def output_table(self) -> Tensor:
        """Output rows of the added tokens; float32 ``(added, dim)``."""
        return self.rows if self.output_rows is None else self.output_rows

    def output_of(self, table: Tensor, tokens: Tensor) -> Tensor:
        """Output rows of tokens int64 ``(n,)``, added or from ``table``; ``(n, dim)``."""
        place, added = self._place(tokens)
        own = self.output_table()[place].to(table.dtype)
        return torch.where(added.unsqueeze(-1), own, table[tokens.masked_fill(added, 0)])

    def _place(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        place = tokens - self.first
        added = (place >= 0) & (place < len(self.rows))
        return place.clamp(0, len(self.rows) - 1), added


def first_rows(
    table: Tensor,
    codes: Tensor,
    sizes: tuple[int, ...],
    titles: Sequence[Sequence[int]] | None,
    generator: torch.Generator,
) -> Tensor:
    """Initial rows of added tokens.

    Args:
        table: Float ``(token, dim)``, the base's matrix.
        codes: int64 ``(item, level)``.
        sizes: Number of codes of each level.
        titles: Tokens of each item's title; None to ignore titles.
        generator: Source of the noise.

    Returns:
        float32 ``(added, dim)``, level by level: the mean of the title tokens of the items with
        the code, or the mean of the vocabulary plus noise for a code without title tokens.
    """
    table = table.detach().float().cpu()
    noise = torch.randn(sum(sizes), table.shape[1], generator=generator)
    rows = table.mean(dim=0) + _NOISE * table.std(dim=0) * noise
    if titles is None:
        return rows
    tokens = torch.tensor([token for title in titles for token in title], dtype=torch.int64)
    item = torch.repeat_interleave(torch.tensor([len(title) for title in titles]))
    starts = torch.tensor((0, *sizes[:-1])).cumsum(0)
    for level in (codes.cpu() + starts).unbind(1):
        sums, counts = torch.zeros_like(rows), torch.zeros(len(rows), 1)
        sums.index_add_(0, level[item], table[tokens])
        counts.index_add_(0, level[item], torch.ones(len(item), 1))
        rows = torch.where(counts > 0, sums / counts.clamp_min(1), rows)
    return rows
