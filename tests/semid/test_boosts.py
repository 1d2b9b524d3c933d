"""Boosts within the trie, against exact scores with the boosts added."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tries import random_model, table_model, tries

from semid.boosts import ItemBoosts
from semid.decoding import beam_search, rank_items
from semid.filters import ItemFilter
from semid.scoring import score_all
from semid.trie import CodeTrie

BATCH = 3


@given(
    trie=tries(),
    seed=st.integers(0, 1000),
    per_request=st.booleans(),
    denied=st.none() | st.lists(st.integers(0, 19), min_size=1, max_size=6),
)
@settings(deadline=None, max_examples=60)
def test_a_beam_over_all_leaves_is_the_boosted_order_of_exact_scoring(
    trie: CodeTrie, seed: int, per_request: bool, denied: list[int] | None
) -> None:
    gen = torch.Generator().manual_seed(seed)
    shape = (BATCH, trie.num_items) if per_request else (trie.num_items,)
    values = 3 * torch.randn(shape, generator=gen)
    boosts, start = ItemBoosts(trie, values), random_model(trie, BATCH, seed)
    within = None
    if denied is not None:
        rows = [[item if item < trie.num_items else -1 for item in denied]] * BATCH
        within = ItemFilter(trie, deny=torch.tensor(rows))
    found = beam_search(start, trie, beam=trie.num_items, boosts=boosts, within=within)
    ranked = rank_items(found, trie, k=trie.num_items, boosts=boosts, within=within)
    wanted = score_all(start, trie) + values
    if denied is not None:
        wanted[:, [item for item in denied if item < trie.num_items]] = -torch.inf
    expected = wanted.sort(dim=1, descending=True).values
    torch.testing.assert_close(ranked.scores, expected, rtol=1e-5, atol=1e-5)
    listed = wanted.gather(1, ranked.items.clamp_min(0)).masked_fill(ranked.items < 0, -torch.inf)
    torch.testing.assert_close(listed, expected, rtol=1e-5, atol=1e-5)


def test_a_strong_boost_is_not_lost_behind_an_unlikely_prefix() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[1, 1], [1, 2], [2, 1], [2, 2]]), 3)
    logits = torch.zeros(1, trie.num_nodes, 3)
    logits[0, 0, 1] = 5.0  # the first two items are likely
    start, boosts = table_model(trie, logits), ItemBoosts(trie, torch.tensor([0.0, 0, 0, 20]))
    best = rank_items(beam_search(start, trie, beam=1), trie, k=1)
    assert best.items.tolist() == [[0]]
    found = beam_search(start, trie, beam=1, boosts=boosts)
    best = rank_items(found, trie, k=1, boosts=boosts)
    assert best.items.tolist() == [[3]]
    assert best.scores[0, 0] == pytest.approx(20 + float(found.scores[0, 0]))
    assert float(found.scores[0, 0]) < -5, "what the search returns is the path's log-probability"


def test_bad_boosts_are_refused() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0], [1]]), 2)
    with pytest.raises(ValueError, match=r"over the 2 items of the trie, got \(3,\)"):
        ItemBoosts(trie, torch.zeros(3))
    for bad in (torch.tensor([0.0, -torch.inf]), torch.tensor([0, 1e39], dtype=torch.float64)):
        with pytest.raises(ValueError, match="must be finite in float32"):
            ItemBoosts(trie, bad)
    start, boosts = random_model(trie, 2, 0), ItemBoosts(trie, torch.zeros(2))
    with pytest.raises(ValueError, match="boosts or sample, not both"):
        beam_search(start, trie, beam=1, boosts=boosts, sample=torch.Generator())
    with pytest.raises(ValueError, match="for 3 requests, got 2 rows"):
        beam_search(start, trie, beam=1, boosts=ItemBoosts(trie, torch.zeros(3, 2)))
    with pytest.raises(ValueError, match="for 3 requests, got 2 rows"):
        rank_items(
            beam_search(start, trie, beam=1), trie, k=1, boosts=ItemBoosts(trie, torch.zeros(3, 2))
        )


def test_boosts_of_another_catalogue_are_refused() -> None:
    before = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0]]), 2)
    after = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)
    start, boosts = random_model(after, 2, 0), ItemBoosts(before, torch.zeros(3))
    found = beam_search(start, after, beam=4)
    with pytest.raises(ValueError, match="for a trie of 3 items and 6 nodes, got one of 4 and 7"):
        beam_search(start, after, beam=4, boosts=boosts)
    with pytest.raises(ValueError, match="for a trie of 3 items and 6 nodes, got one of 4 and 7"):
        rank_items(found, after, k=4, boosts=boosts)
