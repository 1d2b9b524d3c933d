"""``semid build`` and ``semid inspect``: semantic IDs and their quality."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.cli.config import BuildConfig, InspectConfig
from semid.config import IdsConfig

if TYPE_CHECKING:
    from rich.console import Console

    from semid.catalog import Catalog
    from semid.ids import SemanticIds
    from semid.provenance import Provenance


def build(config: BuildConfig, console: Console) -> None:
    """Assign every item of a catalogue its semantic ID."""
    from baselines.data.loading import load_catalog
    from baselines.runtime.progress import track, track_epochs
    from semid.atomic import remove_leftovers
    from semid.build import extend_ids_from_config, fit_text_encoder, ids_from_config
    from semid.distributed import distributed_state
    from semid.provenance import Provenance
    from semid.quality import id_quality

    catalog = load_catalog(config.data)
    out = Path(config.out)
    _require_own(out, config, catalog)
    before = None if config.extends is None else Provenance.read(config.extends)
    cache = out.with_name(f"{out.name}.cache")
    remove_leftovers(cache)
    if config.extends is None:
        with track_epochs("semantic ids") as show, track("encoded items", len(catalog)) as items:
            ids = ids_from_config(
                config.ids, catalog, cache_dir=cache, on_epoch=show, on_batch=items.advance
            )
        ids = replace(ids, text_encoder=fit_text_encoder(ids, config.ids, catalog))
    else:
        ids = extend_ids_from_config(
            config.extends,
            config.ids,
            catalog,
            cache_dir=cache,
            drop_missing=config.drop_missing,
        )
    if distributed_state().is_main_process:
        ids.save(out)
    _print_quality(id_quality(ids), console)
    for line in _outcome(ids, before):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"semantic ids: {out}")


def _require_own(out: Path, config: BuildConfig, catalog: Catalog) -> None:
    """Refuse to replace anything but IDs of this catalogue, unless ``overwrite`` is set."""
    from semid.provenance import FILE_NAME, Provenance

    extends_itself = config.extends is not None and Path(config.extends).resolve() == out.resolve()
    if config.overwrite or extends_itself or not (out / FILE_NAME).is_file():
        return
    kept, cure = Provenance.read(out), "Name another folder with --out, or add --overwrite true."
    if kept.kind != "semantic_ids":
        raise ValueError(f"{out} holds something else than semantic ids ({kept.kind}). {cure}")
    if kept.items != catalog.order_hash:
        raise ValueError(f"{out} holds the semantic ids of another catalogue. {cure}")


def inspect(config: InspectConfig, console: Console) -> None:
    """Print the quality of semantic IDs, or of those that a scheme would build."""
    import polars as pl

    from semid.catalog import Catalog
    from semid.embed import read_embeddings
    from semid.quality import id_quality

    ids = _fitted_here(config) if config.ids is None else _read_ids(config.ids, config)
    spaces = {"embeddings": config.embeddings, "cf_embeddings": config.cf_embeddings}
    catalog = Catalog(item_ids=ids.item_ids, fields=pl.DataFrame())
    vectors = {name: read_embeddings(path, catalog) for name, path in spaces.items() if path}
    card = id_quality(ids, **vectors)
    if config.json:
        console.print_json(json.dumps(card))
    else:
        _print_quality(card, console)


def _read_ids(source: str, config: InspectConfig) -> SemanticIds:
    from baselines.data.loading import load_catalog
    from semid.atomic import recover
    from semid.build import ids_from_config
    from semid.ids import SemanticIds

    recover(source)
    if not Path(source).exists():
        raise FileNotFoundError(f"no folder or file of semantic ids {source}")
    if Path(source).is_dir():
        if config.settings:
            raise ValueError(
                f"settings are of a scheme or a file of codes, got some for the folder {source}. "
                "Name a scheme by --tokenizer, or leave them out."
            )
        ids = SemanticIds.load(source)
        return ids if config.data is None else ids.for_catalog(load_catalog(config.data))
    if config.data is None:
        raise ValueError(f"a file of codes needs its catalogue: add --data FOLDER to {source}")
    of_file = IdsConfig(scheme=f"file:{source}", settings=config.settings, collisions="keep")
    return ids_from_config(of_file, load_catalog(config.data))


def _fitted_here(config: InspectConfig) -> SemanticIds:
    from baselines.data.loading import load_catalog
    from baselines.runtime.progress import track_epochs
    from semid.build import ids_from_config
    from semid.tokenizers.base import load_tokenizer_class

    scheme = config.tokenizer or ""
    if config.data is None:
        raise ValueError(f"a scheme needs the items it is for: add --data FOLDER to {scheme}")
    learns_from_cf = load_tokenizer_class(scheme).uses_cf
    fitted = IdsConfig(
        scheme=scheme,
        codebook_sizes=config.codebook_sizes,
        settings=config.settings,
        embeddings=config.embeddings or "lsa",
        cf_embeddings=config.cf_embeddings if learns_from_cf else None,
        collisions="keep",
    )
    with track_epochs("semantic ids") as show:
        return ids_from_config(fitted, load_catalog(config.data), on_epoch=show)


def _outcome(ids: SemanticIds, before: Provenance | None) -> Iterator[str]:
    """What became of the items, one line each.

    Args:
        ids: The ids.
        before: Lineage of the ids that they extend; None if there are none.
    """
    made = ids.provenance.config
    if before is None:
        yield _told_apart(made["collisions"])
    elif ids.generation is None or before == ids.provenance:
        yield "no item is new or lost"
    else:
        step = ids.generation.last
        yield (
            f"generation {ids.generation.number}: {step.new} items are new, {step.returned} came "
            f"back, {step.lost} are lost"
        )
        if step.new:
            yield _told_apart(made["extended"][-1])
            yield (
                f"new items on prefixes that no item had, of 1, 2, … codes: "
                f"{_percent(step.unseen_prefixes)}; earlier items alone on theirs: "
                f"{_percent(step.alone_on_prefix)}"
            )
        if step.reencoded is not None:
            shift = "not known" if step.shift is None else f"{step.shift:.1%} of the variance"
            yield (
                f"drift: {step.reencoded:.1%} of the earlier items would get another first code "
                f"now; shift of the new items' mean vector: {shift}"
            )


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares)


def _told_apart(record: dict[str, Any]) -> str:
    lost = record["reconstruction_lost"]
    price = "not known" if lost is None else f"{lost:.2%}"
    return (
        f"collisions: {record['colliding_items']} items before {record['strategy']}, "
        f"{record['left']} after; {record['moved']} moved, {record['numbered']} numbered; "
        f"reconstruction lost: {price}"
    )


def _print_quality(quality: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    summary = Table("items", "distinct ids", "colliding items", "largest group")
    counts = ("items", "distinct", "colliding_items", "largest_group")
    summary.add_row(*(str(quality[name]) for name in counts))
    console.print(summary)
    if cut := quality.get("cut_texts"):
        console.print(f"{cut} of {quality['items']} texts were cut by the encoder")
    table = Table("level", "codes", "used", "share", "perplexity", "prefixes", "most children")
    for number, level in enumerate(quality["levels"], start=1):
        table.add_row(
            str(number),
            str(level["size"]),
            str(level["used"]),
            f"{level['utilisation']:.1%}",
            f"{level['perplexity']:.1f}",
            str(level["prefixes"]),
            str(level["max_children"]),
        )
    console.print(table)
    for space, found in quality.get("neighbours", {}).items():
        console.print(
            f"{space}: codes in common with the {found['k']} nearest items, AUC {found['auc']:.3f}"
        )
        table = Table("down to level", "nearest items", "all other items")
        for number, shares in enumerate(zip(found["share"], found["random"], strict=True), start=1):
            table.add_row(str(number), *(f"{share:.2%}" for share in shares))
        console.print(table)
