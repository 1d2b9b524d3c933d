"""Text encoders that are sentence-transformers models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from semid.arrays import Float32Array
from semid.columns import composed
from semid.provenance import hash_file, hash_json

__all__ = ["SentenceModel", "SentenceTransformerEncoder"]

_TOKENISED = 1 << 12  # texts tokenised at once for counting


@dataclass(frozen=True, kw_only=True)
class SentenceModel(ABC):
    """Encodes texts with a sentence-transformers model, which is loaded when it is first needed.

    Attributes:
        batch_size: Texts per batch.
        device: Such as ``"cpu"`` or ``"cuda"``; None lets the library choose.
    """

    batch_size: int = 64
    device: str | None = None

    @property
    @abstractmethod
    def source(self) -> str:
        """Its name in settings."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything the vectors depend on, as JSON values."""

    @abstractmethod
    def load(self) -> Any:
        """The ``sentence_transformers.SentenceTransformer``, on its device."""

    @cached_property
    def _model(self) -> Any:
        return self.load()

    def num_cut(self, texts: Sequence[str]) -> int:
        """Number of texts with more tokens than the model reads, its prompt included.

        0 for a model without a ``transformers`` tokenizer, which truncates nothing.

        Raises:
            OSError, ValueError: As `load`.
        """
        from transformers import PreTrainedTokenizerBase

        model = self._model
        tokenizer, longest = getattr(model[0], "tokenizer", None), model.max_seq_length
        if not isinstance(tokenizer, PreTrainedTokenizerBase) or longest is None:
            return 0
        prompt = model.prompts.get(model.default_prompt_name) or ""
        prompted = [prompt + text for text in composed(texts)]
        count = 0
        for first in range(0, len(prompted), _TOKENISED):
            part = prompted[first : first + _TOKENISED]
            tokens = tokenizer(part, truncation=False, verbose=False)["input_ids"]
            count += sum(len(of_text) > longest for of_text in tokens)
        return count

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode texts, normalised to NFC, with the model's own pooling and normalisation.

        Raises:
            OSError, ValueError: As `load`.
        """
        vectors = self._model.encode(
            composed(texts),
            batch_size=self.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class SentenceTransformerEncoder(SentenceModel):
    """A sentence-transformers model, by its name on the hub or a local folder.

    Attributes:
        name_or_path: Such as ``"sentence-transformers/sentence-t5-base"`` (TIGER's encoder,
            arXiv:2305.05065, section 4.1), or a folder.
        revision: Commit or tag of a model on the hub; None for its latest.
        batch_size: Texts per batch.
        device: Such as ``"cpu"`` or ``"cuda"``; None lets the library choose.
    """

    name_or_path: str
    revision: str | None = None

    @property
    def source(self) -> str:
        """Its name in settings."""
        return self.name_or_path

    @property
    def config(self) -> dict[str, Any]:
        """Encoder name, model and revision; for a local folder, the hash of its files instead."""
        config = {"encoder": "sentence-transformers", "model": self.name_or_path}
        folder = Path(self.name_or_path)
        if not folder.is_dir():
            return {**config, "revision": self.revision}
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        hashes = {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
        return {**config, "files": hash_json(hashes)}

    def load(self) -> Any:
        """The model.

        Raises:
            OSError: If the model does not exist or cannot be reached.
        """
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(self.name_or_path, revision=self.revision, device=self.device)
