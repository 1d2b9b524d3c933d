"""Conversion between codes and tokens: the only place that knows a backbone's token ids."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from semid.trie import CodeTrie

# Of each tensor of codes that is in use, its tries by vocabulary and version of the codes.
_TRIES: MutableMapping[Tensor, dict[tuple[CodeVocab, int], CodeTrie]] = WeakTensorKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class CodeVocab:
    """Token ids of codes: ``token = offsets[level] + code``.

    Attributes:
        sizes: Number of codes of each level.
        offsets: Token of code 0 of each level.
        num_tokens: Vocabulary size, special tokens included.
    """

    sizes: tuple[int, ...]
    offsets: tuple[int, ...]
    num_tokens: int

    @classmethod
    def flat(cls, sizes: tuple[int, ...], *, num_special: int = 1) -> CodeVocab:
        """One vocabulary for all levels, after ``num_special`` tokens such as padding.

        No two levels share a token, and no code shares token 0 with padding.
        """
        starts = [num_special]
        for size in sizes:
            starts.append(starts[-1] + size)
        return cls(sizes=tuple(sizes), offsets=tuple(starts[:-1]), num_tokens=starts[-1])

    @classmethod
    def per_level(cls, sizes: tuple[int, ...]) -> CodeVocab:
        """A separate vocabulary for each level's output head: the token is the code itself."""
        return cls(sizes=tuple(sizes), offsets=(0,) * len(sizes), num_tokens=max(sizes))

    def trie(self, codes: Tensor) -> CodeTrie:
        """The trie of the items' paths, built once and kept as long as ``codes``.

        Args:
            codes: int64 ``(item, level)``.

        Raises:
            ValueError: As `tokens` and `semid.CodeTrie.from_paths`.
        """
        tries = _TRIES.setdefault(codes, {})
        key = (self, 0 if codes.is_inference() else codes._version)  # rises as they change
        if key not in tries:
            tries[key] = CodeTrie.from_paths(self.tokens(codes), self.num_tokens)
        return tries[key]

    def tokens(self, codes: Tensor) -> Tensor:
        """Tokens of codes.

        Args:
            codes: int64 ``(..., level)``, level ``l`` in ``[0, sizes[l])``; the last axis may be
                shorter than the number of levels.

        Returns:
            int64 tokens of the same shape.

        Raises:
            ValueError: If a code lies outside its level, or there are more levels than sizes.
        """
        levels = self._checked_levels(codes)
        sizes = torch.tensor(self.sizes[:levels], device=codes.device)
        wrong = (codes < 0) | (codes >= sizes)
        if wrong.any():
            raise ValueError(
                f"codes must lie in [0, size) for sizes {self.sizes}, got "
                f"{codes.reshape(-1, levels).amin(0).tolist()} to "
                f"{codes.reshape(-1, levels).amax(0).tolist()}. "
                "Was the catalogue encoded with other codebook sizes?"
            )
        return codes + torch.tensor(self.offsets[:levels], device=codes.device)

    def codes(self, tokens: Tensor) -> Tensor:
        """Codes of tokens ``(..., level)``; the inverse of ``tokens``.

        Raises:
            ValueError: If a token does not belong to its level, or there are more levels than
                sizes.
        """
        levels = self._checked_levels(tokens)
        codes = tokens - torch.tensor(self.offsets[:levels], device=tokens.device)
        if ((codes < 0) | (codes >= torch.tensor(self.sizes[:levels], device=codes.device))).any():
            raise ValueError(
                f"every token must belong to its level: offsets {self.offsets}, sizes {self.sizes}"
            )
        return codes

    def _checked_levels(self, path: Tensor) -> int:
        levels = path.shape[-1]
        if levels > len(self.sizes):
            raise ValueError(
                f"a path has at most {len(self.sizes)} levels (sizes {self.sizes}), got "
                f"{levels} levels. Was an extra level added after the vocabulary was made?"
            )
        return levels
