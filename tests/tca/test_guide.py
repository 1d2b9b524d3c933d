"""The teacher at decode time, against sums over items written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from tries import random_model, table_model, tries

from semid.boosts import ItemBoosts
from semid.config import Renormalize
from semid.decoding import beam_search, rank_items
from semid.filters import ItemFilter
from semid.fusion import Fusion
from semid.scoring import score_all
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.guide import TeacherGuide, node_log_masses

BATCH = 3
BOTH: list[Renormalize] = ["children", "none"]
SCALES = st.sampled_from([0.1, 3.0, 400.0])


def scores_of(trie: CodeTrie, seed: int, scale: float) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    return scale * torch.randn(BATCH, trie.num_items, generator=gen)


def log_sum(values: list[float]) -> float:
    most = max(values, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in values))


def slow_masses(trie: CodeTrie, row: list[float]) -> list[float]:
    below = [trie.items_below(node).tolist() for node in range(trie.num_nodes)]
    return [log_sum([row[item] for item in items]) for items in below]


@given(trie=tries(), seed=st.integers(0, 1000), scale=SCALES, excluded=st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_the_mass_of_a_node_is_that_of_the_items_below_it(
    trie: CodeTrie, seed: int, scale: float, excluded: int
) -> None:
    scores = scores_of(trie, seed, scale)
    scores[:, :excluded] = -torch.inf
    expected = torch.tensor([slow_masses(trie, row) for row in scores.tolist()])
    found = node_log_masses(trie, scores)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)


@given(trie=tries(), seed=st.integers(0, 1000), scale=SCALES, temperature=st.sampled_from([1.0, 2]))
@settings(deadline=None, max_examples=40)
def test_along_every_path_it_is_the_collaborative_tokenizer(
    trie: CodeTrie, seed: int, scale: float, temperature: float
) -> None:
    scores = scores_of(trie, seed, scale)
    tokenizer = CollaborativeTokenizer(trie, temperature=temperature)
    guide = TeacherGuide(trie, scores, temperature=temperature)
    for item in range(trie.num_items):
        target = torch.full((BATCH,), item)
        nodes = trie.path(target)[:, :-1]
        child, valid = trie.children(nodes, trie.max_children)
        found = guide.log_probs(nodes, child).exp().masked_fill(~valid, 0.0)
        torch.testing.assert_close(found, tokenizer(scores, target), rtol=1e-5, atol=1e-6)


@given(trie=tries(), seed=st.integers(0, 1000), scale=SCALES)
@settings(deadline=None, max_examples=40)
def test_the_steps_of_a_path_add_up_to_its_log_probability(
    trie: CodeTrie, seed: int, scale: float
) -> None:
    scores = scores_of(trie, seed, scale)
    start, fusion = random_model(trie, BATCH, 0), Fusion(guide=TeacherGuide(trie, scores), weight=0)
    found = score_all(start, trie, fusion=fusion)
    log_p = scores.double().log_softmax(dim=1)
    leaves = trie.node_of_item.tolist()
    for item, leaf in enumerate(leaves):
        twins = [other for other, its in enumerate(leaves) if its == leaf]
        expected = log_p[:, twins].logsumexp(dim=1).float()
        torch.testing.assert_close(found[:, item], expected, rtol=1e-5, atol=1e-5)


@given(
    trie=tries(),
    seed=st.integers(0, 1000),
    scale=SCALES,
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    renormalize=st.sampled_from(BOTH),
)
@settings(deadline=None, max_examples=60)
def test_fused_scores_are_the_mixture_of_both_log_probabilities_of_a_path(
    trie: CodeTrie, seed: int, scale: float, weight: float, renormalize: Renormalize
) -> None:
    scores, start = scores_of(trie, seed, scale), random_model(trie, BATCH, seed)
    fusion = Fusion(guide=TeacherGuide(trie, scores), weight=weight)
    own = score_all(start, trie, renormalize=renormalize)
    shares = node_log_masses(trie, scores.double().log_softmax(dim=1))[:, trie.node_of_item]
    expected = (weight * own + (1 - weight) * shares).float()
    found = score_all(start, trie, renormalize=renormalize, chunk=1 + seed % 4, fusion=fusion)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@given(
    trie=tries(),
    seed=st.integers(0, 1000),
    scale=SCALES,
    weight=st.sampled_from([0.0, 0.5, 0.9]),
    renormalize=st.sampled_from(BOTH),
    static=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_fused_beam_of_all_leaves_is_the_order_of_exact_scoring(
    trie: CodeTrie, seed: int, scale: float, weight: float, renormalize: Renormalize, static: bool
) -> None:
    start = random_model(trie, BATCH, seed)
    fusion = Fusion(guide=TeacherGuide(trie, scores_of(trie, seed, scale)), weight=weight)
    num_leaves = len(set(trie.node_of_item.tolist()))
    found = beam_search(
        start,
        trie,
        beam=num_leaves,
        renormalize=renormalize,
        fusion=fusion,
        static_shapes=static,
    )
    exact = score_all(start, trie, renormalize=renormalize, fusion=fusion)
    for row in range(BATCH):
        score = dict(zip(trie.node_of_item.tolist(), exact[row].tolist(), strict=True))
        order = sorted(score, key=lambda leaf: (-score[leaf], int(trie.first_item[leaf])))
        assert found.leaves[row].tolist() == order
        assert found.scores[row].tolist() == [score[leaf] for leaf in order]


@given(trie=tries(), seed=st.integers(0, 1000), denied=st.lists(st.integers(0, 19), max_size=6))
@settings(deadline=None, max_examples=40)
def test_filters_and_boosts_work_on_fused_scores(
    trie: CodeTrie, seed: int, denied: list[int]
) -> None:
    start, scores = random_model(trie, BATCH, seed), scores_of(trie, seed, 2.0)
    fusion = Fusion(guide=TeacherGuide(trie, scores), weight=0.5)
    gone = [item for item in denied if item < trie.num_items]
    within = ItemFilter(trie, deny=torch.tensor([[*gone, -1]] * BATCH))
    values = scores_of(trie, seed + 1, 2.0)
    boosts = ItemBoosts(trie, values)
    found = beam_search(
        start, trie, beam=trie.num_items, within=within, boosts=boosts, fusion=fusion
    )
    ranked = rank_items(found, trie, k=trie.num_items, within=within, boosts=boosts)
    wanted = score_all(start, trie, fusion=fusion) + values
    wanted[:, gone] = -torch.inf
    expected = wanted.sort(dim=1, descending=True).values
    torch.testing.assert_close(ranked.scores, expected, rtol=1e-5, atol=1e-5)
    listed = wanted.gather(1, ranked.items.clamp_min(0)).masked_fill(ranked.items < 0, -torch.inf)
    torch.testing.assert_close(listed, expected, rtol=1e-5, atol=1e-5)


def test_a_prefix_far_below_the_best_item_keeps_its_distribution() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [1, 0], [1, 1]]), 2)
    guide = TeacherGuide(trie, torch.tensor([[0.0, -2000.0, -2001.0]]))
    child, _ = trie.children(trie.walk(torch.tensor([[1]])), 2)
    found = guide.log_probs(torch.tensor([[2]]), child.view(1, 1, 2))
    expected = torch.tensor([0.0, -1.0]).log_softmax(dim=0)
    torch.testing.assert_close(found[0, 0], expected)


def test_a_prefix_without_teacher_mass_is_not_followed_and_is_no_nan() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)
    start = table_model(trie, torch.zeros(1, trie.num_nodes, 2))
    excluded = torch.tensor([[-torch.inf, -torch.inf, 1.0, 0.0]])
    for renormalize in BOTH:
        for weight in (0.0, 0.5):
            fusion = Fusion(guide=TeacherGuide(trie, excluded), weight=weight)
            exact = score_all(start, trie, renormalize=renormalize, fusion=fusion)
            assert exact.isneginf().tolist() == [[True, True, False, False]]
            best = beam_search(start, trie, beam=4, renormalize=renormalize, fusion=fusion)
            items = rank_items(best, trie, k=4).items
            assert items.tolist() == [[2, 3, -1, -1]]


def test_scores_of_another_catalogue_and_rows_without_a_number_are_refused() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0], [1]]), 2)
    with pytest.raises(ValueError, match=r"over the 2 catalogue rows of the trie, got \(1, 3\)"):
        TeacherGuide(trie, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        TeacherGuide(trie, torch.zeros(1, 2), temperature=0)
    for bad in ([torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]):
        with pytest.raises(ValueError, match="row 1 of item_scores"):
            TeacherGuide(trie, torch.tensor([[0.0, 0.0], bad]))
