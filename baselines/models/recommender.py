"""A trained model in use: item IDs in, item IDs out."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from baselines.models.beam_weights import BeamWeights, with_beam_weights
from baselines.models.config import Empty, Unknown
from baselines.models.explanation import Explanation, explain
from baselines.models.hub import model_folder, push_to_hub
from baselines.models.item_vectors import item_vectors_of
from baselines.models.new_items import with_new_items
from baselines.models.requests import (
    ItemId,
    KnownHistories,
    allowed_rows,
    batches,
    boosts_of,
    known_histories,
    require_histories,
    rows_of,
)
from baselines.models.search import best_items
from baselines.models.titles import titles_of
from baselines.models.trained import TrainedModel
from semid.arrays import Float32Array, IntArray
from semid.boosts import ItemBoosts
from semid.checks import require_int

logger = logging.getLogger(__name__)


class Recommendation(NamedTuple):
    """A recommended item.

    Attributes:
        item_id: Its ID.
        score: Log-probability by which the model ranks it, plus any boost; for popular items, the
            log of its share of the training events.
        title: Its title, else its first text, else its ID.
    """

    item_id: ItemId
    score: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Recommendations(Sequence[list[Recommendation]]):
    """One list per history, best item first.

    Attributes:
        lists: The lists, in the order of the histories.
        unknown: Number of history items that the model does not know, and that were skipped.
        short: Number of lists with fewer than ``k`` items because filters left no more.
    """

    lists: list[list[Recommendation]]
    unknown: int
    short: int

    def __getitem__(self, number):  # type: ignore[no-untyped-def]  # typed as in list
        return self.lists[number]

    def __len__(self) -> int:
        return len(self.lists)


class Recommender:
    """Recommends and explains items, and accepts new ones.

    Args:
        model: The model, on the device to use.

    Raises:
        ValueError: If the model reads user numbers.
    """

    def __init__(self, model: TrainedModel) -> None:
        if model.backbone.reads_users:
            raise ValueError(
                f"expected a model that reads histories alone, got a {model.backbone.label} with "
                "user tokens, whose numbers are those of its training data. Train it without: "
                "--backbones.tiger.user_tokens 0."
            )
        self.model = model

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        backbone: str | None = None,
        teacher: str | None = None,
        base: str | None = None,
    ) -> Recommender:
        """Load a model written by ``semid train``, ``semid pick`` or ``semid compare``.

        Args:
            source: Its folder, or, if no such folder exists, ``owner/name`` on the Hub.
            backbone: Class path of its backbone, if it is not built in.
            teacher: ``package.module:Name`` of the teacher that it needs, likewise.
            base: Path of its base language model, if it has moved.

        Raises:
            FileNotFoundError: If there is no complete model.
            ValueError: As ``TrainedModel.load``.
        """
        folder = model_folder(source)
        return cls(TrainedModel.load(folder, backbone=backbone, teacher=teacher, base=base))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model, including added and removed items, replacing any model in the folder.

        Raises:
            FileExistsError: If the folder holds anything else.
        """
        self.model.save(Path(folder))

    def push_to_hub(
        self, repo_id: str, *, licence: str, private: bool | None = None, token: str | None = None
    ) -> str:
        """Push the model in its current state; see ``baselines.models.hub.push_to_hub``."""
        return push_to_hub(self.model, repo_id, licence=licence, private=private, token=token)

    def recommend(
        self,
        histories: Sequence[Sequence[ItemId]],
        k: int = 10,
        *,
        within: Collection[ItemId] | None = None,
        exclude_seen: bool = True,
        boosts: Mapping[ItemId, float] | None = None,
        unknown: Unknown = "skip",
        empty: Empty = "refuse",
        batch_size: int = 256,
    ) -> Recommendations:
        """The ``k`` best items after each history.

        Args:
            histories: Item IDs of each user, oldest first.
            k: Length of the lists.
            within: The only items that may be recommended, such as those in stock; None for all.
                IDs that the model does not know are ignored.
            exclude_seen: Whether items of a history are excluded from its list.
            boosts: Values added to the log-probability of items.
            unknown: How history items that the model does not know are handled.
            empty: How histories without known items are handled.
            batch_size: Histories decoded at a time; determines memory use.

        Returns:
            One list per history, shorter than ``k`` if filters leave fewer items.

        Raises:
            ValueError: If a number is below 1, a policy is unknown or refuses a history, or no item
                may be recommended.
        """
        require_int("k", k, 1)
        require_int("batch_size", batch_size, 1)
        known = known_histories(self.model.items.catalog, histories, unknown)
        require_histories(known, empty)
        lists = self.listed(
            *self.best_rows(
                known,
                k,
                within=within,
                exclude_seen=exclude_seen,
                boosts=boosts,
                batch_size=batch_size,
            )
        )
        short = sum(len(found) < k for found in lists)
        for count, what in (
            (known.unknown, "items of histories are unknown and were skipped"),
            (short, f"lists have fewer than {k} items: no more may be recommended"),
        ):
            if count:
                logger.warning("%d %s", count, what)
        return Recommendations(lists=lists, unknown=known.unknown, short=short)

    def with_beam(self, weights: BeamWeights) -> Recommender:
        """The same recommender with other weights in its beam; this one stays as it is.

        Raises:
            ValueError: If the model does not have what is weighted.
        """
        changed = copy.copy(self)
        changed.model = with_beam_weights(self.model, weights)
        return changed

    def best_rows(
        self,
        known: KnownHistories,
        k: int,
        *,
        within: Collection[ItemId] | None = None,
        exclude_seen: bool = True,
        boosts: Mapping[ItemId, float] | None = None,
        batch_size: int = 256,
    ) -> tuple[IntArray, Float32Array]:
        """The lists of ``recommend`` as arrays; empty histories get the most popular items.

        Returns:
            Catalogue rows, int64 ``(history, min(k, item))``, -1 where filters leave no more; and
            scores, float32, of the same shape.

        Raises:
            ValueError: If no item may be recommended, or a boosted item is unknown.
        """
        allow = self._allowed(within)
        added = None if boosts is None else boosts_of(self.model.items.catalog, boosts)
        trie = self.model.backbone.trie
        inside = None if added is None else ItemBoosts(trie, added.to(trie.device))
        k_found = min(k, len(self.model.items.catalog))
        shape = (len(known.lengths), k_found)
        items = np.full(shape, -1, dtype=np.int64)
        scores = np.full(shape, -np.inf, dtype=np.float32)
        for rows, found in self._search(known, k_found, allow, exclude_seen, inside, batch_size):
            items[rows], scores[rows] = found
        popular = np.flatnonzero(known.lengths == 0)
        items[popular], scores[popular] = self._popular(k_found, allow, added)
        return items, scores

    def listed(self, items: IntArray, scores: Float32Array) -> list[list[Recommendation]]:
        """The lists that ``best_rows`` returned as arrays."""
        ids, titles = self.model.items.catalog.item_ids, self.titles
        return [
            [
                Recommendation(ids[row], score, titles[row])
                for row, score in zip(found, values, strict=True)
                if row >= 0
            ]
            for found, values in zip(items.tolist(), scores.tolist(), strict=True)
        ]

    def explain(self, history: Sequence[ItemId], item: ItemId) -> Explanation:
        """Explain an item's rank after a history, level by level, with the teacher's view.

        Args:
            history: Item IDs, oldest first; unknown ones are skipped.
            item: The item.

        Raises:
            ValueError: If the item is unknown, no item of the history is known, or the model does
                not rank by beam search.
        """
        known = known_histories(self.model.items.catalog, [history], "skip")
        if not known.lengths[0]:
            raise ValueError(
                f"expected an item that the model knows in the history, got {history!r}"
            )
        row = int(rows_of(self.model.items.catalog, [item])[0])
        if row < 0:
            raise ValueError(f"expected an item that the model knows, got {item!r}")
        ((_, histories),) = batches(known, 1, self._longest)
        return explain(self.model, histories.to(self._device), row)

    def add_items(
        self,
        table: pl.DataFrame | Sequence[Mapping[str, Any]],
        *,
        tokenizer: str | None = None,
    ) -> None:
        """Code new items from their texts, so that they can be recommended, without training.

        Args:
            table: One row per item: ``item_id``, and the texts that its codes are made from.
            tokenizer: Class path of the ID scheme, if it is not built in.

        Raises:
            ValueError: As ``with_new_items``.
        """
        self.model = with_new_items(self.model, table, tokenizer=tokenizer)
        for name in ("titles", "_vectors"):
            self.__dict__.pop(name, None)

    def similar(self, item: ItemId, k: int = 10) -> list[Recommendation]:
        """The items with the nearest vectors, scored by cosine similarity.

        Uses text vectors from the encoder that codes are made from or, without one, the teacher's
        item vectors.

        Raises:
            ValueError: If the item is unknown, or the model has no item vectors.
        """
        require_int("k", k, 1)
        row = int(rows_of(self.model.items.catalog, [item])[0])
        if row < 0:
            raise ValueError(f"expected an item that the model knows, got {item!r}")
        cosines = self._vectors @ self._vectors[row]
        order = np.argsort(-cosines, kind="stable")
        order = order[order != row][:k]
        ids, titles = self.model.items.catalog.item_ids, self.titles
        return [Recommendation(ids[i], float(cosines[i]), titles[i]) for i in order]

    def remove_items(self, ids: Collection[ItemId]) -> None:
        """Stop recommending some items; they remain known in histories.

        Raises:
            ValueError: If an item is unknown, or none would be left.
        """
        rows = rows_of(self.model.items.catalog, ids)
        if (rows < 0).any():
            name = list(ids)[int(np.flatnonzero(rows < 0)[0])]
            raise ValueError(f"expected items that the model knows, got {name!r}")
        removed = self.model.removed | frozenset(rows.tolist())
        if len(removed) == len(self.model.items.catalog):
            raise ValueError("expected items that are left to recommend, got all to remove")
        self.model = dataclasses.replace(self.model, removed=removed)

    @property
    def _device(self) -> torch.device:
        return self.model.backbone.paths.device

    @property
    def _longest(self) -> int:
        """Largest number of history items that the model or what stands beside it reads."""
        model = self.model
        content = None if model.content is None else model.content.model
        parts = (model.backbone, model.partner, content)
        return max(part.max_history for part in parts if part is not None)

    @cached_property
    def titles(self) -> list[str]:
        """Title of each item, in catalogue order; see ``titles_of``."""
        return titles_of(self.model.items.catalog)

    @cached_property
    def _vectors(self) -> Float32Array:
        """Item vectors of unit length, float32 ``(item, dim)``."""
        vectors = item_vectors_of(self.model)
        unit: Float32Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return unit

    def _allowed(self, within: Collection[ItemId] | None) -> IntArray | None:
        """Catalogue rows that may be recommended; None for all."""
        catalog, removed = self.model.items.catalog, sorted(self.model.removed)
        if within is None and not removed:
            return None
        allowed = np.arange(len(catalog)) if within is None else allowed_rows(catalog, within)
        allowed = np.setdiff1d(allowed, removed, assume_unique=True)
        if not len(allowed):
            raise ValueError(
                "expected items that may be recommended, got none but those that were removed"
            )
        return allowed

    def _search(
        self,
        known: KnownHistories,
        k: int,
        allow: IntArray | None,
        exclude_seen: bool,
        boosts: ItemBoosts | None,
        batch_size: int,
    ) -> Iterator[tuple[IntArray, tuple[IntArray, Float32Array]]]:
        """For each batch, the numbers of its histories and the items and scores of their lists."""
        device = self._device
        deny, allowed = self._short_list(allow)
        for rows, histories in batches(known, batch_size, self._longest):
            lists = [] if deny is None else [deny.expand(len(rows), -1)]
            if exclude_seen:
                lists.append(known.padded(rows).to(device))
            found = best_items(
                self.model,
                histories.to(device),
                k=k,
                deny=torch.cat(lists, dim=1) if lists else None,
                allow=None if allowed is None else allowed.expand(len(rows), -1),
                boosts=boosts,
            )
            yield rows, (found.items.cpu().numpy(), found.scores.cpu().numpy())

    def _short_list(self, allow: IntArray | None) -> tuple[Tensor | None, Tensor | None]:
        """The shorter of two lists: items denied to every history, or items allowed."""
        if allow is None:
            return None, None
        num_items, device = len(self.model.items.catalog), self._device
        if 2 * len(allow) <= num_items:
            return None, torch.from_numpy(allow).to(device).unsqueeze(0)
        others = np.setdiff1d(np.arange(num_items), allow, assume_unique=True)
        return torch.from_numpy(others).to(device).unsqueeze(0), None

    def _popular(
        self, k: int, allow: IntArray | None, boosts: Tensor | None
    ) -> tuple[IntArray, Float32Array]:
        counts = self.model.items.counts + 1
        scores = np.log(counts / counts.sum()).astype(np.float32)
        if boosts is not None:
            scores = scores + boosts.numpy()
        if allow is not None:
            forbidden = np.ones(len(scores), dtype=bool)
            forbidden[allow] = False
            scores = np.where(forbidden, -np.inf, scores)
        best = np.argsort(-scores, kind="stable")[:k]
        return np.where(scores[best] > -np.inf, best, -1), scores[best]
