"""Item embeddings: from text by an encoder, or from an existing array."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semid.arrays import Float32Array
from semid.atomic import recover
from semid.catalog_vectors import CatalogVectors, require_finite, require_matrix
from semid.distributed import main_process_first
from semid.encoders import CutsTexts, LsaEncoder, TextEncoder, encoder_named
from semid.lsa import FittedLsa
from semid.provenance import (
    FILE_NAME,
    Provenance,
    atomic_dir,
    hash_arrays,
    hash_ids,
    hash_json,
    require_same,
)
from semid.sentence_models import SentenceTransformerEncoder
from semid.vector_files import is_vector_file, path_of, read_vector_file

if TYPE_CHECKING:
    from semid.catalog import Catalog

__all__ = [
    "CUT_TEXTS",
    "CutsTexts",
    "Embeddings",
    "FittedLsa",
    "LsaEncoder",
    "SentenceTransformerEncoder",
    "TextEncoder",
    "cut_texts",
    "embed_catalog",
    "embeddings_from",
    "read_embeddings",
]

logger = logging.getLogger(__name__)

CUT_TEXTS = "cut_texts"
"""Provenance key of the number of texts that the encoder truncated."""

CF_SCALE = "cf_scale"
"""Provenance key of the length of collaborative vectors that are part of the embeddings."""

VECTORS = "vectors.npy"
"""File of the vectors in an artefact folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Item vectors in the row order of one catalogue.

    Attributes:
        vectors: Finite float32 ``(item, dim)``.
        items: `Catalog.order_hash` of the catalogue whose rows these are.
        provenance: Their lineage, with encoder and text template, if any.
    """

    vectors: Float32Array
    items: str
    provenance: Provenance

    @classmethod
    def of(
        cls,
        vectors: NDArray[Any],
        catalog: Catalog,
        *,
        inputs: dict[str, str] | None = None,
        config: dict[str, Any] | None = None,
        seen: str | None = None,
    ) -> Embeddings:
        """Check and hash vectors in catalogue order.

        Args:
            vectors: ``(item, dim)``, numbers.
            catalog: The items.
            inputs: Content hashes of what they were made from.
            config: Settings that made them, as JSON values.
            seen: Hash of the interactions they were learned from; None for text alone.

        Raises:
            ValueError: If they are not a finite numeric matrix with one row per item.
        """
        vectors = _checked(vectors, len(catalog))
        provenance = Provenance(
            kind="embeddings",
            content=hash_arrays(vectors),
            items=catalog.order_hash,
            inputs=inputs or {},
            seen=seen,
            config=config or {},
        )
        return cls(vectors=vectors, items=catalog.order_hash, provenance=provenance)

    def with_cf(self, cf: Embeddings, *, scale: float) -> Embeddings:
        """Each item's vector, of length 1, followed by its collaborative one, of length ``scale``.

        Rows of zeros stay zero, as of items without interactions.

        Args:
            cf: Collaborative vectors of the same items.
            scale: Above 0.

        Returns:
            float32 ``(item, dim + cf_dim)``, of the interactions that ``cf`` has seen.

        Raises:
            ProvenanceError: If ``cf`` is of another catalogue or order.
        """
        require_same(
            "item order of the cf_embeddings",
            self.items,
            cf.items,
            what_to_do="Take those of this catalogue.",
        )
        vectors = np.hstack([_unit(self.vectors), np.float32(scale) * _unit(cf.vectors)])
        provenance = dataclasses.replace(
            self.provenance,
            content=hash_arrays(vectors),
            inputs={**self.provenance.inputs, "cf_embeddings": cf.provenance.content},
            seen=cf.provenance.seen,
            config={**self.provenance.config, CF_SCALE: scale},
        )
        return dataclasses.replace(self, vectors=vectors, provenance=provenance)

    @classmethod
    def from_array(
        cls,
        source: str | os.PathLike[str] | NDArray[Any],
        catalog: Catalog,
        ids: str | os.PathLike[str] | Sequence[str] | Sequence[int] | None = None,
    ) -> Embeddings:
        """Embeddings that exist already, as an array or a file.

        Args:
            source: As in `semid.catalog_vectors.CatalogVectors.of`.
            catalog: The items. Rows of ``source`` for other items are left out and logged, and so
                is a padding row of zeros.
            ids: The item of each row: a sequence, or a file of them (``.json`` list, ``.npy``, or
                text with one per line). None if the file of vectors names them, or the rows are in
                catalogue order already.

        Raises:
            FileNotFoundError: If a file does not exist.
            ValueError: As `semid.catalog_vectors.CatalogVectors.of`, or if a vector is not finite.
        """
        found = CatalogVectors.of(source, catalog, ids)
        inputs = {"array": hash_arrays(found.file.open())}
        if found.file.ids is not None:
            inputs["ids"] = hash_ids(found.file.ids.to_list())
        return cls.of(found.all(), catalog, inputs=inputs, config={"encoder": "array"})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``vectors.npy`` and the provenance, atomically."""
        with atomic_dir(folder) as filling:
            np.save(filling / VECTORS, self.vectors, allow_pickle=False)
            self.provenance.write(filling, files=[VECTORS])

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Embeddings:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder is not a complete artefact.
            ProvenanceError: If its content is not what was saved.
        """
        provenance = Provenance.read(folder)
        vectors = _load_npy(Path(folder) / VECTORS)
        require_same(
            f"content of the embeddings in {folder}",
            provenance.content,
            hash_arrays(vectors),
            what_to_do="The file was changed after it was saved; embed the catalogue again.",
        )
        return cls(vectors=vectors, items=provenance.items or "", provenance=provenance)


def read_embeddings(
    source: str | os.PathLike[str],
    catalog: Catalog,
    ids: str | os.PathLike[str] | None = None,
) -> Embeddings:
    """Read vectors of a catalogue's items: an artefact folder, or a file of vectors.

    Args:
        source: A folder written by `Embeddings.save`, which records its items and the interactions
            it was learned from; or a file as in `semid.vector_files.read_vector_file`.
        catalog: The items.
        ids: File with the item of each row, if that is not in ``source`` and the rows are not in
            catalogue order (for which only their number can be checked).

    Raises:
        FileNotFoundError: If there is no such file, or the folder is not a complete artefact.
        ProvenanceError: If the folder is for other items or another order, or was changed.
        ValueError: As `Embeddings.from_array`, or if a folder is given with ``ids``.
    """
    if not Path(source).is_dir():
        return Embeddings.from_array(source, catalog, ids)
    if ids is not None:
        raise ValueError(
            f"expected no ids for the folder {source}, which records its items, got {ids}. Leave "
            "them out."
        )
    embeddings = Embeddings.load(source)
    require_same(
        f"item order of the embeddings in {source}",
        catalog.order_hash,
        embeddings.items,
        what_to_do="Make them for this catalogue.",
    )
    return embeddings


def embed_catalog(
    catalog: Catalog,
    encoder: TextEncoder,
    *,
    template: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Embeddings:
    """Embed the text of each item.

    If ``torch.distributed`` is initialised, all processes must call this; rank 0 embeds, and the
    others read its vectors from the cache, if there is one.

    If the encoder can count truncated texts, their number is logged as a warning and recorded in
    the provenance: items that differ only after the cut get equal vectors.

    Args:
        catalog: The items.
        encoder: Turns texts into vectors.
        template: As in `Catalog.texts`; None for the catalogue's default. Recorded either way.
        cache_dir: Folder where vectors are cached under the hash of texts and encoder; None for no
            cache.

    Raises:
        ValueError: If the catalogue has no text, the template does not fit it, or the encoder does
            not return one finite row per item.
    """
    template = catalog.default_template() if template is None else template
    texts = catalog.texts(template)
    inputs = {"texts": hash_ids(texts)}
    config = {**encoder.config, "template": template}
    cached = Path(cache_dir) / hash_json([inputs, encoder.config]) if cache_dir else None
    with main_process_first():
        found = _from_cache(cached, inputs, encoder.config) if cached else None
        if found is not None:
            vectors = found.vectors
            config |= cut_texts(found)
        else:
            logger.info("embedding %d items with %s", len(texts), encoder.config)
            vectors = encoder.encode(texts)
            if isinstance(encoder, CutsTexts):
                config[CUT_TEXTS] = encoder.num_cut(texts)
        if cut := config.get(CUT_TEXTS):
            logger.warning(
                "%d of %d texts are longer than what the encoder reads and were cut: items that "
                "differ behind the cut get equal vectors. Name a shorter template, or an encoder "
                "of longer texts.",
                cut,
                len(texts),
            )
        embeddings = Embeddings.of(vectors, catalog, inputs=inputs, config=config)
        if cached and found is None:
            embeddings.save(cached)
        return embeddings


def _unit(vectors: Float32Array) -> Float32Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def cut_texts(embeddings: Embeddings) -> dict[str, int]:
    """Provenance entry with the number of truncated texts; empty if not counted."""
    known = embeddings.provenance.config
    return {CUT_TEXTS: known[CUT_TEXTS]} if CUT_TEXTS in known else {}


def embeddings_from(
    source: str,
    catalog: Catalog,
    *,
    ids: str | None = None,
    template: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Embeddings:
    """Resolve a setting such as ``--ids.embeddings``.

    Args:
        source: An encoder as in `semid.encoders.encoder_named`, or existing vectors as in
            `read_embeddings`.
        catalog: The items.
        ids: As in `read_embeddings`.
        template: As in `embed_catalog`; ignored for existing vectors.
        cache_dir: As in `embed_catalog`.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the model does not exist or cannot be reached.
        ValueError: As `read_embeddings` and `embed_catalog`, or if an encoder is given with
            ``ids``.
    """
    if is_vectors(source):
        return read_embeddings(source, catalog, ids)
    if ids is not None:
        raise ValueError(
            f"expected a file of vectors where {ids} names the item of each row, got the text "
            f"encoder {source}. Leave the ids out."
        )
    return embed_catalog(catalog, encoder_named(source), template=template, cache_dir=cache_dir)


def is_vectors(source: str) -> bool:
    """Whether `embeddings_from` would read existing vectors rather than encode text."""
    recover(path_of(source))
    return is_vector_file(source) or (Path(source) / FILE_NAME).is_file()


def _from_cache(folder: Path, inputs: dict[str, str], encoder: dict[str, Any]) -> Embeddings | None:
    try:
        found = Embeddings.load(folder)
        its = found.provenance
        require_same(
            f"what the embeddings in {folder} were made from",
            hash_json([inputs, encoder]),
            hash_json([its.inputs, {name: its.config.get(name) for name in encoder}]),
            what_to_do="They are made again.",
        )
        return found
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("embedding again, as the cache cannot be used: %s", error)
        return None


def _checked(vectors: NDArray[Any], num_items: int) -> Float32Array:
    require_matrix(vectors)
    if len(vectors) != num_items:
        raise ValueError(
            f"expected embeddings for {num_items} items of the catalogue, got {len(vectors)} rows. "
            "Return one row for each item."
        )
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    require_finite(vectors)
    return vectors


def _load_npy(path: Path) -> NDArray[Any]:
    return np.array(read_vector_file(str(path)).open())
