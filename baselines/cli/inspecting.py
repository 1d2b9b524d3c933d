"""``semid inspect``: the ID cards of semantic IDs, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.cli.config import InspectConfig
from baselines.cli.errors import Missed
from baselines.cli.id_cards import advice_lines, card_lines
from semid.config import IdsConfig

if TYPE_CHECKING:
    from rich.console import Console

    from baselines.data.dataset import Dataset
    from baselines.reporting.cards.shown import ShownIds
    from semid.catalog import Catalog
    from semid.embed import Embeddings
    from semid.ids import SemanticIds
    from semid.inspecting import Evidence, Neighbours

_FILE = "file:"


def inspect(config: InspectConfig, console: Console) -> None:
    """Compare semantic IDs, or those of a scheme, with each other and with random ones."""
    from baselines.reporting.cards.shown import ShownIds
    from baselines.reporting.cards.writing import cards_as_json
    from semid.atomic import atomic_write
    from semid.inspecting import id_card

    if config.out is not None and Path(config.out).exists() and not Path(config.out).is_dir():
        raise ValueError(f"out must be a folder, got the file {config.out}. Name another one.")
    known = _Known.of(config)
    sets = _sets(config, known)
    known = known.of_first(sets) if config.embeddings or config.cf_embeddings else known
    sets = {name: known.in_order(ids) for name, ids in sets.items()}
    vectors = known.vectors(config)
    evidence = known.evidence(config, vectors)
    shown = [
        ShownIds(
            number=number,
            card=id_card(ids, evidence, name=name, embeddings=vectors.get("embeddings")),
            ids=ids,
            titles=known.titles(ids),
            events=evidence.events,
        )
        for number, (name, ids) in enumerate(sets.items())
    ]
    cards = [one.card for one in shown]
    print_cards(cards, console)
    if config.json is not None:
        atomic_write(config.json, cards_as_json(shown))
        console.print(f"figures: {config.json}", soft_wrap=True, highlight=False)
    if config.out is not None:
        _write(shown, vectors, Path(config.out), console)
    missed = sum(not check["passes"] for card in cards for check in card["checks"])
    if config.strict and missed:
        raise Missed(f"{missed} thresholds are missed, see above, and --strict was set")


def _write(
    shown: Sequence[ShownIds], vectors: Mapping[str, Embeddings], folder: Path, console: Console
) -> None:
    """Write the page, with a map by the first vectors that are given."""
    from baselines.reporting.cards.figures import ItemMap, points_of_each
    from baselines.reporting.cards.writing import RECORD, SHEET, TABLE, write_cards
    from baselines.reporting.writing import missing_packages

    space = next(iter(vectors), None)
    places = None
    if space is not None:
        places = ItemMap.of(vectors[space], space, points_of_each(len(shown)))
    page = write_cards(shown, places, folder)
    lines = [f"files: {folder}/{RECORD}, {TABLE}, {SHEET}"]
    if page is None:
        missing = " and ".join(missing_packages())
        lines.append(f"no ids.html: it needs {missing}: pip install 'semid[report]'")
    else:
        lines.append(f"page: {page}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_cards(cards: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print cards side by side, and their advice."""
    for line in (*card_lines(cards, console.width), *advice_lines(cards, console.width)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the command knows of the items, apart from their IDs.

    Attributes:
        catalog: The items, in the order of all figures; None if each set has its own.
        dataset: Their events; None if there are none.
    """

    catalog: Catalog | None
    dataset: Dataset | None

    @classmethod
    def of(cls, config: InspectConfig) -> _Known:
        from baselines.data.loading import has_events, load_catalog, load_dataset

        if config.data is None:
            return cls(catalog=None, dataset=None)
        if not has_events(config.data):
            return cls(catalog=load_catalog(config.data), dataset=None)
        dataset = load_dataset(config.data, split=config.split)
        return cls(catalog=dataset.catalog, dataset=dataset)

    def of_first(self, sets: Mapping[str, SemanticIds]) -> _Known:
        """With the items of the first set as the catalogue, if there is no other."""
        import polars as pl

        from semid.catalog import Catalog

        if self.catalog is not None:
            return self
        first = next(iter(sets.values()))
        return replace(self, catalog=Catalog(item_ids=first.item_ids, fields=pl.DataFrame()))

    def in_order(self, ids: SemanticIds) -> SemanticIds:
        return ids if self.catalog is None else ids.for_catalog(self.catalog)

    def titles(self, ids: SemanticIds) -> list[str]:
        """A title of each item, or its ID."""
        return list(map(str, ids.item_ids)) if self.catalog is None else self._titles

    @cached_property
    def _titles(self) -> list[str]:
        from baselines.models.titles import titles_of

        assert self.catalog is not None
        return titles_of(self.catalog)

    def vectors(self, config: InspectConfig) -> dict[str, Embeddings]:
        """The vectors that the command names, by space."""
        from semid.embed import embeddings_from, read_embeddings

        if self.catalog is None:
            return {}
        found = {}
        if config.embeddings is not None:
            found["embeddings"] = embeddings_from(config.embeddings, self.catalog)
        if config.cf_embeddings is not None:
            found["cf_embeddings"] = read_embeddings(config.cf_embeddings, self.catalog)
        return found

    def evidence(self, config: InspectConfig, vectors: Mapping[str, Embeddings]) -> Evidence:
        import torch

        from semid.inspecting import Evidence, nearest_by_cosine

        spaces = {
            name: nearest_by_cosine(torch.from_numpy(given.vectors))
            for name, given in vectors.items()
        }
        events = None
        if self.dataset is not None:
            train, num_items = self.dataset.splits.train, len(self.dataset.catalog)
            events = torch.bincount(torch.from_numpy(train.items), minlength=num_items)
            if (near := _cooccurring(self.dataset)) is not None:
                spaces["cooccurrence"] = near
        return Evidence(spaces=spaces, labels=self._labels(config.category), events=events)

    def _labels(self, category: str | None) -> Any:
        """The categories of each item; None if there are none and none were asked for."""
        from semid.inspecting.evidence import labels_of

        columns = [] if self.catalog is None else self.catalog.fields.columns
        name = category or "categories"
        if name in columns:
            assert self.catalog is not None
            return labels_of(self.catalog.fields[name])
        if category is None:
            return None
        raise ValueError(
            f"expected the column {category!r} of the catalogue, got "
            f"{', '.join(sorted(columns)) or 'no columns'}. Name one of them by --category."
        )


def _cooccurring(dataset: Dataset) -> Neighbours | None:
    """Items that the same users have, in training; None if no two share a user."""
    import torch

    from baselines.data.cooccurrence import nearest_cooccurring
    from semid.inspecting.neighbours import NEIGHBOURS, Neighbours, items_to_compare

    train, num_items = dataset.splits.train, len(dataset.catalog)
    asked, k = items_to_compare(num_items), max(min(NEIGHBOURS, num_items - 1), 1)
    rows, similarity = map(
        torch.from_numpy, nearest_cooccurring(train, num_items, count=k, of=asked.numpy())
    )
    place, column = (similarity > 0).nonzero(as_tuple=True)
    if not len(place):
        return None
    return Neighbours(
        items=asked[place],
        others=rows[place, column],
        k=k,
        sampled=len(asked) < num_items,
    )


def _sets(config: InspectConfig, known: _Known) -> dict[str, SemanticIds]:
    """The IDs to inspect, by the name that the command gives them."""
    if config.tokenizer is not None:
        return {config.tokenizer: _fitted_here(config, known.catalog)}
    return {source: _read_ids(source, config, known.catalog) for source in config.ids}


def _read_ids(source: str, config: InspectConfig, catalog: Catalog | None) -> SemanticIds:
    from semid.atomic import recover
    from semid.build import ids_from_config
    from semid.ids import SemanticIds

    path = source.removeprefix(_FILE)
    recover(path)
    if not Path(path).exists():
        raise FileNotFoundError(f"no folder or file of semantic ids {path}")
    if Path(path).is_dir():
        if config.settings:
            raise ValueError(
                f"settings are of a scheme or a file of codes, got some for the folder {path}. "
                "Name a scheme by --tokenizer, or leave them out."
            )
        folder = _folder_of_ids(Path(path))
        ids = SemanticIds.load(folder)
        return _with_tokenizer(ids, folder) if config.embeddings else ids
    if catalog is None:
        raise ValueError(f"a file of codes needs its catalogue: add --data FOLDER to {path}")
    of_file = IdsConfig(scheme=f"{_FILE}{path}", settings=config.settings, collisions="keep")
    return ids_from_config(of_file, catalog)


def _folder_of_ids(folder: Path) -> Path:
    """The folder itself, or that of the IDs in the folder of a model or a comparison."""
    from baselines.models.files import IDS
    from semid.provenance import FILE_NAME

    within = folder / IDS
    return within if (within / FILE_NAME).is_file() else folder


def _with_tokenizer(ids: SemanticIds, folder: Path) -> SemanticIds:
    """The IDs with their tokenizer, if it is saved and built in: a folder names no code to run."""
    from semid.extension import load_tokenizer
    from semid.ids import TOKENIZER_FOLDER
    from semid.tokenizers.base import BUILT_IN

    if ids.scheme not in BUILT_IN or not (folder / TOKENIZER_FOLDER).is_dir():
        return ids
    return replace(ids, tokenizer=load_tokenizer(folder))


def _fitted_here(config: InspectConfig, catalog: Catalog | None) -> SemanticIds:
    from baselines.runtime.progress import track_epochs
    from semid.build import ids_from_config
    from semid.tokenizers.base import load_tokenizer_class

    scheme = config.tokenizer or ""
    if catalog is None:
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
        return ids_from_config(fitted, catalog, on_epoch=show)
