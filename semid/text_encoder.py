"""The text encoder of a catalogue, saved so that new items can be added."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semid.arrays import Float32Array
from semid.embed import Embeddings, embed_catalog
from semid.encoders import PretrainedEncoder
from semid.lsa import FittedLsa
from semid.packaged import PACKAGED
from semid.provenance import (
    ProvenanceError,
    atomic_dir,
    hash_json,
    read_json,
    require_same,
    write_json,
)
from semid.sentence_models import SentenceTransformerEncoder

if TYPE_CHECKING:
    from semid.catalog import Catalog

__all__ = ["CatalogEncoder"]

_SETTINGS, _LSA = "encoder.json", "lsa"
_REBUILD = "Build the ids again."


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogEncoder:
    """A text encoder and a text template, which together embed any item.

    Attributes:
        encoder: A `FittedLsa`, which is saved in full; or a pretrained model, which is saved by
            name, and hash where that is known, and must be available when it encodes.
        template: Text of an item, as in `semid.catalog.Catalog.texts`.
    """

    encoder: FittedLsa | PretrainedEncoder
    template: str

    @property
    def source(self) -> str:
        """The encoder's name in settings, such as ``lsa``, or the sentence-transformers model."""
        return self.encoder.source

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Encode each text by itself; finite float32 ``(item, dim)``."""
        return self.encoder.encode(texts)

    def embed(
        self, catalog: Catalog, *, cache_dir: str | os.PathLike[str] | None = None
    ) -> Embeddings:
        """Vectors of a catalogue's items; see `semid.embed.embed_catalog`.

        Raises:
            ValueError: If the catalogue lacks a column of the template.
            OSError: If the model cannot be reached.
        """
        return embed_catalog(catalog, self.encoder, template=self.template, cache_dir=cache_dir)

    def save(self, folder: str | os.PathLike[str], *, embeddings: str) -> None:
        """Write the encoder and the template as a folder, atomically.

        Args:
            folder: The folder.
            embeddings: Content hash of the vectors of the fitted items; `load` requires the same.
        """
        values = {"template": self.template, "encoder": self.encoder.config}
        with atomic_dir(folder) as filling:
            write_json(filling / _SETTINGS, values, made_from=embeddings)
            if isinstance(self.encoder, FittedLsa):
                self.encoder.save(filling / _LSA)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, embeddings: str) -> CatalogEncoder:
        """Read what `save` wrote.

        Raises:
            ProvenanceError: If its content has changed, it made other ``embeddings``, or the
                sentence-transformers model is no longer the same.
        """
        path = Path(folder) / _SETTINGS
        values = read_json(path, made_from=embeddings, what_to_do=_REBUILD)
        if values is None:
            raise ProvenanceError(
                f"expected in {folder} the text encoder of these semantic ids, got none or that of "
                f"other ids. {_REBUILD}"
            )
        config: dict[str, Any] = values["encoder"]
        encoder = _loaded(config, Path(folder))
        require_same(
            f"text encoder {encoder.source} of {folder}",
            hash_json(config),
            hash_json(encoder.config),
            what_to_do="Put back the one that the ids were made with.",
        )
        return cls(encoder=encoder, template=values["template"])


def _loaded(config: dict[str, Any], folder: Path) -> FittedLsa | PretrainedEncoder:
    match config["encoder"]:
        case "lsa":
            return FittedLsa.load(folder / _LSA)
        case "sentence-transformers":
            return SentenceTransformerEncoder(
                name_or_path=config["model"], revision=config.get("revision")
            )
        case name:
            return PACKAGED[name]()
