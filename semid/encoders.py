"""Text encoders, and the name each one has in settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from semid.arrays import Float32Array
from semid.lsa import DEFAULT_DIM, FittedLsa, fit_lsa
from semid.packaged import PACKAGED, MiniLMEncoder, WordVectorsEncoder
from semid.sentence_models import SentenceTransformerEncoder

__all__ = [
    "CutsTexts",
    "LsaEncoder",
    "PretrainedEncoder",
    "TextEncoder",
    "encoder_named",
]

PretrainedEncoder: TypeAlias = SentenceTransformerEncoder | MiniLMEncoder | WordVectorsEncoder
"""Encoders that need no fit: a text's vector depends only on the text."""


class TextEncoder(Protocol):
    """Anything that turns texts into vectors."""

    @property
    def config(self) -> dict[str, Any]:
        """Everything the vectors depend on, as JSON values; part of the cache key."""

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode texts as finite float32 ``(item, dim)``."""


@runtime_checkable
class CutsTexts(Protocol):
    """A `TextEncoder` that truncates long texts and can count them."""

    def num_cut(self, texts: Sequence[str]) -> int:
        """Number of texts that would be truncated."""


@dataclass(frozen=True, kw_only=True)
class LsaEncoder:
    """Latent semantic analysis: TF-IDF of word and character n-grams, truncated SVD, unit rows.

    Needs no download and no GPU. It is fitted on the texts it encodes, so vectors are comparable
    only within one call; `fit` keeps the fitted encoder for later items.

    Attributes:
        dim: Width of the vectors; less if there are fewer texts or terms.
        seed: Of the randomised SVD.
    """

    dim: int = DEFAULT_DIM
    seed: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """Encoder name and settings."""
        return {"encoder": "lsa", **asdict(self)}

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode texts; texts without any term become rows of zeros.

        Terms are word unigrams and bigrams, and character 3- to 5-grams within words. The sign of
        each dimension is fixed, so equal texts in equal order give equal vectors. Texts are first
        normalised to Unicode NFC.

        Raises:
            ValueError: If no text contains a word.
        """
        return fit_lsa(texts, dim=self.dim, seed=self.seed)[0]

    def fit(self, texts: Sequence[str]) -> FittedLsa:
        """Fit an encoder for later texts; `encode` returns the vectors of these.

        Raises:
            ValueError: If no text contains a word.
        """
        return fit_lsa(texts, dim=self.dim, seed=self.seed)[1]


def encoder_named(source: str) -> LsaEncoder | PretrainedEncoder:
    """The text encoder of a setting such as ``--ids.embeddings``.

    Args:
        source: ``lsa``, or ``lsa:DIM`` for another width than 128; a key of
            `semid.packaged.PACKAGED`; or a sentence-transformers model (name or local path).

    Raises:
        ValueError: If the width of LSA is not a positive integer.
    """
    if source in PACKAGED:
        return PACKAGED[source]()
    name, colon, dim = source.partition(":")
    if name != "lsa":
        return SentenceTransformerEncoder(name_or_path=source)
    if not colon:
        return LsaEncoder()
    if not (dim.isascii() and dim.isdecimal() and int(dim) > 0):
        raise ValueError(
            f"expected lsa:DIM with a positive number of dimensions, such as lsa:512, got {source}"
        )
    return LsaEncoder(dim=int(dim))
