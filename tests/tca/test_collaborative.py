from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer

# Ragged, with twins (rows 3 and 4), a forced token (after 2) and a branching deep prefix (0, 1).
PATHS = [
    [0, 1, 2],
    [0, 1, 3],
    [0, 1, 5],
    [0, 4, 2],
    [0, 4, 2],
    [1, 5],
    [2, 3, 1],
    [1, 0],
    [3],
]


def make_trie(paths: list[list[int]], num_tokens: int = 8) -> CodeTrie:
    depth = max(map(len, paths))
    return CodeTrie.from_paths(
        torch.tensor([path + [-1] * (depth - len(path)) for path in paths]), num_tokens
    )


def loop_over_dictionaries(
    paths: list[list[int]], scores: Tensor, target: int, temperature: float = 1.0
) -> list[dict[int, float]]:
    """The definition: softmax over the items below each prefix, summed by next token."""
    distributions = []
    for pos in range(len(paths[target])):
        prefix = paths[target][:pos]
        below = [item for item, path in enumerate(paths) if path[:pos] == prefix]
        highest = max(float(scores[item]) for item in below)
        mass: dict[int, float] = defaultdict(float)
        for item in below:
            mass[paths[item][pos]] += math.exp((float(scores[item]) - highest) / temperature)
        total = sum(mass.values())
        distributions.append({token: m / total for token, m in mass.items()})
    return distributions


def assert_is_the_definition(
    paths: list[list[int]], scores: Tensor, targets: list[int], temperature: float = 1.0
) -> None:
    trie = make_trie(paths)
    tokenizer = CollaborativeTokenizer(trie, temperature=temperature)
    got = tokenizer(scores, torch.tensor(targets))
    assert got.dtype == torch.float32
    expected = torch.zeros(len(targets), trie.depth, trie.max_children)
    for row, target in enumerate(targets):
        oracle = loop_over_dictionaries(paths, scores[row], target, temperature)
        for pos, distribution in enumerate(oracle):
            for slot, token in enumerate(sorted(distribution)):
                expected[row, pos, slot] = distribution[token]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("scale", [0.1, 3.0, 80.0, 1e4])
def test_the_distribution_is_the_loop_over_dictionaries(scale: float, temperature: float) -> None:
    gen = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(len(PATHS), len(PATHS), generator=gen)
    assert_is_the_definition(PATHS, scores, list(range(len(PATHS))), temperature)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_catalogue_and_any_scores_give_the_definition(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 4))
    path = st.lists(st.integers(0, 3), min_size=depth, max_size=depth)
    paths = data.draw(st.lists(path, min_size=1, max_size=20))
    ends = data.draw(st.lists(st.integers(0, depth), min_size=len(paths), max_size=len(paths)))
    # An end token keeps a shorter path from being the prefix of a longer one.
    paths = [[*codes[:end], 7] for codes, end in zip(paths, ends, strict=True)]
    score = st.one_of(st.floats(-80, 80), st.sampled_from([-80.0, 80.0, 0.0]))
    scores = data.draw(st.lists(score, min_size=len(paths), max_size=len(paths)))
    targets = list(range(len(paths)))
    assert_is_the_definition(paths, torch.tensor([scores] * len(paths)), targets)


def test_a_larger_catalogue_with_skewed_codes_gives_the_definition() -> None:
    gen = torch.Generator().manual_seed(1)
    codes = (8 * torch.rand(400, 4, generator=gen) ** 3).long()
    scores = 10 * torch.randn(16, 400, generator=gen)
    targets = torch.randint(400, (16,), generator=gen).tolist()
    assert_is_the_definition(codes.tolist(), scores, targets)


@pytest.mark.parametrize(("at_once", "alone"), [(1, 4096), (20, 4), (1000, 1)])
def test_how_rows_and_items_are_cut_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, at_once: int, alone: int
) -> None:
    gen = torch.Generator().manual_seed(6)
    scores = torch.randn(7, len(PATHS), generator=gen)
    targets = torch.randint(len(PATHS), (7,), generator=gen)
    whole = CollaborativeTokenizer(make_trie(PATHS))(scores, targets)
    monkeypatch.setattr("tca.collaborative._SCORES_AT_ONCE", at_once)
    monkeypatch.setattr("tca.collaborative._SUMMED_ALONE", alone)
    torch.testing.assert_close(CollaborativeTokenizer(make_trie(PATHS))(scores, targets), whole)


