import itertools
import math
from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.collisions import Costs, resolve_collisions
from semid.tokenizers.sinkhorn import sinkhorn

Path: TypeAlias = tuple[int, ...]
Case: TypeAlias = tuple[Tensor, tuple[int, ...], Costs, Tensor]


def costs_of(sizes: tuple[int, ...], vectors: Tensor) -> Costs:
    """Squared distances to random codewords; one row at a time, so that batches do not matter."""
    generator = torch.Generator().manual_seed(0)
    books = [torch.randn(size, 3, generator=generator).double() for size in sizes]

    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        found = torch.empty(len(rows), sizes[prefix.shape[1]])
        for place, (row, path) in enumerate(zip(rows.tolist(), prefix.tolist(), strict=True)):
            rest = vectors[row].double()
            for book, code in zip(books, path, strict=False):
                rest = rest - book[code]
            found[place] = (rest - books[len(path)]).square().sum(dim=1)
        return found

    return costs


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Crowded codes, a few vectors (some equal), and codes that are taken; there is room."""
    sizes = draw(st.sampled_from([(3, 4), (2, 2, 3), (2, 1, 3), (12,)]))
    path = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    crowded = st.one_of(st.sampled_from([(0,) * len(sizes), (1,) + (0,) * (len(sizes) - 1)]), path)
    taken = draw(st.lists(path, max_size=4))
    room = math.prod(sizes) - len(set(taken))
    codes = draw(st.lists(crowded, min_size=1, max_size=room))
    seeds = draw(st.lists(st.integers(0, 4), min_size=len(codes), max_size=len(codes)))
    table = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    held = torch.tensor(taken, dtype=torch.int64).reshape(-1, len(sizes))
    return torch.tensor(codes), sizes, costs_of(sizes, table[seeds]), held


def cost(costs: Costs, row: int, path: Path) -> float:
    return float(
        costs(torch.tensor([row]), torch.tensor([path[:-1]], dtype=torch.int64))[0, path[-1]]
    )


def next_nearest_by_definition(case: Case) -> list[Path]:
    codes, sizes, costs, taken = case
    paths: list[Path | None] = [tuple(path) for path in codes.tolist()]
    given_paths = [tuple(path) for path in codes.tolist()]
    held = {tuple(path) for path in taken.tolist()}
    line = sorted(range(len(paths)), key=lambda row: (cost(costs, row, given_paths[row]), row))
    for row in line:
        if given_paths[row] in held:
            paths[row] = None
        held.add(given_paths[row])
    last = len(sizes) - 1

    def has_room(prefix: Path) -> bool:
        rest = itertools.product(*map(range, sizes[len(prefix) :]))
        return any(prefix + path not in held for path in rest)

    def descend(row: int, prefix: Path) -> Path:
        while len(prefix) < len(sizes):
            codes_here = [c for c in range(sizes[len(prefix)]) if has_room((*prefix, c))]
            best = min(codes_here, key=lambda c: (cost(costs, row, (*prefix, c)), c))
            prefix = (*prefix, best)
        return prefix

    for back in (False, True):
        for row in line:
            if paths[row] is None:
                prefix = given_paths[row][:last]
                if not back and not has_room(prefix):
                    continue
                while not has_room(prefix):
                    prefix = prefix[:-1]
                paths[row] = descend(row, prefix)
                held.add(paths[row])
    return [path for path in paths if path is not None]


@given(cases())
def test_next_nearest_is_the_definition(case: Case) -> None:
    codes, sizes, costs, taken = case
    resolved = resolve_collisions(codes, sizes, "next_nearest", costs=costs, taken=taken)
    assert list(map(tuple, resolved.codes.tolist())) == next_nearest_by_definition(case)


@given(cases())
def test_after_next_nearest_no_two_items_collide(case: Case) -> None:
    codes, sizes, costs, taken = case
    before = codes.clone()
    for some_costs in (costs, None):
        resolved = resolve_collisions(codes, sizes, "next_nearest", costs=some_costs, taken=taken)
        paths = list(map(tuple, resolved.codes.tolist()))
        assert len(set(paths)) == len(paths)
        assert not set(paths) & set(map(tuple, taken.tolist()))
        assert resolved.after.colliding_items == 0
    assert codes.equal(before)


@pytest.mark.parametrize("strategy", ["next_nearest", "sinkhorn", "sinkhorn+next_nearest"])
@given(case=cases())
def test_at_most_the_items_that_collide_move(strategy: str, case: Case) -> None:
    codes, sizes, costs, taken = case
    paths = list(map(tuple, codes.tolist()))
    held = paths + list(map(tuple, taken.tolist()))
    collides = torch.tensor([held.count(path) > 1 for path in paths])
    resolved = resolve_collisions(codes, sizes, strategy, costs=costs, taken=taken)
    moved = (resolved.codes != codes).any(dim=1)
    assert not (moved & ~collides).any()
    assert resolved.moved == int(moved.sum())
    groups = {path: {row for row, p in enumerate(paths) if p == path} for path in paths}
    if strategy == "next_nearest":
        for path, rows in groups.items():
            stay = sum(not moved[row] for row in rows)
            assert stay == (path not in set(map(tuple, taken.tolist())))


@given(cases())
def test_prefixes_are_kept_unless_they_are_full(case: Case) -> None:
    codes, sizes, costs, taken = case
    resolved = resolve_collisions(codes, sizes, "next_nearest", costs=costs, taken=taken)
    left = (resolved.codes[:, :-1] != codes[:, :-1]).any(dim=1)
    held = set(map(tuple, torch.cat([resolved.codes, taken]).tolist()))
    for *prefix, _ in codes[left].tolist():
        assert all((*prefix, code) in held for code in range(sizes[-1]))
    shared = resolve_collisions(codes, sizes, "sinkhorn", costs=costs, taken=taken)
    assert shared.codes[:, :-1].equal(codes[:, :-1])


@pytest.mark.parametrize("strategy", ["next_nearest", "sinkhorn+next_nearest"])
@settings(max_examples=40)  # one takes long
@given(seed=st.integers(0, 1000))
def test_row_order_does_not_matter_where_no_two_items_are_equally_far(
    strategy: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = (2, 6)
    vectors = torch.randn(9, 3, generator=generator)
    codes = torch.randint(2, (9, 2), generator=generator)
    order = torch.randperm(9, generator=generator)
    resolved = resolve_collisions(codes, sizes, strategy, costs=costs_of(sizes, vectors))
    shuffled = resolve_collisions(
        codes[order], sizes, strategy, costs=costs_of(sizes, vectors[order])
    )
    assert shuffled.codes.equal(resolved.codes[order])


def test_items_of_equal_embeddings_are_told_apart_by_their_rows() -> None:
    sizes = (2, 3)
    costs = costs_of(sizes, torch.zeros(4, 3))
    near = costs(torch.tensor([0]), torch.tensor([[0]]))[0].argsort().tolist()
    codes = torch.tensor([[0, near[0]]] * 4)
    resolved = resolve_collisions(codes, sizes, "next_nearest", costs=costs)
    assert resolved.codes[:3].tolist() == [[0, code] for code in near]
    assert resolved.codes[3, 0] == 1


def test_sinkhorn_is_the_plan_of_each_group_round_by_round() -> None:
    sizes = (2, 8)
    vectors = torch.randn(14, 3, generator=torch.Generator().manual_seed(2))
    codes = torch.tensor([[0, 0]] * 6 + [[0, 5]] * 4 + [[1, 1]] * 2 + [[1, 2], [0, 7]])
    costs = costs_of(sizes, vectors)
    expected = [tuple(path) for path in codes.tolist()]
    alone = {(1, 2), (0, 7)}
    for _ in range(20):
        new = list(expected)
        for path in set(expected):
            rows = [row for row, p in enumerate(expected) if p == path]
            if len(rows) == 1:
                continue
            choices = [c for c in range(8) if (path[0], c) not in alone]
            table = costs(torch.tensor(rows), torch.tensor([[path[0]]] * len(rows)))[:, choices]
            for row, shares, far in zip(rows, sinkhorn(table), table, strict=True):
                largest = [c for c in range(len(choices)) if shares[c] >= shares.max() - 1e-6]
                new[row] = (path[0], choices[min(largest, key=lambda c: float(far[c]))])
        expected = new
    resolved = resolve_collisions(codes, sizes, "sinkhorn", costs=costs)
    assert list(map(tuple, resolved.codes.tolist())) == expected
    assert resolved.moved > 0
    assert resolved.after.colliding_items < resolved.before.colliding_items == 12


def test_sinkhorn_leaves_equal_items_where_they_are() -> None:
    sizes = (2, 8)
    codes = torch.tensor([[0, 3]] * 3)
    resolved = resolve_collisions(codes, sizes, "sinkhorn", costs=costs_of(sizes, torch.ones(3, 3)))
    assert resolved.codes.equal(codes)
    assert resolved.after == resolved.before


def test_sinkhorn_gives_a_single_item_at_taken_codes_the_nearest_that_is_free() -> None:
    sizes = (2, 8)
    costs = costs_of(sizes, torch.ones(1, 3))
    near = costs(torch.tensor([0]), torch.tensor([[1]]))[0].argsort().tolist()
    taken = torch.tensor([[1, near[0]], [1, near[1]]])
    resolved = resolve_collisions(taken[:1], sizes, "sinkhorn", costs=costs, taken=taken)
    assert resolved.codes.tolist() == [[1, near[2]]]


def test_sinkhorn_has_no_choice_below_a_prefix_that_others_fill() -> None:
    sizes = (2, 2)
    codes = torch.tensor([[0, 0], [0, 0], [1, 0]])
    taken = torch.tensor([[0, 0], [0, 1]])
    resolved = resolve_collisions(
        codes, sizes, "sinkhorn", costs=costs_of(sizes, torch.randn(3, 3)), taken=taken
    )
    assert resolved.codes.equal(codes)
    assert resolved.after.colliding_items == 2


def test_more_items_than_paths_are_refused() -> None:
    codes = torch.zeros(5, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"at most 4 items.*got 5 and 0.*extra_level"):
        resolve_collisions(codes, (2, 2), "next_nearest")
    with pytest.raises(ValueError, match=r"got 4 and 1 paths that are taken"):
        resolve_collisions(codes[:4], (2, 2), "next_nearest", taken=torch.tensor([[0, 0], [0, 0]]))
    full = resolve_collisions(codes[:4], (2, 2), "next_nearest")
    assert sorted(full.codes.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_an_extra_level_of_the_old_catalogue_is_zero_for_items_that_were_moved() -> None:
    taken = torch.tensor([[0, 0, 0], [0, 0, 1]])
    resolved = resolve_collisions(torch.tensor([[0, 0]]), (1, 2, 2), "next_nearest", taken=taken)
    assert resolved.codes.tolist() == [[0, 1, 0]]
    assert resolved.sizes == (1, 2, 2)


def test_distances_in_parts_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (3, 5, 16)
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(60, 3, generator=generator)
    codes = torch.stack([torch.randint(size, (60,), generator=generator) for size in (2, 2, 4)], 1)
    for strategy in ("next_nearest", "sinkhorn"):
        whole = resolve_collisions(codes, sizes, strategy, costs=costs_of(sizes, vectors))
        assert whole.moved > 0
        with monkeypatch.context() as patch:
            patch.setattr("semid.reassignment._MOST_COSTS", 1)
            parts = resolve_collisions(codes, sizes, strategy, costs=costs_of(sizes, vectors))
        assert np.array_equal(whole.codes, parts.codes)
