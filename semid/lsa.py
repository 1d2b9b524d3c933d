"""Fitted latent semantic analysis, for encoding later texts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semid.arrays import Float32Array
from semid.columns import composed
from semid.json_files import load_record
from semid.provenance import Provenance, atomic_dir, hash_arrays, hash_ids, hash_json, require_same

__all__ = ["DEFAULT_DIM", "FittedLsa", "fit_lsa"]

DEFAULT_DIM = 128
"""Width of the vectors of plain ``lsa``; another is named in settings, as in ``lsa:512``."""

_VOCABULARY = "vocabulary.json"
_ARRAYS = "lsa.safetensors"
_CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedLsa:
    """TF-IDF of known terms, projected onto singular directions of the fitted texts.

    A `semid.embed.TextEncoder` under which a text's vector depends only on the text. Unknown terms
    are ignored. For the fitted texts, the vectors equal those of `fit_lsa` up to the error of the
    truncated, randomised SVD.

    Attributes:
        words: Word unigrams and bigrams, by column.
        letters: Character 3- to 5-grams within words, by column; these columns follow those of the
            words.
        idf: float64 ``(term,)``, inverse document frequency of each column.
        right: float32 ``(dim, term)``, right singular vectors, strongest first, signs fixed.
        settings: Of the fit: ``dim`` and ``seed``.
    """

    words: list[str]
    letters: list[str]
    idf: NDArray[np.float64]
    right: Float32Array
    settings: dict[str, int]

    @property
    def source(self) -> str:
        """Its name in settings: ``lsa``, or ``lsa:DIM`` if ``DIM`` is not the default."""
        dim = self.settings["dim"]
        return "lsa" if dim == DEFAULT_DIM else f"lsa:{dim}"

    @property
    def config(self) -> dict[str, Any]:
        """Encoder name, settings of the fit, and a hash of the fitted values."""
        return {"encoder": "lsa", **self.settings, "fitted": self._content}

    @cached_property
    def _content(self) -> str:
        arrays = hash_arrays(self.idf, self.right)
        return hash_json([hash_ids(self.words), hash_ids(self.letters), arrays, self.settings])

    @cached_property
    def _vectorizers(self) -> tuple[Any, Any]:
        words, letters = _vectorizers(self.words, self.letters)
        words.idf_ = self.idf[: len(self.words)]
        letters.idf_ = self.idf[len(self.words) :]
        return words, letters

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode texts, ``(item, dim)``; those without a known term become rows of zeros.

        Texts are first normalised to Unicode NFC, as in `fit_lsa`.
        """
        from scipy.sparse import hstack
        from sklearn.preprocessing import normalize

        texts = composed(texts)
        terms = hstack([part.transform(texts) for part in self._vectorizers], "csr")
        return np.asarray(normalize(terms @ self.right.T.astype(np.float64)), dtype=np.float32)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write vocabularies as JSON, numbers as safetensors, and the provenance, atomically."""
        from safetensors.numpy import save_file

        provenance = Provenance(kind="text_encoder", content=self._content, config=self.config)
        with atomic_dir(folder) as filling:
            vocabulary = json.dumps({"words": self.words, "letters": self.letters})
            (filling / _VOCABULARY).write_text(vocabulary, encoding="utf-8")
            (filling / _CONFIG).write_text(json.dumps(self.settings) + "\n", encoding="utf-8")
            save_file({"idf": self.idf, "right": self.right}, filling / _ARRAYS)
            provenance.write(filling, files=[_VOCABULARY, _CONFIG, _ARRAYS])

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FittedLsa:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder is not a complete artefact.
            ProvenanceError: If its content is not what was saved.
        """
        from safetensors.numpy import load_file

        recorded = Provenance.read(folder)
        folder = Path(folder)
        vocabulary = load_record(folder / _VOCABULARY, words=list, letters=list)
        settings = load_record(folder / _CONFIG, dim=int, seed=int)
        arrays = load_file(folder / _ARRAYS)
        encoder = cls(
            words=vocabulary["words"],
            letters=vocabulary["letters"],
            idf=arrays["idf"],
            right=arrays["right"],
            settings=settings,
        )
        require_same(
            f"content of the encoder in {folder}",
            recorded.content,
            encoder._content,
            what_to_do="Its files were changed after it was saved; fit it again.",
        )
        return encoder


def fit_lsa(texts: Sequence[str], *, dim: int, seed: int) -> tuple[Float32Array, FittedLsa]:
    """Return the vectors of texts and an encoder for later ones; see `semid.embed.LsaEncoder`.

    Raises:
        ValueError: If no text contains a word.
    """
    vectors, fitted = _fit(tuple(composed(texts)), dim, seed)
    return vectors.copy(), fitted


@lru_cache(maxsize=1)  # several ID schemes are made from the same texts, and keep the encoder
def _fit(texts: tuple[str, ...], dim: int, seed: int) -> tuple[Float32Array, FittedLsa]:
    from scipy.sparse import hstack
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd

    words, letters = _vectorizers()
    try:
        terms = hstack([words.fit_transform(texts), letters.fit_transform(texts)], "csr")
    except ValueError as error:
        raise ValueError(
            f"expected texts with words, got {len(texts)} texts without any. "
            "Choose a template whose fields are filled."
        ) from error
    width = min(dim, *terms.shape)
    left, strengths, right = randomized_svd(terms, width, random_state=seed)
    strongest = np.abs(right).argmax(axis=1)
    signs = np.sign(right[np.arange(width), strongest])
    fitted = FittedLsa(
        words=words.get_feature_names_out().tolist(),
        letters=letters.get_feature_names_out().tolist(),
        idf=np.concatenate([words.idf_, letters.idf_]),
        right=np.ascontiguousarray(right * signs[:, None], dtype=np.float32),
        settings={"dim": dim, "seed": seed},
    )
    return np.asarray(normalize(left * strengths * signs), dtype=np.float32), fitted


def _vectorizers(
    words: list[str] | None = None, letters: list[str] | None = None
) -> tuple[Any, Any]:
    """Word and character vectorizers, over given vocabularies or ones to be fitted."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return (
        TfidfVectorizer(
            ngram_range=(1, 2), token_pattern=r"\b\w+\b", sublinear_tf=True, vocabulary=words
        ),
        TfidfVectorizer(
            ngram_range=(3, 5), analyzer="char_wb", sublinear_tf=True, vocabulary=letters
        ),
    )
