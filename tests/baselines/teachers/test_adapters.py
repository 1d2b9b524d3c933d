"""Adapters: whatever has scores is a teacher, by the right item, or is refused in one line.

The models of other libraries are stand-ins that offer the methods which those document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from worlds import histories, random_sequences

from baselines.contracts.scorer import ItemScorer
from baselines.evaluation.ranking import rank_by_scores
from baselines.teachers.adapters import (
    CallableScorer,
    ExternalScorer,
    implicit_scorer,
    recbole_scorer,
    rectools_scorer,
)
from baselines.teachers.config import ItemKNNConfig
from baselines.teachers.itemknn import ItemKNN
from semid.catalog import Catalog

PASTS = [[3, 1, 4], [0], [2, 2, 5, 1, 0]]


def catalog(*item_ids: str | int) -> Catalog:
    return Catalog(item_ids=list(item_ids), fields=pl.DataFrame())  # type: ignore[arg-type]


LETTERS = catalog("a", "b", "c", "d", "e", "f")


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_a_function_gets_lists_of_rows_and_gives_any_kind_of_scores(
    kind: Callable[[Any], Any],
) -> None:
    seen: list[list[list[int]]] = []

    def count(pasts: list[list[int]]) -> Any:
        seen.append(pasts)
        return kind([[past.count(item) for item in range(6)] for past in pasts])

    scorer = CallableScorer(count, 6, max_history=3)
    assert isinstance(scorer, ItemScorer)
    scores = scorer.score(histories(*PASTS, padding=1))
    assert seen == [[[3, 1, 4], [0], [5, 1, 0]]]
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1]]


def test_a_teacher_of_ours_wrapped_in_a_function_ranks_the_same() -> None:
    data = random_sequences(9, 20)
    ours = ItemKNN(ItemKNNConfig(), data, 9)
    wrapped = CallableScorer(lambda pasts: ours.score(histories(*pasts)), 9)
    for policy in ("removed", "kept"):
        expected, found = (rank_by_scores(scorer, data) for scorer in (ours, wrapped))
        np.testing.assert_array_equal(found.better[policy], expected.better[policy])  # type: ignore[index]


def row_with(value: float) -> list[list[float]]:
    return [[0.0] * 3, [0.0, value, 0.0]]


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (row_with(float("nan")), "must be numbers or -inf, got nan for item 1 of history 1"),
        (row_with(float("inf")), "must be numbers or -inf, got inf for item 1 of history 1"),
        (
            [[0.0] * 3, [-float("inf")] * 3],
            "must be above -inf for some item, got none",
        ),
        ([[0.0] * 4] * 2, r"must be \(batch, item\) = \(2, 3\), got \(2, 4\)"),
        ([0.0] * 3, r"must be \(batch, item\) = \(2, 3\), got \(3,\)"),
    ],
)
def test_scores_that_cannot_teach_are_refused_in_one_line(scores: Any, says: str) -> None:
    scorer = CallableScorer(lambda pasts: scores, 3, name="mine")
    with pytest.raises(ValueError, match=f"scores of mine {says}") as refused:
        scorer.score(histories([0], [1]))
    assert "\n" not in str(refused.value)


def test_items_are_told_by_id_and_those_unknown_to_the_model_get_minus_infinity() -> None:
    """The model knows d, x, a and b, in that order; c, e and f are unknown to it."""
    seen: list[list[list[int]]] = []

    def external(pasts: list[list[int]]) -> list[list[float]]:
        seen.append(pasts)
        return [[10 * past[-1] + number for number in range(4)] for past in pasts]

    scorer = ExternalScorer(external, ["d", "x", "a", "b"], LETTERS)
    scores = scorer.score(histories(*PASTS, [4, 2]))
    assert seen == [[[0, 3], [2], [3, 2]]], "c and e are left out, and the last history whole"
    inf = float("inf")
    assert scores.tolist() == [
        [32, 33, -inf, 30, -inf, -inf],
        [22, 23, -inf, 20, -inf, -inf],
        [22, 23, -inf, 20, -inf, -inf],
        [0, 0, -inf, 0, -inf, -inf],
    ]


@pytest.mark.parametrize(
    ("item_ids", "says"),
    [
        (["a", "b", "a"], "have one number per item"),
        ([1, 2, 3], "no item in common: expected ids such as 'a', got ids such as 1"),
        ([None], "no item in common: expected ids such as 'a', got ids such as None"),
    ],
)
def test_ids_that_tell_no_item_are_refused(item_ids: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ExternalScorer(lambda pasts: pasts, item_ids, LETTERS)


def test_a_model_with_more_scores_than_ids_is_refused() -> None:
    scorer = ExternalScorer(lambda pasts: np.zeros((len(pasts), 3)), ["a", "b"], LETTERS)
    with pytest.raises(ValueError, match=r"external model must be .* = \(1, 2\), got \(1, 3\)"):
        scorer.score(histories([0]))


class RecBoleStandIn(nn.Module):
    """Scores by the last item, as a sequential recommender of RecBole is asked."""

    ITEM_SEQ, ITEM_SEQ_LEN, max_seq_length = "item_id_list", "item_length", 4

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(num_items**2).float().view(num_items, num_items))

    def full_sort_predict(self, interaction: Mapping[str, Tensor]) -> Tensor:
        items, lengths = interaction["item_id_list"], interaction["item_length"]
        assert items.shape[1] == self.max_seq_length
        assert ((items > 0).sum(dim=1) == lengths).all(), "right-padded with zeros"
        last = items.gather(1, lengths[:, None] - 1).squeeze(1)
        return self.table[last].flatten()


@pytest.mark.parametrize(
    ("tokens", "items"),
    [(["[PAD]", "c", "a", "b"], ("a", "b", "z")), (["[PAD]", "30", "10", "20"], (10, 20, 99))],
)
def test_a_recbole_model_is_asked_with_its_own_numbers(
    tokens: list[str], items: tuple[Any, ...]
) -> None:
    dataset = SimpleNamespace(iid_field="item_id", field2id_token={"item_id": np.array(tokens)})
    scorer = recbole_scorer(RecBoleStandIn(4), dataset, catalog(*items))
    assert scorer.max_history == 4
    scores = scorer.score(histories([1, 2, 0], [1], [0, 1, 0, 1, 0, 1]))
    inf = float("inf")  # a is the model's item 2, b is 3; a row of its table has four scores
    assert scores.tolist() == [[10, 11, -inf], [14, 15, -inf], [14, 15, -inf]]


class ImplicitStandIn:
    """Recommends by summed rows of a matrix, best first, as models of implicit do."""

    def __init__(self, similarity: np.ndarray, *, lists: int) -> None:
        self.similarity, self.lists = similarity, lists

    def recommend(
        self,
        userid: np.ndarray,
        user_items: csr_matrix,
        N: int = 10,
        filter_already_liked_items: bool = True,
        recalculate_user: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        assert user_items.shape[0] == len(userid)
        assert recalculate_user
        assert not filter_already_liked_items
        scores = user_items.toarray() @ self.similarity
        items = np.argsort(-scores, axis=1, kind="stable")[:, :N]
        values = np.take_along_axis(scores, items, axis=1)
        items[:, self.lists :] = -1
        return items, values


def test_an_implicit_model_is_asked_about_histories_as_new_users() -> None:
    similarity = np.random.default_rng(0).normal(size=(4, 4))
    ids = ["d", "x", "a", "b"]
    scorer = implicit_scorer(ImplicitStandIn(similarity, lists=4), ids, LETTERS)
    scores = scorer.score(histories(*PASTS))
    for row, own in zip(scores, [[0, 3], [2], [3, 2]], strict=True):
        expected = similarity[own].sum(axis=0)
        assert row[[3, 0, 1]].tolist() == pytest.approx(expected[[0, 2, 3]].tolist(), rel=1e-5)
        assert row[[2, 4, 5]].isinf().all()


def test_what_an_implicit_model_does_not_list_stands_below_what_it_lists() -> None:
    similarity = np.random.default_rng(0).normal(size=(6, 6))
    scorer = implicit_scorer(ImplicitStandIn(similarity, lists=2), list("abcdef"), LETTERS)
    for row, past in zip(scorer.score(histories(*PASTS)), PASTS, strict=True):
        exact = torch.from_numpy(similarity[sorted(set(past))].sum(axis=0))
        assert row.topk(2).indices.tolist() == exact.topk(2).indices.tolist()
        rest = row.sort().values[:4]
        assert rest[0] == rest[3]
        assert float(row.topk(2).values[1] - rest[3]) >= 1


class RecToolsStandIn:
    """Recommends the items of a dataset's users by their most recent day.

    Like the library's models it goes by the numbers of items, which a dataset gives by appearance.
    """

    def __init__(self, item_ids: list[str]) -> None:
        self.item_ids = item_ids

    def recommend(
        self, users: list[int], dataset: Mapping[str, list[Any]], k: int, filter_viewed: bool
    ) -> dict[str, list[Any]]:
        assert not filter_viewed
        assert list(dict.fromkeys(dataset["item_id"])) == self.item_ids
        table: dict[str, list[Any]] = {"user_id": [], "item_id": [], "score": [], "rank": []}
        for user in users:
            events = [
                (day, item)
                for own, item, day in zip(
                    dataset["user_id"], dataset["item_id"], dataset["datetime"], strict=True
                )
                if own == user
            ]
            for rank, (_, item) in enumerate(sorted(events, reverse=True)[:k], start=1):
                table["user_id"].append(user)
                table["item_id"].append(item)
                table["score"].append(1 / rank)
                table["rank"].append(rank)
        return table


def test_a_rectools_model_is_asked_with_a_dataset_of_the_histories() -> None:
    known = ["b", "a", "d"]
    scorer = rectools_scorer(RecToolsStandIn(known), dict, known, LETTERS)
    scores = scorer.score(histories([0, 2, 3], [1]))
    inf = float("inf")
    assert scores.tolist() == [[0.5, -0.5, -inf, 1.0, -inf, -inf], [0, 1.0, -inf, 0, -inf, -inf]]
