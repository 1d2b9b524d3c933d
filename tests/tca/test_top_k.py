"""Token distributions from the best items and a tail: the definition, its laws, its refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tails import known_tail, total_variation
from torch import Tensor

from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.top_k import TopKTokenizer, sampled_tail, uniform_tail

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
TARGETS = torch.arange(len(PATHS))


def make_trie(paths: list[list[int]]) -> CodeTrie:
    depth = max(map(len, paths))
    return CodeTrie.from_paths(
        torch.tensor([path + [-1] * (depth - len(path)) for path in paths]), 8
    )


def loop_over_items(
    paths: list[list[int]],
    listed: dict[int, float],
    target: int,
    tail_log_mass: float,
    temperature: float = 1.0,
) -> list[dict[int, float]]:
    """The definition: listed items by their score, every other by an equal share of the tail."""
    num_others = len(paths) - len(listed)
    share = math.exp(tail_log_mass) / num_others if num_others else 0.0
    weight = {
        item: math.exp(listed[item] / temperature) if item in listed else share
        for item in range(len(paths))
    }
    distributions = []
    for pos in range(len(paths[target])):
        below = [item for item, path in enumerate(paths) if path[:pos] == paths[target][:pos]]
        mass: dict[int, float] = dict.fromkeys({paths[item][pos] for item in below}, 0.0)
        for item in below:
            mass[paths[item][pos]] += weight[item]
        total = sum(mass.values())
        distributions.append({token: m / total for token, m in mass.items()})
    return distributions


def as_slots(trie: CodeTrie, oracle: list[dict[int, float]]) -> Tensor:
    expected = torch.zeros(trie.depth, trie.max_children)
    for pos, distribution in enumerate(oracle):
        for slot, token in enumerate(sorted(distribution)):
            expected[pos, slot] = distribution[token]
    return expected


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_list_of_items_and_any_tail_give_the_definition(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 4))
    path = st.lists(st.integers(0, 3), min_size=depth, max_size=depth)
    paths = data.draw(st.lists(path, min_size=1, max_size=20))
    ends = data.draw(st.lists(st.integers(0, depth), min_size=len(paths), max_size=len(paths)))
    # An end token keeps a shorter path from being the prefix of a longer one.
    paths = [[*codes[:end], 7] for codes, end in zip(paths, ends, strict=True)]
    order = data.draw(st.permutations(range(len(paths))))
    k = data.draw(st.integers(0, len(paths)))
    scores = data.draw(st.lists(st.floats(-20, 20), min_size=k, max_size=k))
    tail = data.draw(st.floats(-20, 20))
    temperature = data.draw(st.sampled_from([0.5, 1.0, 3.0]))
    trie = make_trie(paths)
    rows = len(paths)
    got = TopKTokenizer(trie, temperature=temperature)(
        torch.tensor([scores] * rows).view(rows, k),
        torch.tensor([order[:k]] * rows, dtype=torch.int64).view(rows, k),
        torch.arange(rows),
        torch.full((rows,), tail),
    )
    assert got.dtype == torch.float32
    listed = dict(zip(order[:k], scores, strict=True))
    for target in range(rows):
        oracle = loop_over_items(paths, listed, target, tail, temperature)
        torch.testing.assert_close(got[target], as_slots(trie, oracle), rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("scale", [0.1, 30.0, 1e4])
def test_with_the_whole_catalogue_listed_it_is_exact(scale: float, temperature: float) -> None:
    gen = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(len(PATHS), len(PATHS), generator=gen)
    best = scores.topk(len(PATHS))
    trie = make_trie(PATHS)
    exact = CollaborativeTokenizer(trie, temperature=temperature)(scores, TARGETS)
    tokenizer = TopKTokenizer(trie, temperature=temperature)
    for tail in (
        uniform_tail(best.values, len(PATHS), temperature=temperature),
        sampled_tail(best.values, 0 * scores - math.inf, len(PATHS), temperature=temperature),
        known_tail(scores, best.indices, temperature=temperature),
    ):
        p = tokenizer(best.values, best.indices, TARGETS, tail)
        torch.testing.assert_close(p, exact, rtol=0, atol=1e-6)


def test_more_items_bring_it_nearer_to_exact() -> None:
    gen = torch.Generator().manual_seed(1)
    trie = CodeTrie.from_paths(torch.randint(6, (500, 3), generator=gen), 6)
    scores = 3 * torch.randn(40, 500, generator=gen)
    targets = torch.randint(500, (40,), generator=gen)
    exact = CollaborativeTokenizer(trie)(scores, targets)
    errors = []
    for k in (5, 50, 250, 500):
        best = scores.topk(k)
        tail = known_tail(scores, best.indices)
        p = TopKTokenizer(trie)(best.values, best.indices, targets, tail)
        errors.append(float(total_variation(p, exact)[:, 0].mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.01
    assert errors[-1] < 1e-6


def test_a_known_total_gives_the_root_the_mass_of_the_best_items() -> None:
    # Each of two items alone below its first token: with the total known, the listed one has
    # exactly the teacher's probability.
    scores = torch.tensor([[2.0, 0.0, -1.0]])
    tail = known_tail(scores, torch.tensor([[0]]))
    p = TopKTokenizer(make_trie([[0], [1], [2]]))(
        scores[:, :1], torch.tensor([[0]]), torch.tensor([1]), tail
    )
    expected = scores.softmax(dim=1)[0, 0]
    torch.testing.assert_close(
        p[0, 0], torch.stack([expected, (1 - expected) / 2, (1 - expected) / 2])
    )


def test_a_prefix_without_a_listed_item_has_the_distribution_of_the_tail() -> None:
    trie = make_trie(PATHS)
    for tail in (-200.0, -math.inf, 3.0):
        p = TopKTokenizer(trie)(
            torch.tensor([[1.0]]), torch.tensor([[8]]), torch.tensor([0]), torch.tensor([tail])
        )
        torch.testing.assert_close(p[0, 1, :2], torch.tensor([3 / 5, 2 / 5]))
        torch.testing.assert_close(p[0, 2, :3], torch.full((3,), 1 / 3))


def test_an_empty_place_of_the_list_changes_nothing() -> None:
    tokenizer = TopKTokenizer(make_trie(PATHS))
    tail = torch.tensor([0.3])
    target = torch.tensor([1])
    p = tokenizer(torch.tensor([[1.0, 2.0]]), torch.tensor([[1, 7]]), target, tail)
    padded = torch.tensor([[math.nan, 1.0, -math.inf, 2.0]]), torch.tensor([[-1, 1, -1, 7]])
    torch.testing.assert_close(tokenizer(*padded, target, tail), p)


def test_an_excluded_item_has_no_mass_and_no_share_of_the_tail() -> None:
    p = TopKTokenizer(make_trie(PATHS))(
        torch.tensor([[0.0, -math.inf]]),
        torch.tensor([[0, 1]]),
        torch.tensor([0]),
        torch.tensor([math.log(7.0)]),  # each of the other seven weighs as much as item 0
    )
    torch.testing.assert_close(p[0, 2, :3], torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(p[0, 0], torch.tensor([4 / 8, 2 / 8, 1 / 8, 1 / 8]))


def test_the_uniform_tail_is_the_lowest_score_of_all_others() -> None:
    scores = torch.tensor([[3.0, 1.0], [2.0, -math.inf]])
    expected = torch.tensor([math.log(8 * math.exp(0.5)), math.log(9 * math.e)])
    torch.testing.assert_close(uniform_tail(scores, 10, temperature=2.0), expected)


def test_the_sampled_tail_is_the_tail_where_everything_is_sampled() -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    best = scores.topk(7, dim=1)
    known = known_tail(scores, best.indices)
    others = scores.scatter(1, best.indices, -math.inf)
    torch.testing.assert_close(sampled_tail(best.values, others, 50), known)
    nothing = torch.full_like(scores, -math.inf)
    bound = uniform_tail(best.values, 50)
    torch.testing.assert_close(sampled_tail(best.values, nothing, 50), bound)


@pytest.mark.parametrize(
    ("scores", "items", "tail", "message"),
    [
        ([[0.0, math.nan]], [[0, 1]], 0.0, "row 0 of scores holds NaN"),
        ([[0.0, math.inf]], [[0, 1]], 0.0, "row 0 of scores holds NaN"),
        ([[0.0, 0.0]], [[0, 9]], 0.0, r"catalogue rows in \[0, 9\)"),
        ([[0.0, 0.0]], [[1, 1]], 0.0, "row 0 of items lists an item more than once"),
        ([[0.0] * 10], [[*range(9), 0]], 0.0, "at most the 9 items of the catalogue"),
        ([[0.0]], [[0]], math.nan, "tail_log_mass of row 0 must be a number"),
        ([[-math.inf] * 3], [[0, 1, 2]], 0.0, r"row 0 .* first 2 tokens of its target, item 0"),
        ([[0.0]], [[0, 1]], 0.0, r"both be \(batch, entry\)"),
    ],
)
def test_what_is_no_list_of_items_is_refused(
    scores: list[list[float]], items: list[list[int]], tail: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TopKTokenizer(make_trie(PATHS))(
            torch.tensor(scores), torch.tensor(items), torch.tensor([0]), torch.tensor([tail])
        )


def test_each_row_needs_its_target_and_its_tail() -> None:
    with pytest.raises(ValueError, match="one value for each of the 2 rows"):
        TopKTokenizer(make_trie(PATHS))(
            torch.zeros(2, 1), torch.zeros(2, 1).long(), torch.tensor([0, 0]), torch.zeros(1)
        )


@pytest.mark.parametrize("temperature", [0.0, math.nan])
def test_a_temperature_must_be_above_zero(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        TopKTokenizer(make_trie(PATHS), temperature=temperature)


def test_a_tail_of_more_items_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="at most the 3 items"):
        uniform_tail(torch.zeros(1, 4), 3)
