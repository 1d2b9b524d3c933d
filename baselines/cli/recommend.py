"""``semid recommend``: recommend items to users with a trained model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.batch_config import RecommendConfig
from baselines.cli.inputs import read_model

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from baselines.data.histories import UserHistories
    from baselines.models.bulk import BulkRecommender, Workers
    from baselines.models.recommender import Recommender


def recommend(config: RecommendConfig, console: Console) -> None:
    """Recommend items to users with a trained model; write a file, or print."""
    shop = _shop(config)
    bulk = _bulk_of(config, shop, _histories(config, shop))
    if config.out is None:
        lists = bulk.table()
        short = bulk.short([lists])
        _print(lists, console)
    else:
        short = bulk.write(Path(config.out), _workers(config))
        console.print(f"recommendations: {config.out}")
    for count, what in (
        (bulk.unknown, "items of histories are unknown and were skipped"),
        (bulk.without_items, "users have no known item and get the most popular items"),
        (short, f"users have fewer than {config.k} items: no more may be recommended to them"),
    ):
        if count:
            console.print(f"{count} {what}", style="yellow", highlight=False)


def _shop(config: RecommendConfig) -> Recommender:
    from baselines.models.beam_weights import BeamWeights

    weights = BeamWeights(
        prior=config.prior,
        partner_weight=config.partner_weight,
        item_weight=config.item_weight,
    )
    return read_model(config.model, config).with_beam(weights)


def _histories(config: RecommendConfig, shop: Recommender) -> UserHistories:
    from baselines.data.histories import UserHistories

    if config.histories is None:
        return UserHistories.typed(config.history or ())
    known = shop.model.items.catalog.ids
    found = UserHistories.read(config.histories, known=known, time_format=config.time_format)
    return found if config.user is None else found.only(config.user)


def _bulk_of(
    config: RecommendConfig, shop: Recommender, histories: UserHistories
) -> BulkRecommender:
    from baselines.data.item_files import read_boosts, read_items
    from baselines.models.bulk import BulkRecommender
    from baselines.models.rows import Request

    request = Request(
        k=config.k,
        within=None if config.within is None else read_items(config.within),
        exclude_seen=config.exclude_seen,
        boosts=None if config.boosts is None else read_boosts(config.boosts),
        unknown=config.unknown,
        empty=config.empty,
        batch_size=config.batch_size,
    )
    return BulkRecommender(shop, histories, request)


def _workers(config: RecommendConfig) -> Workers | None:
    from baselines.models.bulk import Workers

    if config.ray.address is None:
        return None
    return Workers(ray=config.ray, load=partial(_shop, config))


def _print(lists: pl.DataFrame, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(*lists.columns)
    for row in lists.iter_rows(named=True):
        values = {**row, "score": f"{row['score']:.3f}"}.values()
        shown.add_row(*(Text(str(value)) for value in values))
    console.print(shown)
