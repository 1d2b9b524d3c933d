"""A changed trie is, tensor for tensor, the trie of the changed table."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semid.trie import CodeTrie
from semid.trie_changes import add_items, remove_items

Paths = list[list[int]]

STEMS = st.lists(st.integers(1, 3), max_size=4)
PATHS = st.lists(STEMS.map(lambda stem: [*stem, 0]), min_size=1, max_size=16)  # twins, ragged


def table(paths: Paths) -> Tensor:
    width = max(map(len, paths))
    return torch.tensor([path + [-1] * (width - len(path)) for path in paths])


def trie_of(paths: Paths) -> CodeTrie:
    return CodeTrie.from_paths(table(paths), 4)


def assert_same(found: CodeTrie, expected: CodeTrie) -> None:
    for field in dataclasses.fields(CodeTrie):
        value, wanted = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(wanted, Tensor):
            assert value.dtype == wanted.dtype
            assert value.tolist() == wanted.tolist(), field.name
        else:
            assert value == wanted


@given(old=PATHS, new=PATHS)
def test_adding_is_building_from_both(old: Paths, new: Paths) -> None:
    assert_same(add_items(trie_of(old), table(new)), trie_of(old + new))


@given(paths=PATHS, data=st.data())
def test_removing_is_building_from_the_rest(paths: Paths, data: st.DataObject) -> None:
    gone = data.draw(st.lists(st.integers(0, len(paths) - 1), max_size=len(paths)))
    rest = [path for row, path in enumerate(paths) if row not in gone]
    if rest:
        assert_same(remove_items(trie_of(paths), torch.tensor(gone).long()), trie_of(rest))


@given(old=PATHS, new=PATHS)
def test_what_was_added_can_be_removed(old: Paths, new: Paths) -> None:
    added = torch.arange(len(old), len(old) + len(new))
    before = trie_of(old)
    assert_same(remove_items(add_items(before, table(new)), added), trie_of(old))
    assert_same(before, trie_of(old))


def test_a_large_catalogue_changes_as_a_small_one() -> None:
    gen = torch.Generator().manual_seed(0)
    paths = torch.randint(16, (3000, 4), generator=gen)
    old, new = paths[:2500], paths[2500:]
    assert_same(add_items(CodeTrie.from_paths(old, 16), new), CodeTrie.from_paths(paths, 16))
    gone = torch.randint(3000, (400,), generator=gen)
    rest = paths[~torch.isin(torch.arange(3000), gone)]
    assert_same(remove_items(CodeTrie.from_paths(paths, 16), gone), CodeTrie.from_paths(rest, 16))


@pytest.mark.parametrize(("old", "new"), [([1, 2], [1, 2, 3]), ([1, 2, 3], [1, 2])])
def test_a_path_that_is_a_prefix_of_another_is_refused(old: list[int], new: list[int]) -> None:
    with pytest.raises(ValueError, match="items 1 and 2 one is a prefix of the other"):
        add_items(trie_of([[3], old]), table([new]))


def test_items_of_other_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        add_items(trie_of([[1]]), torch.tensor([[4]]))


@pytest.mark.parametrize("rows", [[2], [-1]])
def test_items_that_are_not_there_cannot_be_removed(rows: list[int]) -> None:
    with pytest.raises(ValueError, match=r"catalogue rows in \[0, 2\)"):
        remove_items(trie_of([[1], [2]]), torch.tensor(rows))


def test_a_catalogue_keeps_an_item() -> None:
    with pytest.raises(ValueError, match="keep at least one"):
        remove_items(trie_of([[1], [2]]), torch.tensor([0, 1]))


def test_rows_to_remove_that_are_a_mask_are_refused() -> None:
    for rows in (torch.tensor([True, False]), torch.tensor([1, 0], dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"must be int64 \(item,\)"):
            remove_items(trie_of([[1], [2]]), rows)
