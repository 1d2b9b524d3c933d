"""Sampling without replacement, against the probabilities of drawing one path after another."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import torch
from tries import random_model, table_model

from semid.decoding import beam_search
from semid.filters import ItemFilter
from semid.scoring import score_all
from semid.trie import CodeTrie

PATHS = torch.tensor([[1, 1, 0], [1, 2, 0], [2, 0, -1], [3, 3, 0], [3, 3, 0]])


def test_pairs_are_drawn_as_often_as_one_path_after_another() -> None:
    trie = CodeTrie.from_paths(PATHS, 4)
    one = torch.randn(1, trie.num_nodes, 4, generator=torch.Generator().manual_seed(1))
    draws = 20_000
    start = table_model(trie, one.expand(draws, -1, -1))
    gen = torch.Generator().manual_seed(0)
    found = beam_search(start, trie, beam=2, sample=gen)
    p = score_all(table_model(trie, one), trie)[0].exp()[:4].tolist()  # item 4 is the twin of 3
    leaves = trie.node_of_item[:4].tolist()
    counts = Counter(map(tuple, found.leaves.tolist()))
    for first, second in permutations(range(4), 2):
        expected = p[first] * p[second] / (1 - p[first])
        observed = counts[leaves[first], leaves[second]] / draws
        assert abs(observed - expected) < 4 * (expected * (1 - expected) / draws) ** 0.5


def test_a_draw_is_of_different_paths_with_their_own_scores_and_repeatable() -> None:
    trie = CodeTrie.from_paths(PATHS, 4)
    start = random_model(trie, 50, 0)
    first, again, other = (
        beam_search(start, trie, beam=6, sample=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first.leaves, again.leaves)
    assert not torch.equal(first.leaves, other.leaves)
    exact = beam_search(start, trie, beam=6)
    for row in range(50):
        drawn = dict(zip(first.leaves[row].tolist(), first.scores[row].tolist(), strict=True))
        assert drawn == dict(
            zip(exact.leaves[row].tolist(), exact.scores[row].tolist(), strict=True)
        )
    assert any(first.scores[row, 0] < exact.scores[row, 0] for row in range(50))


def test_the_share_of_what_is_denied_goes_to_its_siblings() -> None:
    trie = CodeTrie.from_paths(PATHS, 4)
    one = torch.randn(1, trie.num_nodes, 4, generator=torch.Generator().manual_seed(1))
    draws = 20_000
    within = ItemFilter(trie, deny=torch.zeros(draws, 1, dtype=torch.int64))
    p = score_all(table_model(trie, one), trie)[0].exp()[:4].tolist()
    for how in ("children", "none"):
        gen = torch.Generator().manual_seed(0)
        start = table_model(trie, one.expand(draws, -1, -1))
        found = beam_search(
            start,
            trie,
            beam=1,
            sample=gen,
            within=within,
            renormalize=how,  # type: ignore[arg-type]
        )
        for item, expected in {1: p[0] + p[1], 2: p[2], 3: p[3]}.items():
            observed = float((found.leaves == trie.node_of_item[item]).double().mean())
            assert abs(observed - expected) < 4 * (expected * (1 - expected) / draws) ** 0.5


def test_what_is_denied_is_not_drawn() -> None:
    trie = CodeTrie.from_paths(PATHS, 4)
    within = ItemFilter(trie, deny=torch.tensor([[0, 2]]).expand(30, -1))
    gen = torch.Generator().manual_seed(0)
    found = beam_search(random_model(trie, 30, 0), trie, beam=4, sample=gen, within=within)
    open_leaves = {int(trie.node_of_item[1]), int(trie.node_of_item[3]), -1}
    assert set(found.leaves.flatten().tolist()) == open_leaves
    assert (found.leaves[:, :2] >= 0).all()
