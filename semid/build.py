"""Build semantic ids: embed, fit, encode, resolve collisions, record the provenance."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from semid.config import IdsConfig, RayConfig
from semid.extension import (
    costs_of,
    extend_from_texts,
    extend_semantic_ids,
    load_extendable,
    load_tokenizer,
)
from semid.ids import SemanticIds
from semid.interop import read_codes_file
from semid.provenance import (
    ProvenanceError,
    hash_arrays,
    hash_file,
    hash_ids,
    hash_json,
    require_same,
)
from semid.settings import settings_before
from semid.testing import check_encoding, check_settings
from semid.tokenizers.base import (
    BUILT_IN,
    SemanticIdTokenizer,
    load_tokenizer_class,
    make_tokenizer,
)
from semid.tokenizers.fields import fields_of, hash_fields, rows_of_fields

if TYPE_CHECKING:
    from semid.batched import BatchSource
    from semid.catalog import Catalog
    from semid.embed import Embeddings
    from semid.encoders import LsaEncoder
    from semid.lsa import FittedLsa
    from semid.text_encoder import CatalogEncoder

__all__ = [
    "IdsConfig",
    "build_semantic_ids",
    "extend_ids_from_config",
    "fit_text_encoder",
    "ids_from_config",
    "require_made_by",
]

_FILE, _TEXTS, _CF = "file:", "texts", "cf_embeddings"
_TRIED = 256  # items on which an external scheme is checked before it encodes all
_MOVED = 0.05  # share of them that may change code because of rounding


def build_semantic_ids(
    tokenizer: SemanticIdTokenizer,
    embeddings: Embeddings,
    catalog: Catalog,
    *,
    cf_embeddings: Embeddings | None = None,
    collisions: str = "extra_level",
) -> SemanticIds:
    """Assign a semantic id to every item of a catalogue.

    An external scheme first encodes a few items in other orders and batches
    (`semid.testing.check_encoding`), since an item's code must not depend on them.

    Args:
        tokenizer: Fitted on ``embeddings`` if it is not fitted yet.
        embeddings: Vectors of the catalogue's items.
        catalog: The items.
        cf_embeddings: Collaborative vectors of the same items, for a scheme that learns from them.
            The interactions they were trained on are recorded as seen by the ids.
        collisions: As in `semid.collisions.load_strategies`.

    Raises:
        ProvenanceError: If embeddings belong to another catalogue or order, or the tokenizer was
            fitted on other ``cf_embeddings``.
        ContractError: If the scheme breaks its contract.
        ValueError: If the tokenizer refuses the embeddings, the strategy is unknown, or there are
            not enough codes for it.
    """
    from semid.embed import CF_SCALE, cut_texts

    _require_of_catalog(catalog, embeddings=embeddings, cf_embeddings=cf_embeddings)
    vectors = torch.from_numpy(embeddings.vectors)
    collaborative = None if cf_embeddings is None else torch.from_numpy(cf_embeddings.vectors)
    fields = fields_of(tokenizer.uses_fields, catalog)
    if not tokenizer.is_fitted:
        tokenizer.fit(vectors, cf_embeddings=collaborative, fields=fields)
    if tokenizer.scheme not in BUILT_IN:
        tried = torch.arange(min(_TRIED, len(vectors)))
        some = rows_of_fields(fields, tried)
        check_encoding(tokenizer, vectors[tried], fields=some, moved=_MOVED)
    codes = tokenizer.encode(vectors, fields=fields)
    learned_from = embeddings if cf_embeddings is None else cf_embeddings
    made = embeddings.provenance.config
    scale = {CF_SCALE: made[CF_SCALE]} if CF_SCALE in made else {}
    ids = SemanticIds.of(
        catalog.item_ids,
        codes,
        tokenizer.codebook_sizes,
        scheme=tokenizer.scheme,
        inputs=_inputs_of(tokenizer, embeddings, cf_embeddings),
        config={**tokenizer.provenance.config, **cut_texts(embeddings), **scale},
        seen=learned_from.provenance.seen,
        tokenizer=tokenizer,
    )
    return ids.resolve(collisions, costs=costs_of(tokenizer, vectors))


def _require_of_catalog(catalog: Catalog, **embeddings: Embeddings | None) -> None:
    for name, given in embeddings.items():
        if given is not None:
            require_same(
                f"item order of the {name}",
                catalog.order_hash,
                given.items,
                what_to_do="Embed this catalogue, or load its own embeddings.",
            )


def _inputs_of(
    tokenizer: SemanticIdTokenizer, embeddings: Embeddings, cf_embeddings: Embeddings | None
) -> dict[str, str]:
    """Content hashes of the inputs of semantic ids."""
    lineage = tokenizer.provenance
    inputs = {"embeddings": embeddings.provenance.content, "tokenizer": lineage.content}
    made_from = embeddings.provenance.inputs
    inputs |= {name: made_from[name] for name in (_TEXTS, _CF) if name in made_from}
    if tokenizer.uses_fields:
        inputs["fields"] = lineage.inputs["fields"]
    if cf_embeddings is not None:
        inputs["cf_embeddings"] = cf_embeddings.provenance.content
        require_same(
            "cf_embeddings of the tokenizer",
            cf_embeddings.provenance.content,
            lineage.inputs.get("cf_embeddings"),
            what_to_do="Pass those that it was fitted on.",
        )
    return inputs


def ids_from_config(
    config: IdsConfig,
    catalog: Catalog,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_batch: Callable[[int], None] | None = None,
    ray: RayConfig | None = None,
) -> SemanticIds:
    """Make semantic ids as configured: read from a file, or embedded, fitted and encoded.

    Args:
        config: Their source and settings.
        catalog: The items.
        cache_dir: Cache folder of embeddings, see `semid.embed.embed_catalog`.
        on_epoch: For a scheme with an ``on_epoch`` (`semid.tokenizers.RQVAE`).
        on_batch: With ``fit_items``, called with the number of items of each encoded batch.
        ray: With ``fit_items``, the workers that encode the batches; None for this process.

    Raises:
        ValueError: If the scheme, a file or a setting does not fit the catalogue.
    """
    from semid.embed import embeddings_from

    if config.scheme.startswith(_FILE):
        path = config.scheme.removeprefix(_FILE)
        try:
            ids = read_codes_file(path, catalog, **config.settings)
        except TypeError as error:
            raise ValueError(
                f"expected settings of a file of codes, got {config.settings} ({error})."
            ) from error
        return ids.resolve(config.collisions)
    tokenizer = _tokenizer(config, len(catalog))
    if hasattr(tokenizer, "on_epoch"):
        tokenizer.on_epoch = on_epoch
    cf_embeddings = _cf_embeddings(config, tokenizer, catalog)
    if config.fit_items is not None:
        return _fitted_on_some(tokenizer, config, catalog, on_batch=on_batch, ray=ray)
    embeddings = embeddings_from(
        config.embeddings,
        catalog,
        ids=config.embedding_ids,
        template=config.template,
        cache_dir=cache_dir,
    )
    if cf_embeddings is not None and config.cf_scale:
        embeddings = embeddings.with_cf(cf_embeddings, scale=config.cf_scale)
    return build_semantic_ids(
        tokenizer,
        embeddings,
        catalog,
        cf_embeddings=cf_embeddings if tokenizer.uses_cf else None,
        collisions=config.collisions,
    )


def _fitted_on_some(
    tokenizer: SemanticIdTokenizer,
    config: IdsConfig,
    catalog: Catalog,
    *,
    on_batch: Callable[[int], None] | None,
    ray: RayConfig | None,
) -> SemanticIds:
    """Fit encoder and tokenizer on ``config.fit_items`` items, and encode all in batches."""
    from semid.batched import costs_in_batches, encode_in_batches, sample_rows
    from semid.embed import is_vectors

    assert config.fit_items is not None
    rows = sample_rows(len(catalog), config.fit_items)
    items = catalog.take(rows)
    source = (_vectors if is_vectors(config.embeddings) else _texts)(config, catalog, items)
    some = build_semantic_ids(tokenizer, source.embeddings(rows), items, collisions="keep")
    some = replace(some, text_encoder=source.text_encoder)
    ids = encode_in_batches(some, catalog, source, ray=ray, on_batch=on_batch)
    return ids.resolve(config.collisions, costs=costs_in_batches(source, tokenizer))


def _vectors(config: IdsConfig, catalog: Catalog, items: Catalog) -> BatchSource:
    from semid.batched import VectorSource

    return VectorSource.of(config.embeddings, catalog, config.embedding_ids)


def _texts(config: IdsConfig, catalog: Catalog, items: Catalog) -> BatchSource:
    """The texts of a catalogue, with an encoder that was fitted on some items."""
    from semid.batched import TextSource
    from semid.encoders import LsaEncoder, encoder_named
    from semid.text_encoder import CatalogEncoder

    template = catalog.default_template() if config.template is None else config.template
    encoder = encoder_named(config.embeddings)
    fitted = encoder.fit(items.texts(template)) if isinstance(encoder, LsaEncoder) else encoder
    return TextSource(catalog, CatalogEncoder(encoder=fitted, template=template))


def require_made_by(
    ids: SemanticIds, config: IdsConfig, catalog: Catalog, *, where: str | os.PathLike[str]
) -> None:
    """Refuse ids that were made with other settings or inputs than those of a config.

    Settings that the config leaves open and inputs whose file is gone are not compared.

    Args:
        ids: The saved ids.
        config: Settings with which `ids_from_config` would make them now; ``cf_embeddings`` are not
            compared if None.
        catalog: The items.
        where: Name of the ids in the error.

    Raises:
        ProvenanceError: If scheme, settings, collisions, texts, embeddings or codes differ.
        ValueError: If the config does not fit the catalogue.
    """
    made = ids.provenance
    if config.scheme.startswith(_FILE):
        path = Path(config.scheme.removeprefix(_FILE))
        scheme, asked, recorded = f"{_FILE}{path.name}", config.settings, made.config
        inputs = {"codes_file": hash_file(path)} if path.exists() else {}
    else:
        tokenizer = _tokenizer(config, len(catalog))
        scheme, asked = tokenizer.scheme, tokenizer.settings
        recorded = {**settings_before(type(tokenizer)), **made.config.get("settings", {})}
        inputs = _input_hashes(config, catalog)
        if fields := fields_of(tokenizer.uses_fields, catalog):
            inputs["fields"] = hash_fields(fields)
    named = {*config.settings, *(["codebook_sizes"] if config.codebook_sizes else [])}
    expected = {
        "scheme": scheme,
        "collisions": config.collisions,
        "cf_scale": float(config.cf_scale),
    }
    found = {
        "scheme": ids.scheme,
        "collisions": made.config.get("collisions", {}).get("strategy"),
        "cf_scale": float(made.config.get("cf_scale", 0)),
    }
    expected |= {name: asked[name] for name in named if asked.get(name) is not None}
    found |= {name: recorded.get(name) for name in named}
    expected |= {name: content for name, content in inputs.items() if name in made.inputs}
    found |= made.inputs
    for name, value in expected.items():
        if hash_json(value) != hash_json(found[name]):
            raise ProvenanceError(
                f"the semantic ids in {where} were made from other {name} than now: expected "
                f"{str(value)[:20]}, got {str(found[name])[:20]}. Put back what they were made "
                "from, or name another folder."
            )


def _input_hashes(config: IdsConfig, catalog: Catalog) -> dict[str, str]:
    """Hashes of the inputs that `build_semantic_ids` would record now, as far as available."""
    from semid.batched import VectorSource, hash_texts
    from semid.embed import is_vectors
    from semid.vector_files import path_of

    hashes: dict[str, str] = {}
    if not is_vectors(config.embeddings):
        if config.fit_items is None:
            hashes[_TEXTS] = hash_ids(catalog.texts(config.template))
        else:
            hashes[_TEXTS] = hash_texts(catalog, config.template or catalog.default_template())
    vectors = {
        "embeddings": (config.embeddings, config.embedding_ids),
        _CF: (config.cf_embeddings, config.cf_embedding_ids),
    }
    if config.cf_scale:  # those that were coded are a concatenation
        del vectors["embeddings"]
    for name, (source, named) in vectors.items():
        if source and is_vectors(source) and path_of(source).exists():
            found = VectorSource.of(source, catalog, named).inputs()
            hashes[name] = found["embeddings"]
    return hashes


def _tokenizer(config: IdsConfig, num_items: int) -> SemanticIdTokenizer:
    """The scheme with its settings; an external one is checked as far as possible before a fit."""
    sized, sizes = {}, config.codebook_sizes
    made_by = load_tokenizer_class(config.scheme)
    if "codebook_sizes" in inspect.signature(made_by).parameters:
        sized["codebook_sizes"] = sizes or (_codes_for(num_items),) * 3
    elif sizes is not None:
        raise ValueError(
            f"expected no codebook_sizes for {config.scheme}, which takes none, got {sizes}. "
            "Leave them out."
        )
    tokenizer = make_tokenizer(config.scheme, {**sized, **config.settings})
    if tokenizer.scheme not in BUILT_IN:
        check_settings(tokenizer)
    return tokenizer


def _cf_embeddings(
    config: IdsConfig, tokenizer: SemanticIdTokenizer, catalog: Catalog
) -> Embeddings | None:
    from semid.embed import read_embeddings

    if tokenizer.uses_cf and config.cf_embeddings is None:
        raise ValueError(
            f"expected cf_embeddings for {config.scheme}, which learns from collaborative vectors, "
            "got none. Name a folder or a file of them."
        )
    if config.cf_embeddings is None and config.cf_scale:
        raise ValueError(
            f"expected cf_embeddings for a cf_scale of {config.cf_scale:g}, got none. Name a "
            "folder or a file of them."
        )
    if config.cf_embeddings is None:
        return None
    if not (tokenizer.uses_cf or config.cf_scale):
        raise ValueError(
            f"expected no cf_embeddings for {config.scheme}, which learns from embeddings alone, "
            f"got {config.cf_embeddings}. Leave them out, choose a scheme that uses them, or add "
            "them to the embeddings with a cf_scale above 0."
        )
    return read_embeddings(config.cf_embeddings, catalog, config.cf_embedding_ids)


def extend_ids_from_config(
    folder: str | os.PathLike[str],
    config: IdsConfig,
    catalog: Catalog,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    drop_missing: bool = False,
) -> SemanticIds:
    """Extend saved ids with ids for the items of a catalogue that have none yet.

    The text encoder saved with the ids embeds the new items. Without one, LSA is refitted on the
    original items, whose texts must not have changed; other encoders need no fit.

    Args:
        folder: Where `SemanticIds.save` wrote ids and tokenizer.
        config: ``collisions`` for the new items. ``embeddings`` and ``template`` must be the
            original ones and are needed only if no text encoder was saved. The scheme is the saved
            one and must be named only if it is not built in.
        catalog: Old and new items.
        cache_dir: Cache folder of embeddings, see `semid.embed.embed_catalog`.
        drop_missing: Whether items that the catalogue lacks lose their place, see
            `semid.extension.extend_semantic_ids`.

    Raises:
        ValueError: If the config names another scheme, settings, encoder or template, the texts of
            old items have changed, or as `semid.extension.extend_semantic_ids`.
    """
    from semid.embed import is_vectors, read_embeddings

    names = ["embeddings", "embedding_ids", "template", "collisions"]
    made_by = cast(Any, SemanticIdTokenizer)
    if ":" in config.scheme:
        names, made_by = [*names, "scheme"], load_tokenizer_class(config.scheme)
    given = {name: getattr(config, name) for name in names}
    if config != replace(IdsConfig(), **given):
        raise ValueError(
            f"expected only {', '.join(given)} when extending ids, got other settings "
            f"too. Leave them out: the scheme is the one that was saved in {folder}."
        )
    tokenizer = load_tokenizer(folder, made_by)
    ids = load_extendable(folder, made_by)
    how: dict[str, Any] = {"collisions": config.collisions, "drop_missing": drop_missing}
    if is_vectors(config.embeddings):
        embeddings = read_embeddings(config.embeddings, catalog, config.embedding_ids)
        return extend_semantic_ids(ids, tokenizer, embeddings, catalog, **how)
    if ids.text_encoder is None:
        ids = replace(ids, text_encoder=fit_text_encoder(ids, config, catalog))
    else:
        _require_encoder_of_the_time(ids.text_encoder, config)
    return extend_from_texts(ids, catalog, cache_dir=cache_dir, **how)


def _require_encoder_of_the_time(encoder: CatalogEncoder, config: IdsConfig) -> None:
    """Refuse a config whose encoder or template differs from that of the extended ids."""
    kept = {"embeddings": encoder.source, "template": encoder.template}
    asked = {"embeddings": config.embeddings, "template": config.template or encoder.template}
    if config.embeddings != IdsConfig.embeddings and asked["embeddings"] != kept["embeddings"]:
        name = "embeddings"
    elif asked["template"] != kept["template"]:
        name = "template"
    else:
        return
    raise ValueError(
        f"expected the {name} of the semantic ids that are extended, {kept[name]!r}, got "
        f"{asked[name]!r}: a different encoder or template gives different vectors. Leave it out."
    )


def fit_text_encoder(
    ids: SemanticIds, config: IdsConfig, catalog: Catalog
) -> CatalogEncoder | None:
    """The encoder that embedded the texts of semantic ids, to be saved with them.

    With ``replace(ids, text_encoder=...)``, `SemanticIds.save` writes it, so that new items can
    later be coded from the folder alone. LSA is refitted on the texts; its vocabularies and
    singular vectors take tens of MB for ten thousand items.

    Args:
        ids: Ids from `ids_from_config`, possibly extended since.
        config: The settings they were made with.
        catalog: Their items, with the original texts.

    Returns:
        That of the ids, if they have one; None for codes from a file, for ready-made vectors, and
        where collaborative ones are added.

    Raises:
        ProvenanceError: If the items' texts or the template have changed.
    """
    from semid.embed import is_vectors
    from semid.encoders import LsaEncoder, encoder_named
    from semid.text_encoder import CatalogEncoder

    if ids.text_encoder is not None:
        return ids.text_encoder
    if config.scheme.startswith(_FILE) or is_vectors(config.embeddings) or config.cf_scale:
        return None
    template = catalog.default_template() if config.template is None else config.template
    encoder = encoder_named(config.embeddings)
    if isinstance(encoder, LsaEncoder):
        fitted = _lsa_of_the_time(ids, encoder, template, catalog)
        return CatalogEncoder(encoder=fitted, template=template)
    return CatalogEncoder(encoder=encoder, template=template)


def _lsa_of_the_time(
    ids: SemanticIds, lsa: LsaEncoder, template: str, catalog: Catalog
) -> FittedLsa:
    """LSA refitted on the items that the ids were originally made for."""
    from semid.lsa import fit_lsa

    later = sum(record["items"] for record in ids.provenance.config.get("extended", []))
    texts = catalog.texts(template)
    fitted_texts = [texts[row] for row in catalog.rows(ids.item_ids[: len(ids) - later])]
    vectors, encoder = fit_lsa(fitted_texts, dim=lsa.dim, seed=lsa.seed)
    require_same(
        "LSA embeddings of the items that have ids",
        ids.provenance.inputs.get("embeddings"),
        hash_arrays(vectors),
        what_to_do="Were they made from other texts or another template, or have the items' texts "
        "changed since? Call extend_semantic_ids with embeddings of the encoder of the time.",
    )
    return encoder


def _codes_for(num_items: int) -> int:
    return min(256, 2 ** max(int(math.log2(num_items / 8)), 1)) if num_items >= 16 else 2
