"""``semid build``: semantic IDs, and what became of the items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.cli.batch_config import BuildConfig
from baselines.cli.inspecting import print_cards

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
    from semid.inspecting import Evidence, id_card
    from semid.provenance import Provenance

    catalog = load_catalog(config.data)
    out = Path(config.out)
    _require_own(out, config, catalog)
    before = None if config.extends is None else Provenance.read(config.extends)
    cache = out.with_name(f"{out.name}.cache")
    remove_leftovers(cache)
    if config.extends is None:
        with track_epochs("semantic ids") as show, track("encoded items", len(catalog)) as items:
            ids = ids_from_config(
                config.ids,
                catalog,
                cache_dir=cache,
                on_epoch=show,
                on_batch=items.advance,
                ray=config.ray,
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
    print_cards([id_card(ids, Evidence(), name=config.out)], console)
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
