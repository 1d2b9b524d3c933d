"""The trie, against a nested dictionary."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.trie import CodeTrie

TokenPath = tuple[int, ...]
TENSORS = set(CodeTrie.__dataclass_fields__) - {"num_tokens"}

WORLD: list[TokenPath] = [
    (6, 7, 8),
    (1, 2, 4),
    (6, 2, 3),
    (1, 5, 3),
    (1, 2, 3),
    (6, 2, 3),  # twin of row 2
    (9, 9, 9),
]
RAGGED: list[TokenPath] = [(4, 0), (0,), (1, 2, 3, 0), (1, 0), (1, 2, 0), (1, 0)]


def paths_tensor(paths: list[TokenPath], depth: int | None = None) -> Tensor:
    depth = depth or max(map(len, paths))
    return torch.tensor([[*path, *[-1] * (depth - len(path))] for path in paths])


def dict_trie(paths: list[TokenPath]) -> dict[int, Any]:
    root: dict[int, Any] = {}
    for path in paths:
        node = root
        for token in path:
            node = node.setdefault(token, {})
    return root


def nodes_breadth_first(paths: list[TokenPath]) -> list[TokenPath]:
    """The definition of node ids: prefixes by depth, each depth in path order."""
    found: list[TokenPath] = []
    level: list[tuple[TokenPath, dict[int, Any]]] = [((), dict_trie(paths))]
    while level:
        found += [prefix for prefix, _ in level]
        level = [
            ((*prefix, token), node[token]) for prefix, node in level for token in sorted(node)
        ]
    return found


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[TokenPath], int]:
    """Paths in any order, ragged (a path that ends early ends with token 0), with twins."""
    num_tokens = draw(st.integers(1, 6))
    if num_tokens == 1 or draw(st.booleans()):
        depth = draw(st.integers(1, 4))
        token = st.integers(0, num_tokens - 1)
        path = st.lists(token, min_size=depth, max_size=depth).map(tuple)
    else:
        stem = st.lists(st.integers(1, num_tokens - 1), min_size=0, max_size=4)
        path = stem.map(lambda tokens: (*tokens, 0))
    return draw(st.lists(path, min_size=1, max_size=25)), num_tokens


def check_against_dictionary(paths: list[TokenPath], num_tokens: int) -> None:
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    prefixes = nodes_breadth_first(paths)
    node_of = {prefix: node for node, prefix in enumerate(prefixes)}
    assert (trie.num_nodes, trie.num_items) == (len(prefixes), len(paths))
    assert trie.depth == max(map(len, paths))
    assert trie.item_order.tolist() == sorted(range(len(paths)), key=lambda row: (paths[row], row))
    most = 0
    for node, prefix in enumerate(prefixes):
        grown = [n for n, p in enumerate(prefixes) if p[:-1] == prefix and p]
        most = max(most, len(grown))
        assert list(range(*trie.first_child[node : node + 2].tolist())) == grown
        assert int(trie.num_children(torch.tensor(node))) == len(grown)
        child, valid = trie.children(torch.tensor(node))
        assert child[valid].tolist() == grown
        assert int(trie.token_of_node[node]) == (prefix[-1] if prefix else -1)
        assert int(trie.parent_of_node[node]) == (node_of[prefix[:-1]] if prefix else -1)
        assert node in trie.nodes_of_depth(len(prefix)).tolist()
        below = [row for row, path in enumerate(paths) if path[: len(prefix)] == prefix]
        assert sorted(trie.items_below(node).tolist()) == below
        assert int(trie.walk(torch.tensor(prefix, dtype=torch.int64))) == node
        for token in range(-1, num_tokens + 1):
            reached = int(trie.step(torch.tensor(node), torch.tensor(token)))
            assert reached == node_of.get((*prefix, token), -1)
        if prefix:
            known = trie.tokens_of_depth(len(prefix) - 1)
            assert int(known[trie.column_of_node[node]]) == prefix[-1]
    assert trie.max_children == most
    for depth in range(trie.depth):
        follow = {path[: depth + 1] for path in paths if len(path) > depth}
        assert trie.tokens_of_depth(depth).tolist() == sorted({path[-1] for path in follow})
        assert trie.width_of_depth(depth) == max(Counter(path[:-1] for path in follow).values())
    for row, path in enumerate(paths):
        along = [node_of[path[: min(pos, len(path))]] for pos in range(trie.depth + 1)]
        assert trie.path(torch.tensor(row)).tolist() == along
        assert int(trie.node_of_item[row]) == node_of[path]


@pytest.mark.parametrize("paths", [WORLD, RAGGED], ids=["fixed", "ragged"])
def test_hand_written_paths_make_the_trie_of_a_dictionary(paths: list[TokenPath]) -> None:
    check_against_dictionary(paths, 10)


@given(catalogue=catalogues())
@settings(deadline=None, max_examples=60)
def test_any_paths_make_the_trie_of_a_dictionary(catalogue: tuple[list[TokenPath], int]) -> None:
    check_against_dictionary(*catalogue)


@given(catalogue=catalogues(), seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_shuffled_rows_give_the_same_trie(
    catalogue: tuple[list[TokenPath], int], seed: int
) -> None:
    paths, num_tokens = catalogue
    order = list(range(len(paths)))
    random.Random(seed).shuffle(order)
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    shuffled = CodeTrie.from_paths(paths_tensor([paths[row] for row in order]), num_tokens)
    for name in TENSORS - {"item_order"}:
        assert torch.equal(getattr(trie, name), getattr(shuffled, name)), name
    assert torch.equal(trie.node_of_item[order], shuffled.node_of_item)


@given(catalogue=catalogues(), num_tokens=st.sampled_from([2**20, 2**21 - 1, 2**31 - 1]))
@settings(deadline=None, max_examples=40)
def test_a_large_vocabulary_gives_the_same_trie(
    catalogue: tuple[list[TokenPath], int], num_tokens: int
) -> None:
    paths = paths_tensor(catalogue[0])
    small, large = CodeTrie.from_paths(paths, catalogue[1]), CodeTrie.from_paths(paths, num_tokens)
    for name in TENSORS:
        assert torch.equal(getattr(small, name), getattr(large, name)), name


def test_paths_of_thirty_tokens_of_a_large_vocabulary_lead_to_their_items() -> None:
    gen = torch.Generator().manual_seed(0)
    stem, own = torch.randint(128_000, (2, 50, 30), generator=gen)
    shared = torch.randint(31, (50, 1), generator=gen)  # leading tokens that all items share
    paths = torch.where(torch.arange(30) < shared, stem[0], own)
    trie = CodeTrie.from_paths(paths, 128_000)
    assert trie.item_order.tolist() == sorted(range(50), key=lambda row: (paths[row].tolist(), row))
    assert torch.equal(trie.walk(paths), trie.node_of_item.long())
    assert torch.equal(trie.token_of_node[trie.path(torch.arange(50))[:, 1:]].long(), paths)


@given(catalogue=catalogues(), prefix=st.lists(st.integers(-2, 7), max_size=5))
@settings(deadline=None, max_examples=60)
def test_a_prefix_outside_the_trie_leads_nowhere(
    catalogue: tuple[list[TokenPath], int], prefix: list[int]
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    known = any(path[: len(prefix)] == tuple(prefix) for path in paths)
    assert (int(trie.walk(torch.tensor(prefix, dtype=torch.int64))) != -1) == known


def test_prefixes_are_walked_together() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    tokens = torch.tensor([[[1, 2], [6, 7]], [[9, 9], [9, 8]]])
    assert trie.walk(tokens).tolist() == [[4, 7], [8, -1]]
    assert trie.walk(tokens[..., :0]).tolist() == [[0, 0], [0, 0]]


def test_child_slots_are_padded_to_the_asked_width() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    nodes = torch.tensor([[0, 1], [4, 12]])
    child, valid = trie.children(nodes, 5)
    assert child.shape == valid.shape == (2, 2, 5)
    assert valid.sum(-1).tolist() == [[3, 2], [2, 0]]
    assert 0 <= int(child.min()) <= int(child.max()) < trie.num_nodes
    assert trie.children(nodes)[0].shape == (2, 2, 3)
    assert trie.children(nodes[:0])[0].shape == (0, 2, 0)
    with pytest.raises(ValueError, match="3 children, which do not fit into 2 slots"):
        trie.children(nodes, 2)


def test_a_column_that_no_path_reaches_adds_no_depth() -> None:
    trie = CodeTrie.from_paths(paths_tensor(RAGGED, depth=6), 10)
    same = CodeTrie.from_paths(paths_tensor(RAGGED), 10)
    assert trie.depth == same.depth == 4
    for name in TENSORS:
        assert torch.equal(getattr(trie, name), getattr(same, name)), name


def test_a_saved_trie_comes_back_equal(tmp_path: Path) -> None:
    trie = CodeTrie.from_paths(paths_tensor(RAGGED), 10).to("cpu")
    trie.save(tmp_path / "trie.safetensors")
    back = CodeTrie.load(tmp_path / "trie.safetensors")
    assert (back.num_tokens, back.depth, back.device) == (10, 4, torch.device("cpu"))
    for name in TENSORS:
        assert torch.equal(getattr(back, name), getattr(trie, name)), name


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (torch.zeros(0, 3, dtype=torch.int64), r"not empty, got torch.int64 \(0, 3\)"),
        (torch.zeros(3, 0, dtype=torch.int64), "not empty"),
        (torch.zeros(3, dtype=torch.int64), r"\(item, level\)"),
        (torch.zeros(3, 2), "got torch.float32"),
        (torch.tensor([[0, 1], [2, 10]]), r"\[0, 10\), got 10 at level 1 of item 1"),
        (torch.tensor([[0, 1], [-2, 1]]), "got -2 at level 0 of item 1"),
        (torch.tensor([[0, 1], [-1, -1]]), "item 1 has an empty path"),
        (torch.tensor([[0, 1, 2], [1, -1, 2]]), r"a hole in it: \[1, -1, 2\]"),
        (torch.tensor([[3, 1], [0, 1], [3, -1]]), "item 2 is a prefix of the path of item 0"),
        (torch.tensor([[3, -1], [3, -1], [3, 0]]), "item 1 is a prefix of the path of item 2"),
    ],
)
def test_paths_that_make_no_trie_are_refused(paths: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeTrie.from_paths(paths, 10)


def test_more_than_int32_can_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at most 2147483647 items, got 2147483648"):
        CodeTrie.from_paths(torch.zeros(1, 1, dtype=torch.int64).expand(2**31, 1), 10)
    with pytest.raises(ValueError, match="at most 2147483647 tokens"):
        CodeTrie.from_paths(paths_tensor(WORLD), 2**31)
    monkeypatch.setattr("semid.trie_building._MOST", 12)
    with pytest.raises(ValueError, match="at most 12 nodes"):
        CodeTrie.from_paths(paths_tensor(WORLD), 10)
