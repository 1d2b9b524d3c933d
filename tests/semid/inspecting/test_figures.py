"""The figures of an ID card, against their definitions written as loops."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from semid.inspecting import neighbours as rooms_neighbours
from semid.inspecting.card import random_codes
from semid.inspecting.evidence import labels_of
from semid.inspecting.groups import balance_by_level, purity_by_level, support_by_level
from semid.inspecting.levels import gini, items_by_rank, level_figures, search_cost
from semid.inspecting.neighbours import Neighbours, agreement, nearest_by_cosine
from semid.inspecting.prefixes import prefixes_at
from semid.inspecting.reconstruction import reconstruction_error
from semid.tokenizers import RandomTokenizer, RQKMeans

SHAPES = [(1, 1), (7, 2), (40, 3), (60, 2)]


def some_codes(items: int, levels: int) -> Tensor:
    return torch.randint(4, (items, levels), generator=torch.Generator().manual_seed(items))


def paths_of(codes: Tensor) -> list[tuple[int, ...]]:
    return [tuple(path) for path in codes.tolist()]


@pytest.mark.parametrize(("items", "levels"), SHAPES)
def test_search_cost_adds_up_the_children_on_each_path(items: int, levels: int) -> None:
    codes = some_codes(items, levels)
    paths = paths_of(codes)
    costs = [
        sum(
            len({other[depth] for other in paths if other[:depth] == path[:depth]})
            for depth in range(levels)
        )
        for path in paths
    ]
    assert search_cost(codes) == pytest.approx(np.mean(costs))


def test_a_flat_list_costs_its_length_and_a_chain_its_depth() -> None:
    assert search_cost(torch.arange(50)[:, None]) == 50
    assert search_cost(torch.zeros(50, 4, dtype=torch.int64)) == 4


def test_forced_steps_and_branching_of_a_tree_drawn_by_hand() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0]])
    first, second = level_figures(codes, (2, 3))
    assert (first["forced"], second["forced"]) == (0, 0.25), "the last item has no choice left"
    assert (second["mean_children"], second["max_children"], second["prefixes"]) == (2, 3, 4)


def test_unused_codes_make_use_unequal() -> None:
    assert gini(torch.tensor([3, 3, 3]), 3) == pytest.approx(0)
    assert gini(torch.tensor([5]), 10) == pytest.approx(0.9)
    assert gini(torch.tensor([1, 2]), 2**31 - 1) == pytest.approx(1)


@pytest.mark.parametrize(("items", "levels"), SHAPES)
def test_purity_is_the_definition(items: int, levels: int) -> None:
    codes, rng = some_codes(items, levels), np.random.default_rng(items)
    labels = [sorted(set(rng.integers(3, size=rng.integers(3)).tolist())) for _ in range(items)]
    pairs = [(item, label) for item in range(items) for label in labels[item]]
    member, label_of = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
    if not pairs:
        member, label_of = torch.tensor([0]), torch.tensor([0])
        labels[0], pairs = [0], [(0, 0)]
    paths = paths_of(codes)
    for depth, found in enumerate(purity_by_level(codes, member, label_of), start=1):
        shares = []
        for item, label in pairs:
            others = [
                other
                for other in range(items)
                if other != item and paths[other][:depth] == paths[item][:depth]
            ]
            if others:
                shares.append(np.mean([label in labels[other] for other in others]))
        assert found == (pytest.approx(np.mean(shares)) if shares else None)


def test_codes_that_follow_the_category_are_pure_and_lonely_items_are_not_counted() -> None:
    category = torch.tensor([0, 0, 1, 1, 2])
    codes = torch.stack([category, torch.arange(5)], dim=1)
    assert purity_by_level(codes, torch.arange(5), category) == [1.0, None]
    assert purity_by_level(codes.roll(1, 0), torch.arange(5), category)[0] < 1


@pytest.mark.parametrize(("items", "levels"), SHAPES)
def test_balance_is_the_definition(items: int, levels: int) -> None:
    codes, rng = some_codes(items, levels), np.random.default_rng(items)
    events = torch.from_numpy(rng.integers(5, size=items) + (np.arange(items) == 0))
    paths, count = paths_of(codes), events.tolist()
    for depth, found in enumerate(balance_by_level(codes, events), start=1):
        mass: dict[tuple[int, ...], int] = {}
        for path, number in zip(paths, count, strict=True):
            mass[path[:depth]] = mass.get(path[:depth], 0) + number
        share = np.array(list(mass.values())) / sum(count)
        entropy = -sum(part * np.log(part) for part in share if part > 0)
        assert found == pytest.approx(np.exp(entropy) / len(mass))


def test_support_is_the_share_of_cold_items_below_a_warm_prefix() -> None:
    codes = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [2, 0, 0]])
    cold = torch.tensor([2, 3, 4])
    # Item 2 shares (0, 0) with item 0, item 4 shares (0) with it, item 3 shares nothing.
    assert support_by_level(codes, cold, torch.tensor([0, 0])) == pytest.approx([2 / 3, 1 / 3, 0])
    # Items 1 and 5 are neither cold nor in training, so they support nothing, until 1 is.
    found = support_by_level(codes, cold, torch.tensor([1, 0]))
    assert found == pytest.approx([2 / 3, 2 / 3, 0])


def test_an_item_with_the_id_of_a_warm_one_is_supported_to_the_end() -> None:
    same = torch.tensor([[0, 1], [0, 1]])
    assert support_by_level(same, torch.tensor([1]), torch.tensor([0])) == [1.0, 1.0]


def test_support_of_no_item_is_refused() -> None:
    none = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="got none"):
        support_by_level(torch.tensor([[0]]), none, torch.tensor([0]))


def test_neighbours_of_unequal_number_count_by_pair() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [0, 1], [1, 0]])
    pairs = Neighbours(items=torch.tensor([0, 1, 1]), others=torch.tensor([1, 2, 3]), k=2)
    found = agreement(codes, pairs)
    assert found["share"] == pytest.approx([2 / 3, 1 / 3])
    assert found["random"] == pytest.approx([2 / 3, 1 / 6])
    # Beside three others each: of depth 1, 1, 0 for item 0, and of 1, 2, 0 for item 1.
    assert found["auc"] == pytest.approx(np.mean([2 / 3, 5 / 6, 1 / 6]))
    assert (found["k"], found["items"]) == (2, 2)
    assert "sampled" not in found


def test_a_large_catalogue_is_judged_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(8, size=600)
    vectors = torch.from_numpy(np.eye(8)[group] + 0.05 * rng.normal(size=(600, 8)))
    codes = torch.from_numpy(group)[:, None]
    every = agreement(codes, nearest_by_cosine(vectors))
    monkeypatch.setattr(rooms_neighbours, "MOST_COMPARED", 599)
    monkeypatch.setattr(rooms_neighbours, "SAMPLED", 200)
    sample = nearest_by_cosine(vectors)
    assert torch.equal(sample.items, nearest_by_cosine(vectors).items)
    some = agreement(codes, sample)
    assert (some["items"], some["sampled"]) == (200, True)
    assert some["auc"] == pytest.approx(every["auc"], abs=0.02)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series(["b", "a", None, "b", ""]), [(0, 1), (1, 0), (3, 1)]),
        (pl.Series([["x", "y", "x"], [], None, ["y"]]), [(0, 0), (0, 1), (3, 1)]),
        (pl.Series([7, 7, 3]), [(0, 1), (1, 1), (2, 0)]),
        (pl.Series([None, ""], dtype=pl.String), None),
    ],
)
def test_labels_are_numbered_in_order(
    column: pl.Series, expected: list[tuple[int, int]] | None
) -> None:
    found = labels_of(column)
    if expected is None or found is None:
        assert found is expected
    else:
        assert list(zip(*(each.tolist() for each in found), strict=True)) == expected


def test_reconstruction_is_the_distance_to_the_own_codes_over_that_to_anothers() -> None:
    vectors = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    tokenizer = RQKMeans(codebook_sizes=(4, 4)).fit(vectors)
    codes = tokenizer.encode(vectors)
    numbered = torch.cat([codes, torch.arange(64)[:, None]], dim=1)
    found = reconstruction_error(numbered, tokenizer, vectors)
    books = [tokenizer.learned[f"codebook.{level}"] for level in range(2)]
    decoded = tokenizer.learned["mean"] + books[0][codes[:, 0]] + books[1][codes[:, 1]]
    own = (vectors - decoded).square().sum(dim=1).mean()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    by_chance = (vectors - decoded[others]).square().sum(dim=1).mean()
    assert found == pytest.approx(float(own / by_chance), rel=1e-4)
    assert not (others == torch.arange(64)).any(), "nobody is compared with itself"
    assert 0 < found < 0.5


def test_a_scheme_without_distances_has_no_reconstruction() -> None:
    vectors = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    tokenizer = RandomTokenizer(codebook_sizes=(4, 4)).fit(vectors)
    assert reconstruction_error(tokenizer.encode(vectors), tokenizer, vectors) is None


def test_the_control_is_uniform_and_stays() -> None:
    codes = random_codes(4000, (4, 10))
    assert torch.equal(codes, random_codes(4000, (4, 10)))
    for level, size in enumerate((4, 10)):
        share = torch.bincount(codes[:, level], minlength=size) / 4000
        assert torch.allclose(share, torch.full((size,), 1 / size), atol=0.03)


@pytest.mark.parametrize(("items", "levels"), SHAPES)
def test_prefixes_have_their_items_children_and_the_first_of_an_order(
    items: int, levels: int
) -> None:
    codes = some_codes(items, levels)
    paths = paths_of(codes)
    order = torch.randperm(items, generator=torch.Generator().manual_seed(1))
    for depth in range(1, levels + 1):
        found = prefixes_at(codes, depth, order)
        counts = {prefix.path: prefix.items for prefix in found}
        assert [(-prefix.items, prefix.path) for prefix in found] == sorted(
            (-count, path) for path, count in counts.items()
        )
        assert set(counts) == {path[:depth] for path in paths}
        for prefix in found:
            below = [row for row in order.tolist() if paths[row][:depth] == prefix.path]
            following = {paths[row][: depth + 1] for row in below}
            assert prefix.items == len(below)
            assert prefix.children == (len(following) if depth < levels else 0)
            assert list(prefix.typical) == below[:3]


def test_items_by_rank_counts_the_most_used_code_first() -> None:
    assert items_by_rank(torch.tensor([4, 1, 4, 4, 1, 0]), 6).tolist() == [3, 2, 1, 0, 0, 0]
