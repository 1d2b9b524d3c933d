"""From a catalogue to semantic ids: embed, fit, encode, resolve collisions, record the lineage."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from semid.extension import costs_of, extend_semantic_ids, load_tokenizer
from semid.ids import SemanticIds
from semid.interop import read_codes_file
from semid.provenance import hash_arrays, require_same
from semid.tokenizers.base import load_tokenizer_class

if TYPE_CHECKING:
    from semid.catalog import Catalog
    from semid.embed import Embeddings
    from semid.tokenizers.base import SemanticIdTokenizer

__all__ = ["IdsConfig", "build_semantic_ids", "extend_made_ids", "make_semantic_ids"]


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
        template: Text of an item, such as ``"{title}, {brand}"``; None for all its text fields.
        collisions: How items of equal codes are told apart: a key of
            `semid.collisions.STRATEGIES`, or several joined by ``+``.
    """

    scheme: str = "rqkmeans"
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str = "lsa"
    template: str | None = None
    collisions: str = "extra_level"


def build_semantic_ids(
    tokenizer: SemanticIdTokenizer,
    embeddings: Embeddings,
    catalog: Catalog,
    *,
    collisions: str = "extra_level",
) -> SemanticIds:
    """Give every item of a catalogue its semantic id.

    Args:
        tokenizer: Fitted on ``embeddings`` here if it is not fitted yet.
        embeddings: Of the catalogue's items.
        catalog: The items.
        collisions: Keys of `semid.collisions.STRATEGIES`, joined by ``+``.

    Raises:
        ProvenanceError: If the embeddings are of another catalogue or order.
        ValueError: If the tokenizer refuses the embeddings, there is no such strategy, or there
            are not enough codes for it.
    """
    require_same(
        "item order of the embeddings",
        catalog.order_hash,
        embeddings.items,
        what_to_do="Embed this catalogue, or load its own embeddings.",
    )
    vectors = torch.from_numpy(embeddings.vectors)
    if not tokenizer.is_fitted:
        tokenizer.fit(vectors)
    codes = tokenizer.encode(vectors)
    lineage = tokenizer.provenance
    ids = SemanticIds.of(
        catalog.item_ids,
        codes,
        tokenizer.codebook_sizes,
        scheme=tokenizer.scheme,
        inputs={"embeddings": embeddings.provenance.content, "tokenizer": lineage.content},
        config=lineage.config,
        tokenizer=tokenizer,
    )
    return ids.resolve(collisions, costs=costs_of(tokenizer, vectors))


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
        path = config.scheme.removeprefix("file:")
        try:
            ids = read_codes_file(path, catalog, **config.settings)
        except TypeError as error:
            raise ValueError(
                f"expected settings of a file of codes, got {config.settings} ({error})."
            ) from error
        return ids.resolve(config.collisions)
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
        tokenizer, _embed(config, catalog, cache_dir), catalog, collisions=config.collisions
    )


def extend_made_ids(
    folder: str | os.PathLike[str],
    config: IdsConfig,
    catalog: Catalog,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
) -> SemanticIds:
    """Saved ids, and ids for the items of a catalogue that have none yet.

    LSA vectors depend on the texts that were fitted, so it is fitted again on those of the items
    of the time, which must not have changed; another encoder gives any text its vector anyway.

    Args:
        folder: Where `SemanticIds.save` wrote ids and tokenizer.
        config: ``embeddings`` and ``template`` of the time, and ``collisions`` for the new items;
            the scheme is the one that was saved.
        catalog: Old and new items.
        cache_dir: Where embeddings are kept, see `semid.embed.embed_catalog`.

    Raises:
        ValueError: If the config asks for another scheme or its settings, the texts of old items
            are not those that were fitted, or as `semid.extension.extend_semantic_ids`.
    """
    given = {name: getattr(config, name) for name in ("embeddings", "template", "collisions")}
    if config != replace(IdsConfig(), **given):
        raise ValueError(
            f"expected only {', '.join(given)} beside ids that are extended, got other settings "
            f"too. Leave them out: the scheme is the one that was saved in {folder}."
        )
    ids = SemanticIds.load(folder)
    tokenizer = load_tokenizer(folder)
    if config.embeddings == "lsa":
        embeddings = _embed_as_before(ids, config.template, catalog)
    else:
        embeddings = _embed(config, catalog, cache_dir)
    return extend_semantic_ids(ids, tokenizer, embeddings, catalog, collisions=config.collisions)


def _embed_as_before(ids: SemanticIds, template: str | None, catalog: Catalog) -> Embeddings:
    """The catalogue by the LSA encoder of the ids, fitted again on the items of the time."""
    from semid.embed import LsaEncoder, embed_catalog
    from semid.lsa import fit_lsa

    later = sum(record["items"] for record in ids.provenance.config.get("extended", []))
    texts = catalog.texts(template)
    fitted_texts = [texts[row] for row in catalog.rows(ids.item_ids[: len(ids) - later])]
    vectors, encoder = fit_lsa(fitted_texts, dim=LsaEncoder.dim, seed=LsaEncoder.seed)
    require_same(
        "LSA embeddings of the items that have ids",
        ids.provenance.inputs.get("embeddings"),
        hash_arrays(vectors),
        what_to_do="Were they made from other texts or another template, or have the items' texts "
        "changed since? Call extend_semantic_ids with embeddings of the encoder of the time.",
    )
    return embed_catalog(catalog, encoder, template=template)


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