def test_many_items_lose_no_precision() -> None:
    gen = torch.Generator().manual_seed(7)
    codes = torch.randint(16, (300_000, 1), generator=gen)
    scores = 3 * torch.randn(2, len(codes), generator=gen)
    p = CollaborativeTokenizer(CodeTrie.from_paths(codes, 16))(scores, torch.tensor([0, 1]))
    item_p = scores.double().softmax(dim=-1)
    expected = torch.zeros(2, 16, dtype=torch.float64)
    expected.scatter_add_(1, codes.T.expand_as(item_p), item_p)
    torch.testing.assert_close(p[:, 0].double(), expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("gap", [80.0, 160.0, 1e4])
def test_a_prefix_far_below_the_best_item_keeps_its_distribution(gap: float) -> None:
    paths = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    scores = torch.tensor([[-gap, -gap + math.log(2), -gap, 0.0, 0.0]])
    p = CollaborativeTokenizer(make_trie(paths))(scores, torch.tensor([1]))
    torch.testing.assert_close(p[0, 1], torch.tensor([0.25, 0.5, 0.25]), rtol=1e-3, atol=1e-3)


def test_twins_each_add_their_mass() -> None:
    p = CollaborativeTokenizer(make_trie([[0], [1], [1]]))(torch.zeros(1, 3), torch.tensor([0]))
    torch.testing.assert_close(p, torch.tensor([[[1 / 3, 2 / 3]]]))


def test_the_order_of_the_catalogue_does_not_matter() -> None:
    gen = torch.Generator().manual_seed(2)
    scores = torch.randn(4, len(PATHS), generator=gen)
    targets = torch.tensor([0, 3, 5, 6])
    order = torch.randperm(len(PATHS), generator=gen)
    shuffled = make_trie([PATHS[item] for item in order.tolist()])
    torch.testing.assert_close(
        CollaborativeTokenizer(shuffled)(scores[:, order], order.argsort()[targets]),
        CollaborativeTokenizer(make_trie(PATHS))(scores, targets),
    )


def test_a_constant_added_to_all_scores_changes_nothing() -> None:
    scores = torch.randn(2, len(PATHS), generator=torch.Generator().manual_seed(3))
    tokenizer = CollaborativeTokenizer(make_trie(PATHS))
    targets = torch.tensor([0, 8])
    torch.testing.assert_close(
        tokenizer(scores + 40, targets), tokenizer(scores, targets), rtol=1e-4, atol=1e-5
    )


def test_excluded_items_have_no_mass() -> None:
    scores = torch.zeros(1, len(PATHS))
    scores[0, [1, 5]] = -math.inf
    p = CollaborativeTokenizer(make_trie(PATHS))(scores, torch.tensor([0]))
    torch.testing.assert_close(p[0, 2], torch.tensor([0.5, 0.0, 0.5, 0.0]))
    torch.testing.assert_close(p[0, 0], torch.tensor([4 / 7, 1 / 7, 1 / 7, 1 / 7]))


def test_a_single_child_holds_all_mass_even_when_excluded() -> None:
    scores = torch.zeros(1, len(PATHS))
    scores[0, 6] = -math.inf
    p = CollaborativeTokenizer(make_trie(PATHS))(scores, torch.tensor([6]))
    torch.testing.assert_close(p[0, 1:, 0], torch.ones(2))
    torch.testing.assert_close(p[0, 0], torch.tensor([5 / 8, 2 / 8, 0.0, 1 / 8]))


def test_half_precision_scores_are_summed_in_float32() -> None:
    scores = torch.randn(2, len(PATHS), generator=torch.Generator().manual_seed(4)).bfloat16()
    tokenizer = CollaborativeTokenizer(make_trie(PATHS))
    targets = torch.tensor([0, 4])
    torch.testing.assert_close(tokenizer(scores, targets), tokenizer(scores.float(), targets))


def test_the_scores_are_left_as_they_were_and_get_no_gradient() -> None:
    scores = torch.randn(1, len(PATHS), generator=torch.Generator().manual_seed(5))
    before = scores.clone()
    p = CollaborativeTokenizer(make_trie(PATHS))(scores.requires_grad_(), torch.tensor([0]))
    assert not p.requires_grad
    torch.testing.assert_close(scores.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_score_names_its_row(bad: float) -> None:
    scores = torch.zeros(3, len(PATHS))
    scores[1, 8] = bad
    with pytest.raises(ValueError, match="row 1 of item_scores holds NaN"):
        CollaborativeTokenizer(make_trie(PATHS))(scores, torch.tensor([0, 0, 0]))


def test_a_row_without_a_finite_score_is_refused() -> None:
    scores = torch.full((1, len(PATHS)), -math.inf)
    with pytest.raises(ValueError, match=r"row 0 .* no finite score"):
        CollaborativeTokenizer(make_trie(PATHS))(scores, torch.tensor([0]))


def test_a_prefix_with_all_items_excluded_is_refused() -> None:
    scores = torch.zeros(2, len(PATHS))
    scores[1, [0, 1, 2]] = -math.inf
    with pytest.raises(ValueError, match=r"row 1 .* first 2 tokens of its target, item 2"):
        CollaborativeTokenizer(make_trie(PATHS))(scores, torch.tensor([2, 2]))


def test_scores_over_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match="over the 9 catalogue rows"):
        CollaborativeTokenizer(make_trie(PATHS))(torch.zeros(1, 8), torch.tensor([0]))


def test_each_row_of_scores_needs_its_target() -> None:
    with pytest.raises(ValueError, match="one catalogue row for each of the 2 rows"):
        CollaborativeTokenizer(make_trie(PATHS))(torch.zeros(2, 9), torch.tensor([0]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_above_zero(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        CollaborativeTokenizer(make_trie(PATHS), temperature=temperature)
