"""A model as it is served: loaded from a copy of its folder, and never changed."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
import shutil
import weakref
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import polars as pl

from baselines.models.beam_weights import BeamWeights
from baselines.models.bulk import lists_identity
from baselines.models.files import read_card
from baselines.models.recommender import Recommendation, Recommender
from baselines.models.requests import ItemId, ListOptions, known_histories, require_histories
from semid.provenance import hash_json


@dataclass(frozen=True, kw_only=True)
class Options(ListOptions):
    """The options of a request for recommendations.

    Attributes:
        beam: Weights in the model's beam.
    """

    beam: BeamWeights = field(default_factory=BeamWeights)


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The answer to a history.

    Attributes:
        items: The items, best first.
        unknown: Number of items of the history that the model does not know.
    """

    items: list[Recommendation]
    unknown: int


class FolderCopy:
    """A copy of a model's folder, which lasts as long as this object.

    Parts of a model are read from its files while it is in use, so it would break if they were
    changed in place.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: If it has no model.
    """

    def __init__(self, folder: Path) -> None:
        read_card(folder)  # raises before anything is copied
        place = mkdtemp(prefix="semid-serve-")
        weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        self.path = Path(place) / "model"
        shutil.copytree(folder, self.path)  # no links, which would change along


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A model in use.

    Attributes:
        recommender: The model.
        identity: Everything that determines its lists, but for added and removed items.
        fingerprint: State of the folder from which it was loaded.
        source: The copy of the folder that it was loaded from.
    """

    recommender: Recommender
    identity: Mapping[str, Any]
    fingerprint: str
    source: FolderCopy

    @cached_property
    def hash(self) -> str:
        """Hash of everything that determines its lists, 16 hexadecimal digits."""
        model = self.recommender.model
        changed = {
            "items": model.items.ids.provenance.content,
            "removed": sorted(model.removed),
        }
        return hash_json({**self.identity, **changed})[:16]

    @property
    def num_items(self) -> int:
        """Number of items that it can recommend."""
        model = self.recommender.model
        return len(model.items.catalog) - len(model.removed)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        backbone: str | None = None,
        teacher: str | None = None,
        base: str | None = None,
    ) -> ServedModel:
        """Load the model in a folder, rank once with it, and compute what requests look up.

        Args:
            folder: The folder.
            backbone: Class path of its backbone, if it is not built in.
            teacher: Class path of the teacher that it needs, likewise.
            base: Path of its base language model, if it has moved.

        Raises:
            FileNotFoundError: If there is no complete model.
            ValueError: As ``Recommender.from_pretrained``; or if the folder changes meanwhile, or
                the model's scores are not finite.
        """
        before = fingerprint(folder)
        source = FolderCopy(folder)
        recommender = Recommender.from_pretrained(
            source.path, backbone=backbone, teacher=teacher, base=base
        )
        if fingerprint(folder) != before:
            raise ValueError(f"expected a model that stays as it is, but {folder} was changed")
        served = cls(
            recommender=recommender,
            identity=lists_identity(recommender.model),
            fingerprint=before,
            source=source,
        )
        served._warm_up(folder)
        return served

    def _warm_up(self, folder: Path) -> None:
        catalog = self.recommender.model.items.catalog
        (found,) = self.recommend(Options(), [catalog.item_ids[:1]])
        if not all(math.isfinite(item.score) for item in found.items):
            raise ValueError(f"expected a model with finite scores in {folder}, got NaN")
        self._look_up()

    def _look_up(self) -> None:
        """Compute titles and item vectors, so that no request has to wait for them."""
        _ = self._small_titles
        with suppress(ValueError):  # it has no item vectors, and says so when asked
            self.recommender.similar(self.recommender.model.items.catalog.item_ids[0], 1)

    def recommend(
        self, options: Options, histories: Sequence[Sequence[ItemId]]
    ) -> list[Recommended]:
        """The best items after each history, with the same options.

        Raises:
            ValueError: As ``Recommender.recommend`` and ``Recommender.with_beam``.
        """
        recommender = self.recommender.with_beam(options.beam)
        known = known_histories(recommender.model.items.catalog, histories, options.unknown)
        require_histories(known, options.empty)
        found = recommender.listed(
            *recommender.best_rows(
                known,
                options.k,
                within=options.within,
                exclude_seen=options.exclude_seen,
                boosts=options.boosts,
                batch_size=len(histories),
            )
        )
        unknown = [len(history) for history in histories] - known.lengths
        return [
            Recommended(items=items, unknown=count)
            for items, count in zip(found, unknown.tolist(), strict=True)
        ]

    @cached_property
    def _small_titles(self) -> list[str]:
        return [title.casefold() for title in self.recommender.titles]

    def find(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Items whose titles contain a text in any case, those that begin with it first."""
        text = text.casefold()
        rows = [row for row, title in enumerate(self._small_titles) if text in title]
        rows.sort(key=lambda row: not self._small_titles[row].startswith(text))
        ids, titles = self.recommender.model.items.catalog.item_ids, self.recommender.titles
        return [{"item_id": ids[row], "title": titles[row]} for row in rows[:limit]]

    def with_items(self, rows: Sequence[Mapping[str, Any]]) -> ServedModel:
        """The model with new items.

        Raises:
            ValueError: As ``Recommender.add_items``.
        """
        changed = copy.copy(self.recommender)
        changed.add_items(_table(rows))
        return self._with(changed)

    def without_items(self, ids: Collection[ItemId]) -> ServedModel:
        """The model without some items.

        Raises:
            ValueError: As ``Recommender.remove_items``.
        """
        changed = copy.copy(self.recommender)
        changed.remove_items(ids)
        return self._with(changed)

    def _with(self, recommender: Recommender) -> ServedModel:
        changed = dataclasses.replace(self, recommender=recommender)
        changed._look_up()
        return changed


def fingerprint(folder: Path) -> str:
    """Hash of the names, sizes and times (of content and of state) of all files of a folder."""
    states = []
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(place) / name
            try:
                state = path.stat()
            except OSError:  # replaced at this moment, or not ours to read
                states.append(f"{path} gone")
            else:
                states.append(f"{path} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}")
    return hashlib.sha256("\n".join(sorted(states)).encode(errors="surrogateescape")).hexdigest()


def _table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    try:
        return pl.DataFrame(rows, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        raise ValueError(
            f"expected new items with values of one type in each field, got others: {error}"
        ) from error
