"""Filters within the trie, against exact scores with the forbidden items struck out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from tries import random_model, tries

from semid.decoding import beam_search, rank_items
from semid.filters import ItemFilter
from semid.prefixes import StatelessPrefixes
from semid.scoring import score_all
from semid.trie import CodeTrie

BATCH = 3
Lists = list[list[int]]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[CodeTrie, StatelessPrefixes, Lists | None, Lists | None]:
    """A trie, a model of its prefixes, and one or both lists."""
    trie = draw(tries())
    items = st.lists(st.integers(0, trie.num_items - 1), max_size=12)
    lists = st.lists(items, min_size=BATCH, max_size=BATCH)
    deny, allow = draw(st.tuples(lists, lists | st.none()) | st.tuples(st.none(), lists))
    return trie, random_model(trie, BATCH, draw(st.integers(0, 1000))), deny, allow


def padded(lists: Lists | None) -> Tensor | None:
    if lists is None:
        return None
    width = max(map(len, lists))
    return torch.tensor([row + [-1] * (width - len(row)) for row in lists], dtype=torch.int64)


@given(world=worlds(), k=st.integers(1, 25))
@settings(deadline=None, max_examples=60)
def test_k_items_come_back_wherever_k_exist(
    world: tuple[CodeTrie, StatelessPrefixes, Lists | None, Lists | None], k: int
) -> None:
    trie, start, deny, allow = world
    within = ItemFilter(trie, deny=padded(deny), allow=padded(allow))
    exact = score_all(start, trie)
    narrow = rank_items(beam_search(start, trie, beam=k, within=within), trie, k=k, within=within)
    wide = rank_items(
        beam_search(start, trie, beam=trie.num_items, within=within),
        trie,
        k=trie.num_items,
        within=within,
    )
    for row in range(BATCH):
        open_items = set(range(trie.num_items)) if allow is None else set(allow[row])
        open_items -= set() if deny is None else set(deny[row])
        scores = exact[row].tolist()
        best = sorted(open_items, key=lambda item: (-scores[item], int(trie.place_of_item[item])))
        found = [item for item in narrow.items[row].tolist() if item >= 0]
        assert len(set(found)) == len(found) == min(k, len(best))
        assert set(found) <= open_items
        assert wide.items[row].tolist() == best + [-1] * (trie.num_items - len(best))
        expected = [scores[item] for item in best] + [-math.inf] * (trie.num_items - len(best))
        assert wide.scores[row].tolist() == expected
        assert within.permits(torch.arange(-1, trie.num_items).expand(BATCH, -1))[row].tolist() == [
            item in open_items for item in range(-1, trie.num_items)
        ]


def flat_trie(items: int) -> CodeTrie:
    return CodeTrie.from_paths(torch.arange(items).unsqueeze(1), items)


def test_a_row_without_anything_to_return_does_not_hinder_the_others() -> None:
    trie = flat_trie(4)
    within = ItemFilter(trie, allow=torch.tensor([[-1, -1], [2, 2]]))

    def step(prefix: Tensor, /) -> Tensor:
        return torch.zeros(*prefix.shape[:2], 4)

    result = beam_search(StatelessPrefixes(step, 2), trie, beam=3, within=within)
    assert rank_items(result, trie, k=2, within=within).items.tolist() == [[-1, -1], [2, -1]]
    nothing = ItemFilter(trie, deny=torch.arange(4).expand(2, -1))
    assert (
        beam_search(StatelessPrefixes(step, 2), trie, beam=3, within=nothing).leaves == -1
    ).all()


def test_an_empty_deny_list_permits_everything() -> None:
    within = ItemFilter(flat_trie(3), deny=torch.empty(2, 0, dtype=torch.int64))
    assert within.permits(torch.tensor([[0, 1, 2], [2, 1, -1]])).tolist() == [
        [True, True, True],
        [True, True, False],
    ]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({}, "got neither"),
        ({"deny": torch.zeros(3, dtype=torch.int64)}, r"\(batch, n\)"),
        ({"deny": torch.zeros(3, 1)}, "int64"),
        ({"allow": torch.tensor([[7]])}, r"\[0, 7\) filled with -1, got 7 to 7"),
        ({"deny": torch.tensor([[-2]])}, "filled with -1"),
        ({"deny": torch.tensor([[0]]), "allow": torch.tensor([[0], [1]])}, "one row for each"),
    ],
)
def test_lists_must_be_rows_of_catalogue_rows(lists: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemFilter(flat_trie(7), **lists)


def test_a_filter_of_another_batch_is_refused() -> None:
    trie = flat_trie(4)
    within = ItemFilter(trie, deny=torch.tensor([[0]]))

    def step(prefix: Tensor, /) -> Tensor:
        return torch.zeros(*prefix.shape[:2], 4)

    with pytest.raises(ValueError, match="each of the 2 rows, got 1"):
        beam_search(StatelessPrefixes(step, 2), trie, beam=2, within=within)
    with pytest.raises(ValueError, match="each of the 2 rows, got 1"):
        rank_items(beam_search(StatelessPrefixes(step, 2), trie, beam=2), trie, k=1, within=within)


def test_a_filter_of_another_catalogue_is_refused() -> None:
    before, after = flat_trie(4), flat_trie(5)
    within, start = ItemFilter(before, deny=torch.tensor([[0]])), random_model(after, 1, 0)
    with pytest.raises(ValueError, match="for a trie of 4 items and 5 nodes, got one of 5 and 6"):
        beam_search(start, after, beam=2, within=within)
    with pytest.raises(ValueError, match="for a trie of 4 items and 5 nodes, got one of 5 and 6"):
        rank_items(beam_search(start, after, beam=2), after, k=1, within=within)


def test_what_is_no_catalogue_row_is_not_permitted() -> None:
    within = ItemFilter(flat_trie(4), deny=torch.tensor([[0], [1]]))
    rows = torch.tensor([[0, 3, 4, 5, 99], [-1, -7, 1, 4, 0]])
    assert within.permits(rows).tolist() == [
        [False, True, False, False, False],
        [False, False, False, False, True],
    ]
