"""Adapters that turn models of other libraries, or any scoring function, into teachers.

None of the libraries is imported: the adapters use the models' public methods, and are tested with
stand-ins that offer the same methods, not with the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.scorer import require_scores
from baselines.data.batches import Histories
from semid.catalog import Catalog

ScoreLists = Callable[[list[list[int]]], Any]
"""Maps histories, oldest item first, to scores ``(history, item)``: array, tensor or lists."""

ItemId = str | int | None


class CallableScorer:
    """An ``ItemScorer`` from any function of histories.

    Args:
        function: Takes non-empty histories as lists of catalogue rows, oldest first; returns scores
            ``(history, item)`` of all catalogue rows, ``-inf`` for items it cannot recommend.
            Higher is better; for a teacher they should be log-probabilities up to a constant and a
            temperature.
        num_items: Size of the catalogue.
        max_history: Maximum number of history items passed to the function.
        name: Name of the function in errors.
    """

    def __init__(
        self,
        function: ScoreLists,
        num_items: int,
        *,
        max_history: int = 50,
        name: str = "the scorer",
    ) -> None:
        self.function = function
        self.num_items = num_items
        self.max_history = max_history
        self.name = name

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """The function's scores; float32 ``(batch, item)`` on the CPU.

        Raises:
            ValueError: If the function returns a wrong shape, NaN, +inf, or only -inf for some
                history.
        """
        past = histories.last(self.max_history)
        pasts = [items[mask].tolist() for items, mask in zip(past.items, past.mask, strict=True)]
        scores = _as_tensor(self.function(pasts))
        _require_shape(scores, (len(pasts), self.num_items), whose=self.name)
        require_scores(scores, histories, whose=self.name)
        return scores


class ExternalScorer(CallableScorer):
    """An ``ItemScorer`` from a model with its own item numbering.

    Items known only to the model are ignored; items known only to the catalogue get ``-inf`` and
    are removed from histories. If nothing is left of a history, all known items get the score 0.

    Args:
        function: Takes histories as lists of the model's item numbers; returns scores
            ``(history, model item)``.
        item_ids: Catalogue id of each of the model's item numbers; ``None`` for numbers that are
            not items, such as padding.
        catalog: The catalogue.
        max_history: Maximum number of history items passed to the model.
        name: Name of the model in errors.

    Raises:
        ValueError: If two numbers have the same id, or no id is in the catalogue.
    """

    def __init__(
        self,
        function: ScoreLists,
        item_ids: Sequence[ItemId],
        catalog: Catalog,
        *,
        max_history: int = 50,
        name: str = "the external model",
    ) -> None:
        super().__init__(self._scores, len(catalog), max_history=max_history, name=name)
        self.external = function
        self.num_external = len(item_ids)
        number_of = {item: number for number, item in enumerate(item_ids) if item is not None}
        if len(number_of) < sum(item is not None for item in item_ids):
            raise ValueError(f"{name} must have one number per item, but some id occurs twice")
        numbers = [number_of.get(item, -1) for item in catalog.item_ids]
        self.number_of_row = torch.tensor(numbers, dtype=torch.int64)
        known = self.number_of_row >= 0
        if not known.any():
            raise ValueError(
                f"{name} and the catalogue have no item in common: expected ids such as "
                f"{catalog.item_ids[0]!r}, got ids such as {next(iter(number_of), None)!r}. "
                "Are they of the same data, and the same type (text or numbers)?"
            )
        self.known_rows = known.nonzero().squeeze(1)

    def _scores(self, pasts: list[list[int]]) -> Tensor:
        number_of_row = self.number_of_row.tolist()
        known = [[number_of_row[row] for row in past if number_of_row[row] >= 0] for past in pasts]
        answered = [position for position, past in enumerate(known) if past]
        scores = torch.full((len(pasts), self.num_items), -torch.inf)
        scores[:, self.known_rows] = 0.0
        if answered:
            found = _as_tensor(self.external([known[position] for position in answered]))
            _require_shape(found, (len(answered), self.num_external), whose=self.name)
            of_known = found[:, self.number_of_row[self.known_rows]]
            scores[torch.tensor(answered)[:, None], self.known_rows] = of_known
        return scores


def recbole_scorer(model: Any, dataset: Any, catalog: Catalog) -> ExternalScorer:
    """A sequential recommender of RecBole, as returned by its ``load_data_and_model``.

    Args:
        model: A ``SequentialRecommender`` in eval mode: ``full_sort_predict``, given a mapping with
            ``model.ITEM_SEQ`` (right-padded with 0 to ``model.max_seq_length``) and
            ``model.ITEM_SEQ_LEN``, returns the scores of all items. Models that need user ids
            cannot be used.
        dataset: Its dataset: ``field2id_token[iid_field]`` lists the original item ids by number,
            starting with padding.
        catalog: Item ids must be those of the atomic files; integers may be text there.

    Returns:
        The scorer. It is not recorded which interactions the model has seen: make sure to train it
        on this split's training part alone.
    """
    as_numbers = isinstance(catalog.item_ids[0], int)
    tokens: list[ItemId] = [None]
    for token in map(str, dataset.field2id_token[dataset.iid_field][1:]):
        is_number = as_numbers and token.lstrip("-").isdecimal()
        tokens.append(int(token) if is_number else token)
    longest = int(model.max_seq_length)

    def scores(pasts: list[list[int]]) -> Tensor:
        lengths = torch.tensor([len(past) for past in pasts])
        padded = torch.zeros(len(pasts), longest, dtype=torch.int64)
        for row, past in enumerate(pasts):
            padded[row, : len(past)] = torch.tensor(past)
        device = next(model.parameters()).device
        asked = {model.ITEM_SEQ: padded.to(device), model.ITEM_SEQ_LEN: lengths.to(device)}
        found: Tensor = model.full_sort_predict(asked)
        return found.view(len(pasts), -1)[:, : len(tokens)]

    return ExternalScorer(scores, tokens, catalog, max_history=longest, name="the RecBole model")


def implicit_scorer(
    model: Any, item_ids: Sequence[ItemId], catalog: Catalog, *, max_history: int = 50
) -> ExternalScorer:
    """A model of ``implicit`` (version 0.5 or later) that can score new users.

    ``model.recommend(users, user_items, N=, filter_already_liked_items=False,
    recalculate_user=True)`` returns items and scores for each row of a sparse matrix. Items it does
    not list (item-item models omit items without evidence) get a score as far below the lowest
    listed one as that is below the highest.

    Args:
        model: The fitted model.
        item_ids: Id of each column of the matrix it was fitted to.
        catalog: The catalogue.
        max_history: Maximum number of history items passed to the model.
    """
    from scipy.sparse import csr_matrix

    def scores(pasts: list[list[int]]) -> Tensor:
        shape = (len(pasts), len(item_ids))
        row = np.repeat(np.arange(len(pasts)), [len(set(past)) for past in pasts])
        column = np.array([item for past in pasts for item in sorted(set(past))])
        user_items = csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape)
        listed, values = model.recommend(
            np.arange(len(pasts)),
            user_items,
            N=len(item_ids),
            filter_already_liked_items=False,
            recalculate_user=True,
        )
        return _spread(
            [(own[own >= 0], its[own >= 0]) for own, its in zip(listed, values, strict=True)], shape
        )

    return ExternalScorer(
        scores, item_ids, catalog, max_history=max_history, name="the implicit model"
    )


def rectools_scorer(
    model: Any,
    make_dataset: Callable[[Mapping[str, list[Any]]], Any],
    item_ids: Sequence[ItemId],
    catalog: Catalog,
    *,
    max_history: int = 50,
) -> ExternalScorer:
    """A model of RecTools that can recommend to users it was not fitted to.

    ``model.recommend(users, dataset, k, filter_viewed=False)`` returns a table with the columns
    ``user_id``, ``item_id`` and ``score``. Items it does not list are scored as in
    ``implicit_scorer``.

    RecTools numbers items by first appearance in a dataset, and a fitted model relies on these
    numbers. A dataset of histories therefore starts with an additional user who has all items in
    the model's order; no recommendations are requested for this user.

    Args:
        model: The fitted model.
        make_dataset: Turns columns ``user_id``, ``item_id``, ``weight`` and ``datetime`` (days in
            the order of the history) into a RecTools dataset:
            ``lambda columns: Dataset.construct(pandas.DataFrame(columns))``.
        item_ids: Ids of all items the model knows, in its order:
            ``dataset.item_id_map.get_external_sorted_by_internal()`` of its training dataset.
        catalog: The catalogue.
        max_history: Maximum number of history items passed to the model.
    """
    number_of = {item: number for number, item in enumerate(item_ids)}

    def scores(pasts: list[list[int]]) -> Tensor:
        everything = range(len(item_ids))
        events = [
            (user, item_ids[number], np.datetime64("2000-01-01") + np.timedelta64(day, "D"))
            for user, past in enumerate([everything, *pasts], start=-1)
            for day, number in enumerate(past)
        ]
        columns: dict[str, list[Any]] = {
            "user_id": [user for user, _, _ in events],
            "item_id": [item for _, item, _ in events],
            "weight": [1.0] * len(events),
            "datetime": [day for _, _, day in events],
        }
        table = model.recommend(
            list(range(len(pasts))), make_dataset(columns), len(item_ids), filter_viewed=False
        )
        user = np.asarray(table["user_id"], dtype=np.int64)
        number = np.array([number_of[item] for item in table["item_id"]], dtype=np.int64)
        score = np.asarray(table["score"], dtype=np.float64)
        rows = [(number[user == own], score[user == own]) for own in range(len(pasts))]
        return _spread(rows, (len(pasts), len(item_ids)))

    return ExternalScorer(
        scores, item_ids, catalog, max_history=max_history, name="the RecTools model"
    )


def _require_shape(scores: Tensor, shape: tuple[int, int], *, whose: str) -> None:
    if tuple(scores.shape) != shape:
        raise ValueError(
            f"scores of {whose} must be (batch, item) = {shape}, got {tuple(scores.shape)}"
        )


def _as_tensor(scores: Any) -> Tensor:
    if isinstance(scores, Tensor):
        return scores.detach().to("cpu", torch.float32)
    return torch.from_numpy(np.array(scores, dtype=np.float32))


def _spread(rows: list[tuple[Any, Any]], shape: tuple[int, int]) -> Tensor:
    """Turn lists of items and scores into dense rows, with unlisted items below listed ones."""
    scores = torch.zeros(shape)
    for row, (items, values) in enumerate(rows):
        if len(items):
            low, high = float(np.min(values)), float(np.max(values))
            scores[row] = low - max(high - low, 1.0)
            scores[row, torch.as_tensor(items, dtype=torch.int64)] = torch.as_tensor(
                values, dtype=torch.float32
            )
    return scores
