"""Decoding within the trie, against loops over the catalogue."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.config import Renormalize
from semid.decoding import BeamResult, apply_length_penalty, beam_search, rank_items
from semid.filters import ItemFilter
from semid.prefixes import StatelessPrefixes
from semid.scoring import score_all
from semid.trie import CodeTrie

BOTH: list[Renormalize] = ["children", "none"]


class TableStep:
    """Logits that depend on the row and the whole prefix, looked up by a hash of its tokens."""

    def __init__(
        self, batch: int, num_tokens: int, seed: int, *, whole: bool = False, scale: float = 3.0
    ) -> None:
        gen = torch.Generator().manual_seed(seed)
        self.table = scale * torch.randn(batch, 97, num_tokens, generator=gen)
        if whole:  # few distinct values, so that many paths tie
            self.table = (self.table / scale).round()
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, prefix_tokens: Tensor, /) -> Tensor:
        self.shapes.append(tuple(prefix_tokens.shape))
        assert prefix_tokens.dtype == torch.int64
        assert prefix_tokens.numel() == 0 or prefix_tokens.min() >= 0
        key = torch.ones(prefix_tokens.shape[:2], dtype=torch.int64)
        for token in prefix_tokens.unbind(-1):
            key = (key * 31 + token + 7) % 97
        return self.table[torch.arange(len(key)).unsqueeze(1), key]


Path = tuple[int, ...]


def paths_tensor(paths: list[Path]) -> Tensor:
    depth = max(map(len, paths))
    return torch.tensor([[*path, *[-1] * (depth - len(path))] for path in paths])


def slow_step(step: TableStep, row: int, prefix: Path) -> list[float]:
    tokens = torch.tensor(prefix, dtype=torch.int64).expand(len(step.table), 1, -1)
    values: list[float] = step(tokens)[row, 0].double().tolist()
    return values


def slow_log_prob(
    step: TableStep, row: int, paths: list[Path], path: Path, renormalize: str
) -> float:
    """The definition: the sum over positions of log-softmax over the tokens that compete."""
    total = 0.0
    for pos, token in enumerate(path):
        prefix = path[:pos]
        logits = slow_step(step, row, prefix)
        legal = {p[pos] for p in paths if p[:pos] == prefix}
        rivals = legal if renormalize == "children" else range(len(logits))
        total += logits[token] - math.log(sum(math.exp(logits[t]) for t in rivals))
    return total


def slow_beam_search(
    step: TableStep, row: int, paths: list[Path], beam: int, renormalize: str
) -> list[tuple[Path, float]]:
    beams: list[tuple[Path, float]] = [((), 0.0)]
    for pos in range(max(map(len, paths))):
        candidates = []
        for prefix, _ in beams:
            grown = {p[: pos + 1] for p in paths if p[:pos] == prefix[:pos] and len(p) > pos}
            for path in {prefix} if prefix in paths else grown:
                score = slow_log_prob(step, row, paths, path, renormalize)
                candidates.append((path, score))
        beams = sorted(candidates, key=lambda pair: -pair[1])[:beam]
    return beams


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[Path], int]:
    """Paths in any order, ragged (a path that ends early ends with token 0), with twins."""
    num_tokens = draw(st.integers(2, 6))
    stem = st.lists(st.integers(1, num_tokens - 1), min_size=0, max_size=4)
    ended = stem.map(lambda tokens: (*tokens, 0))
    paths = draw(st.lists(ended, min_size=1, max_size=25))
    return paths, num_tokens


def leaf_paths(trie: CodeTrie, result: BeamResult, row: int) -> list[Path]:
    paths = []
    for node in result.leaves[row].tolist():
        path: list[int] = []
        while node > 0:
            path.insert(0, int(trie.token_of_node[node]))
            node = int(trie.parent_of_node[node])
        paths.append(tuple(path))
    return paths


@given(
    catalogue=catalogues(),
    seed=st.integers(0, 10_000),
    whole=st.booleans(),
    extra=st.integers(0, 3),
    renormalize=st.sampled_from(BOTH),
)
@settings(deadline=None, max_examples=40)
def test_a_beam_of_all_leaves_is_the_order_of_exact_scoring(
    catalogue: tuple[list[Path], int],
    seed: int,
    whole: bool,
    extra: int,
    renormalize: Renormalize,
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    step = TableStep(3, num_tokens, seed, whole=whole)
    num_leaves = len(set(paths))
    result = beam_search(
        StatelessPrefixes(step, 3), trie, beam=num_leaves + extra, renormalize=renormalize
    )
    exact = score_all(StatelessPrefixes(step, 3), trie, renormalize=renormalize, chunk=1 + seed % 4)
    for row in range(3):
        score_of_leaf = dict(zip(trie.node_of_item.tolist(), exact[row].tolist(), strict=True))
        expected = sorted(
            score_of_leaf, key=lambda leaf: (-score_of_leaf[leaf], int(trie.first_item[leaf]))
        )
        assert result.leaves[row].tolist() == expected + [-1] * extra
        assert result.scores[row, :num_leaves].tolist() == [score_of_leaf[n] for n in expected]
        assert result.scores[row, num_leaves:].tolist() == [-math.inf] * extra


@given(
    catalogue=catalogues(),
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 12),
    renormalize=st.sampled_from(BOTH),
)
@settings(deadline=None, max_examples=40)
def test_a_narrow_beam_is_the_definition(
    catalogue: tuple[list[Path], int], seed: int, beam: int, renormalize: Renormalize
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    step = TableStep(2, num_tokens, seed)
    result = beam_search(StatelessPrefixes(step, 2), trie, beam=beam, renormalize=renormalize)
    for row in range(2):
        expected = slow_beam_search(step, row, paths, beam, renormalize)
        found = leaf_paths(trie, result, row)[: len(expected)]
        assert found == [path for path, _ in expected]
        scores = result.scores[row, : len(expected)]
        torch.testing.assert_close(
            scores, torch.tensor([score for _, score in expected]), rtol=1e-5, atol=1e-5
        )
        assert (result.leaves[row, len(expected) :] == -1).all()


@given(
    catalogue=catalogues(),
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 12),
    penalty=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]),
)
@settings(deadline=None, max_examples=40)
def test_found_paths_are_divided_by_their_length_and_ordered_anew(
    catalogue: tuple[list[Path], int], seed: int, beam: int, penalty: float
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    plain = beam_search(
        StatelessPrefixes(TableStep(2, num_tokens, seed, whole=True), 2), trie, beam=beam
    )
    found = apply_length_penalty(plain, trie, penalty=penalty)
    for row in range(2):
        pairs = zip(leaf_paths(trie, plain, row), plain.scores[row].tolist(), strict=True)
        divided = [(score / len(path) ** penalty, path) for path, score in pairs if path]
        expected = sorted(divided, key=lambda pair: (-round(pair[0], 5), pair[1]))
        count = len(expected)
        ours = zip(found.scores[row].tolist(), leaf_paths(trie, found, row)[:count], strict=False)
        assert sorted(ours, key=lambda pair: (-round(pair[0], 5), pair[1])) == [
            (pytest.approx(score, rel=1e-6), path) for score, path in expected
        ]
        assert found.scores[row].tolist() == sorted(found.scores[row].tolist(), reverse=True)
        assert (found.leaves[row, count:] == -1).all()
        assert (found.scores[row, count:] == -torch.inf).all()


@given(catalogue=catalogues(), seed=st.integers(0, 10_000), beam=st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_all_that_a_beam_returns_are_different_items_in_order(
    catalogue: tuple[list[Path], int], seed: int, beam: int
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    step = TableStep(2, num_tokens, seed, whole=True)
    step.table[step.table < -1] = -torch.inf
    result = beam_search(StatelessPrefixes(step, 2), trie, beam=beam)
    for row in range(2):
        found = [path for path in leaf_paths(trie, result, row) if path]
        assert len(set(found)) == len(found) <= min(beam, len(set(paths)))
        assert set(found) <= set(paths)
        scores = result.scores[row].tolist()
        assert scores == sorted(scores, reverse=True)


@given(catalogue=catalogues(), seed=st.integers(0, 10_000), renormalize=st.sampled_from(BOTH))
@settings(deadline=None, max_examples=40)
def test_exact_scores_are_the_definition(
    catalogue: tuple[list[Path], int], seed: int, renormalize: Renormalize
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    step = TableStep(2, num_tokens, seed)
    expected = torch.tensor(
        [[slow_log_prob(step, row, paths, path, renormalize) for path in paths] for row in range(2)]
    )
    found = score_all(StatelessPrefixes(step, 2), trie, renormalize=renormalize, chunk=2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


WORLD: list[Path] = [(1, 2, 3), (1, 2, 4), (1, 5, 3), (6, 2, 3), (6, 2, 3), (6, 7, 8), (9, 9, 9)]
RAGGED: list[Path] = [(0,), (1, 0), (1, 2, 0), (1, 2, 3, 0), (4, 0), (4, 4, 4, 0)]


@pytest.mark.parametrize("scale", [1.0, 80.0])
def test_renormalised_scores_are_one_distribution_over_paths(scale: float) -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    step = TableStep(4, 10, 0, scale=scale)
    whole = beam_search(StatelessPrefixes(step, 4), trie, beam=6).scores.exp().sum(1)
    torch.testing.assert_close(whole, torch.ones(4))
    masked = (
        beam_search(StatelessPrefixes(step, 4), trie, beam=6, renormalize="none")
        .scores.exp()
        .sum(1)
    )
    assert (masked < 1).all()


@pytest.mark.parametrize("renormalize", BOTH)
def test_equal_scores_are_ordered_by_path(renormalize: Renormalize) -> None:
    trie = CodeTrie.from_paths(torch.arange(5000).flip(0).unsqueeze(1), 5000)

    def level(prefix_tokens: Tensor, /) -> Tensor:
        return torch.zeros(*prefix_tokens.shape[:2], 5000)

    for beam in (1, 10, 700, 5000):
        result = beam_search(StatelessPrefixes(level, 2), trie, beam=beam, renormalize=renormalize)
        assert result.leaves.tolist() == [list(range(1, beam + 1))] * 2


@pytest.mark.parametrize("renormalize", BOTH)
def test_a_path_that_ended_keeps_its_score(renormalize: Renormalize) -> None:
    trie = CodeTrie.from_paths(paths_tensor(RAGGED), 5)
    step = TableStep(1, 5, 3)
    first = slow_log_prob(step, 0, RAGGED, (0,), renormalize)
    result = beam_search(StatelessPrefixes(step, 1), trie, beam=6, renormalize=renormalize)
    place = leaf_paths(trie, result, 0).index((0,))
    assert result.scores[0, place].item() == pytest.approx(first, rel=1e-6)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    trie = CodeTrie.from_paths(paths_tensor(RAGGED), 5)
    step = TableStep(5, 5, 11)
    together = beam_search(StatelessPrefixes(step, 5), trie, beam=3)
    for row in range(5):
        alone = TableStep(1, 5, 0)
        alone.table = step.table[row : row + 1]
        result = beam_search(StatelessPrefixes(alone, 1), trie, beam=3)
        assert torch.equal(result.leaves[0], together.leaves[row])
        assert torch.equal(result.scores[0], together.scores[row])


def test_the_model_reads_only_prefixes_that_can_branch_and_never_more_than_the_beam() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    step = TableStep(2, 10, 0)
    beam_search(StatelessPrefixes(step, 2), trie, beam=6)
    # (9,) leads to one leaf, and so do (1, 5), (6, 2) and (6, 7)
    assert step.shapes == [(2, 1, 0), (2, 2, 1), (2, 1, 2)]
    step.shapes.clear()
    beam_search(StatelessPrefixes(step, 2), trie, beam=6, renormalize="none")
    assert step.shapes == [(2, 1, 0), (2, 3, 1), (2, 5, 2)]
    step.shapes.clear()
    beam_search(StatelessPrefixes(step, 2), trie, beam=4, renormalize="none")
    assert step.shapes == [(2, 1, 0), (2, 3, 1), (2, 4, 2)]


@pytest.mark.parametrize("renormalize", BOTH)
def test_static_shapes_change_no_result(renormalize: Renormalize) -> None:
    trie = CodeTrie.from_paths(paths_tensor(RAGGED), 5)
    step = TableStep(3, 5, 0)
    for beam in (1, 3, 6, 8):
        usual = beam_search(StatelessPrefixes(step, 3), trie, beam=beam, renormalize=renormalize)
        step.shapes.clear()
        static = beam_search(
            StatelessPrefixes(step, 3), trie, beam=beam, renormalize=renormalize, static_shapes=True
        )
        assert torch.equal(static.leaves, usual.leaves)
        assert torch.equal(static.scores, usual.scores)
        assert len(step.shapes) == trie.depth


def test_exact_scoring_reads_each_prefix_once_in_chunks() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    step = TableStep(2, 10, 0)
    whole = score_all(StatelessPrefixes(step, 2), trie, renormalize="none")
    assert step.shapes == [(2, 1, 0), (2, 3, 1), (2, 5, 2)]
    step.shapes.clear()
    chunked = score_all(StatelessPrefixes(step, 2), trie, renormalize="none", chunk=2)
    assert torch.equal(chunked, whole)
    assert all(beam <= 2 for _, beam, _ in step.shapes)
    assert sum(beam for _, beam, _ in step.shapes) == 9
    step.shapes.clear()
    score_all(StatelessPrefixes(step, 2), trie)
    assert step.shapes == [(2, 1, 0), (2, 2, 1), (2, 1, 2)]


def test_what_the_model_forbids_does_not_come_back() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)

    def forbids(prefix_tokens: Tensor, /) -> Tensor:
        logits = torch.zeros(*prefix_tokens.shape[:2], 10)
        if prefix_tokens.shape[2] == 0:
            logits[..., 1] = -torch.inf
        else:
            logits[prefix_tokens[..., 0] == 1] = -torch.inf
        return logits

    for renormalize in BOTH:
        result = beam_search(StatelessPrefixes(forbids, 1), trie, beam=6, renormalize=renormalize)
        assert result.scores[0].isneginf().tolist() == [False] * 3 + [True] * 3
        assert result.leaves[0, 3:].tolist() == [-1] * 3
        exact = score_all(StatelessPrefixes(forbids, 1), trie, renormalize=renormalize)
        assert exact[0].isneginf().tolist() == [path[0] == 1 for path in WORLD]


def test_low_precision_logits_give_float32_scores() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    step = TableStep(2, 10, 0)
    step.table = step.table.bfloat16()
    for renormalize in BOTH:
        low = beam_search(StatelessPrefixes(step, 2), trie, beam=6, renormalize=renormalize)
        assert low.scores.dtype == torch.float32
        assert (
            score_all(StatelessPrefixes(step, 2), trie, renormalize=renormalize).dtype
            == torch.float32
        )
    step.table = step.table.float()
    assert torch.equal(
        low.scores, beam_search(StatelessPrefixes(step, 2), trie, beam=6, renormalize="none").scores
    )


@pytest.mark.parametrize("penalty", [math.nan, math.inf])
def test_a_penalty_that_is_no_number_is_refused(penalty: float) -> None:
    trie, step = trie_and_step()
    with pytest.raises(ValueError, match="penalty must be finite"):
        apply_length_penalty(
            beam_search(StatelessPrefixes(step, 2), trie, beam=3), trie, penalty=penalty
        )


def slow_rank(
    trie: CodeTrie, result: BeamResult, row: int, k: int, seen: list[int]
) -> list[tuple[int, float]]:
    ranked = []
    for leaf, score in zip(result.leaves[row].tolist(), result.scores[row].tolist(), strict=True):
        for item in range(trie.num_items):
            if leaf != -1 and trie.node_of_item[item] == leaf and item not in seen:
                ranked.append((item, score))
    return (ranked + [(-1, -math.inf)] * k)[:k]


@given(
    catalogue=catalogues(),
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 12),
    k=st.integers(1, 30),
    seen_width=st.none() | st.integers(0, 6),
)
@settings(deadline=None, max_examples=40)
def test_ranked_items_are_the_items_of_the_leaves_in_order_without_the_seen(
    catalogue: tuple[list[Path], int], seed: int, beam: int, k: int, seen_width: int | None
) -> None:
    paths, num_tokens = catalogue
    trie = CodeTrie.from_paths(paths_tensor(paths), num_tokens)
    result = beam_search(StatelessPrefixes(TableStep(3, num_tokens, seed), 3), trie, beam=beam)
    seen, within = None, None
    if seen_width is not None:
        gen = torch.Generator().manual_seed(seed)
        seen = torch.randint(-1, len(paths), (3, seen_width), generator=gen)
        within = ItemFilter(trie, deny=seen)
    ranked = rank_items(result, trie, k=k, within=within)
    for row in range(3):
        left_out = [] if seen is None else seen[row].tolist()
        expected = slow_rank(trie, result, row, k, left_out)
        pairs = zip(ranked.items[row].tolist(), ranked.scores[row].tolist(), strict=True)
        assert list(pairs) == expected


def test_twins_follow_each_other_with_one_score() -> None:
    trie = CodeTrie.from_paths(paths_tensor(WORLD), 10)
    result = beam_search(StatelessPrefixes(TableStep(2, 10, 0), 2), trie, beam=6)
    ranked = rank_items(result, trie, k=7)
    for row in range(2):
        items = ranked.items[row].tolist()
        assert sorted(items) == list(range(7))
        place = items.index(3)
        assert items[place + 1] == 4
        assert ranked.scores[row, place] == ranked.scores[row, place + 1]


def trie_and_step() -> tuple[CodeTrie, TableStep]:
    return CodeTrie.from_paths(paths_tensor(WORLD), 10), TableStep(2, 10, 0)


@pytest.mark.parametrize("renormalize", BOTH)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(renormalize: Renormalize, bad: float) -> None:
    trie, step = trie_and_step()
    step.table[1] = bad
    with pytest.raises(ValueError, match="must not be NaN"):
        beam_search(StatelessPrefixes(step, 2), trie, beam=3, renormalize=renormalize)
    with pytest.raises(ValueError, match="must not be NaN"):
        score_all(StatelessPrefixes(step, 2), trie, renormalize=renormalize)


def test_logits_of_another_vocabulary_are_refused() -> None:
    trie, _ = trie_and_step()
    start = StatelessPrefixes(TableStep(2, 11, 0), 2)
    with pytest.raises(ValueError, match=r"= \(2, 1, 10\), got \(2, 1, 11\)"):
        beam_search(start, trie, beam=3, renormalize="none")


def test_counts_must_be_positive() -> None:
    trie, step = trie_and_step()
    with pytest.raises(ValueError, match="beam must be at least 1, got 0"):
        beam_search(StatelessPrefixes(step, 2), trie, beam=0)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        score_all(StatelessPrefixes(step, 2), trie, chunk=0)
    with pytest.raises(ValueError, match="k must be at least 1"):
        rank_items(beam_search(StatelessPrefixes(step, 2), trie, beam=3), trie, k=0)


def test_an_unknown_renormalisation_is_refused() -> None:
    trie, step = trie_and_step()
    with pytest.raises(ValueError, match="'children' or 'none', got 'all'"):
        beam_search(StatelessPrefixes(step, 2), trie, beam=3, renormalize="all")  # type: ignore[arg-type]
