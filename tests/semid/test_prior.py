"""The training prior divided out of a search, against exact scores and counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tries import random_model, table_model, tries

from semid.config import Renormalize
from semid.decoding import beam_search, rank_items
from semid.fusion import Fusion, PrefixGuide
from semid.prior import PriorCorrection
from semid.scoring import score_all
from semid.trie import CodeTrie

BATCH = 3


@given(
    trie=tries(),
    seed=st.integers(0, 1000),
    strength=st.sampled_from([0.3, 1.0, 2.5]),
    renormalize=st.sampled_from(["children", "none"]),
    fused=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_path_loses_its_share_of_the_training_events(
    trie: CodeTrie, seed: int, strength: float, renormalize: Renormalize, fused: bool
) -> None:
    gen = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 30, (trie.num_items,), generator=gen)
    start, after = random_model(trie, BATCH, seed), None
    if fused:
        guide = PrefixGuide(random_model(trie, BATCH, seed + 1), trie, renormalize=renormalize)
        after = Fusion(guide=guide, weight=0.6)
    prior = PriorCorrection.from_counts(trie, counts, strength=strength)
    prior = PriorCorrection(correction=prior.correction, after=after)
    expected = score_all(start, trie, renormalize=renormalize, fusion=after)
    leaves, total = trie.node_of_item.tolist(), int(counts.sum()) + trie.num_items
    for item, leaf in enumerate(leaves):
        twins = [row for row, other in enumerate(leaves) if other == leaf]
        share = sum(int(counts[row]) + 1 for row in twins) / total
        expected[:, item] -= strength * math.log(share)
    exact = score_all(start, trie, renormalize=renormalize, fusion=prior, chunk=2)
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=1e-5)
    found = beam_search(start, trie, beam=len(set(leaves)), renormalize=renormalize, fusion=prior)
    ranked = rank_items(found, trie, k=trie.num_items)
    torch.testing.assert_close(
        ranked.scores, expected.sort(dim=1, descending=True).values, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        expected.gather(1, ranked.items), ranked.scores, rtol=1e-5, atol=1e-5
    )


def test_strength_zero_changes_no_bit() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 1]]), 2)
    start = random_model(trie, BATCH, 0)
    prior = PriorCorrection.from_counts(trie, torch.tensor([9, 0, 0, 4, 1]), strength=0)
    alone, corrected = (beam_search(start, trie, beam=2, fusion=f) for f in (None, prior))
    assert torch.equal(alone.leaves, corrected.leaves)
    assert torch.equal(alone.scores, corrected.scores)
    assert torch.equal(score_all(start, trie), score_all(start, trie, fusion=prior))


def test_a_narrow_beam_reaches_an_item_that_training_never_had() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)
    logits = torch.zeros(1, trie.num_nodes, 2)
    logits[0, 0, 0] = 3.0  # the first two items have nearly all training events
    start, counts = table_model(trie, logits), torch.tensor([500, 498, 0, 0])
    prior = PriorCorrection.from_counts(trie, counts, strength=1)
    found = [
        rank_items(beam_search(start, trie, beam=1, fusion=f), trie, k=1) for f in (None, prior)
    ]
    assert [ranked.items.item() for ranked in found] == [0, 2]
    assert found[1].scores.item() == pytest.approx(
        math.log(1 / (1 + math.e**3) / 2) - math.log(1 / 1002), abs=1e-4
    )


def test_what_the_model_forbids_stays_forbidden() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)
    logits = torch.zeros(1, trie.num_nodes, 2)
    logits[0, 0, 1] = -torch.inf
    prior = PriorCorrection.from_counts(trie, torch.tensor([50, 50, 0, 0]), strength=2)
    found = beam_search(table_model(trie, logits), trie, beam=4, fusion=prior)
    assert rank_items(found, trie, k=4).items[0, 2:].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("counts", "strength", "message"),
    [
        ([1, 2], 1.0, r"each of the 3 items of the trie, got \(2,\)"),
        ([1, -2, 0], 1.0, "counts must be at least 0, got -2"),
        ([1, 2, 0], -0.5, "at least 0, got -0.5"),
        ([1, 2, 0], math.inf, "must be finite"),
    ],
)
def test_bad_priors_are_refused(counts: list[int], strength: float, message: str) -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0]]), 2)
    with pytest.raises(ValueError, match=message):
        PriorCorrection.from_counts(trie, torch.tensor(counts), strength=strength)


def test_the_second_opinion_of_another_batch_is_refused() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0]]), 2)
    guide = PrefixGuide(random_model(trie, BATCH, 0), trie)
    prior = PriorCorrection.from_counts(trie, torch.tensor([1, 2, 0]), strength=1)
    prior = PriorCorrection(correction=prior.correction, after=Fusion(guide=guide, weight=0.5))
    with pytest.raises(ValueError, match="each of the 4 rows, got 3"):
        beam_search(random_model(trie, 4, 0), trie, beam=2, fusion=prior)
