"""From a catalogue to semantic ids: embed, fit, encode, resolve collisions, record the lineage."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from semid.ids import SemanticIds, read_codes_file
from semid.provenance import require_same
from semid.tokenizers.base import load_tokenizer_class

if TYPE_CHECKING:
    from semid.catalog import Catalog
    from semid.embed import Embeddings
    from semid.tokenizers.base import SemanticIdTokenizer

__all__ = ["IdsConfig", "build_semantic_ids", "make_semantic_ids"]


@dataclass(frozen=True, kw_only=True)
class IdsConfig:
    """Where the semantic ids of a catalogue come from.

    Attributes:
        scheme: ``rqkmeans``, ``rqvae``, ``random``, your own ``package.module:Class``, or codes
            that exist already: ``file:PATH``.
        codebook_sizes: Codes of each level of a scheme that is fitted here. None takes three
            levels of the largest power of two up to 256 that leaves eight items a code.
        settings: Further settings of the scheme, by name.
        embeddings: ``lsa``, a sentence-transformers model (name or local path), or a ``.npy`` file
            with one row an item.
        cf_embeddings: Collaborative item vectors, for schemes that learn from them: a ``.npy`` file
            with one row an item, or a folder of saved embeddings (``semid teacher export``).
        template: Text of an item, such as ``"{title}, {brand}"``; None for all its text fields.
        collisions: How items of equal codes are told apart: a key of
            `semid.collisions.STRATEGIES`.
    """

    scheme: str = "rqkmeans"
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str = "lsa"
    cf_embeddings: str | None = None
    template: str | None = None
    collisions: str = "extra_level"


def build_semantic_ids(
    tokenizer: SemanticIdTokenizer,
    embeddings: Embeddings,
    catalog: Catalog,
    *,
    cf_embeddings: Embeddings | None = None,
    collisions: str = "extra_level",
) -> SemanticIds:
    """Give every item of a catalogue its semantic id.

    Args:
        tokenizer: Fitted on ``embeddings`` here if it is not fitted yet.
        embeddings: Of the catalogue's items.
        catalog: The items.
        cf_embeddings: Collaborative vectors of the same items, for a scheme that learns from them.
            The interactions that they have seen are recorded as seen by the ids.
        collisions: A key of `semid.collisions.STRATEGIES`.

    Raises:
        ProvenanceError: If the embeddings are of another catalogue or order.
        ValueError: If the tokenizer refuses the embeddings, or there is no such strategy.
    """
    require_same(
        "item order of the embeddings",
        catalog.order_hash,
        embeddings.items,
        what_to_do="Embed this catalogue, or load its own embeddings.",
    )
    vectors = torch.from_numpy(embeddings.vectors)
    if cf_embeddings is not None:
        require_same(
            "item order of the collaborative embeddings",
            catalog.order_hash,
            cf_embeddings.items,
            what_to_do="Export them for this catalogue.",
        )
    if not tokenizer.is_fitted:
        cf_vectors = None if cf_embeddings is None else torch.from_numpy(cf_embeddings.vectors)
        tokenizer.fit(vectors, cf_embeddings=cf_vectors)
    codes = tokenizer.encode(vectors)
    lineage = tokenizer.provenance
    ids = SemanticIds.of(
        catalog.item_ids,
        codes,
        tokenizer.codebook_sizes,
        scheme=tokenizer.scheme,
        inputs={"embeddings": embeddings.provenance.content, "tokenizer": lineage.content},
        config=lineage.config,
    )
    ids = ids.resolve(collisions)
    seen = None if cf_embeddings is None else cf_embeddings.provenance.seen
    return replace(ids, provenance=replace(ids.provenance, seen=seen))


def make_semantic_ids(
    config: IdsConfig,
    catalog: Catalog,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> SemanticIds:
    """Semantic ids as a config asks for them: read, or embedded, fitted and encoded.

    Args:
        config: Where they come from.
        catalog: The items.
        cache_dir: Where embeddings are kept, see `semid.embed.embed_catalog`.
        on_epoch: For a scheme that has an ``on_epoch`` (`semid.tokenizers.RQVAE`).

    Raises:
        ValueError: If the config does not fit the catalogue; see what it names.
    """
    if config.scheme.startswith("file:"):
        return read_codes_file(config.scheme.removeprefix("file:"), catalog).resolve(
            config.collisions
        )
    tokenizer_class: Any = load_tokenizer_class(config.scheme)
    sizes = config.codebook_sizes or (_codes_for(len(catalog)),) * 3
    if min(sizes) < 1:
        raise ValueError(f"expected at least one code at each level, got codebook_sizes {sizes}.")
    try:
        tokenizer = tokenizer_class(codebook_sizes=sizes, **config.settings)
    except TypeError as error:
        raise ValueError(
            f"expected settings of {config.scheme}, got {config.settings} ({error})."
        ) from error
    if hasattr(tokenizer, "on_epoch"):
        tokenizer.on_epoch = on_epoch
    return build_semantic_ids(
        tokenizer,
        _embed(config, catalog, cache_dir),
        catalog,
        cf_embeddings=_collaborative(config, catalog),
        collisions=config.collisions,
    )


def _codes_for(num_items: int) -> int:
    return min(256, 2 ** max(int(math.log2(num_items / 8)), 1)) if num_items >= 16 else 2


def _embed(
    config: IdsConfig, catalog: Catalog, cache_dir: str | os.PathLike[str] | None
) -> Embeddings:
    from semid.embed import Embeddings, LsaEncoder, SentenceTransformerEncoder, embed_catalog

    if config.embeddings.endswith(".npy"):
        return Embeddings.from_array(config.embeddings, catalog)
    if config.embeddings == "lsa":
        return embed_catalog(catalog, LsaEncoder(), template=config.template, cache_dir=cache_dir)
    encoder = SentenceTransformerEncoder(name_or_path=config.embeddings)
    return embed_catalog(catalog, encoder, template=config.template, cache_dir=cache_dir)


def _collaborative(config: IdsConfig, catalog: Catalog) -> Embeddings | None:
    from semid.embed import Embeddings

    if config.cf_embeddings is None:
        return None
    if Path(config.cf_embeddings).is_dir():
        return Embeddings.load(config.cf_embeddings)
    return Embeddings.from_array(config.cf_embeddings, catalog)
