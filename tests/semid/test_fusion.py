"""Two opinions in one search, against two exact scorings."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from tries import random_model, table_model, tries

from semid.config import Renormalize
from semid.decoding import beam_search
from semid.fusion import Fusion, PrefixGuide
from semid.scoring import score_all
from semid.trie import CodeTrie

BATCH = 3


@given(
    trie=tries(),
    seed=st.integers(0, 1000),
    weight=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    renormalize=st.sampled_from(["children", "none"]),
)
@settings(deadline=None, max_examples=60)
def test_a_second_generator_mixes_its_log_probabilities_in(
    trie: CodeTrie, seed: int, weight: float, renormalize: Renormalize
) -> None:
    first, second = random_model(trie, BATCH, seed), random_model(trie, BATCH, seed + 1)
    guide = PrefixGuide(second, trie, renormalize=renormalize)
    fusion = Fusion(guide=guide, weight=weight)
    fused = score_all(first, trie, renormalize=renormalize, fusion=fusion, chunk=2)
    own = score_all(first, trie, renormalize=renormalize)
    other = score_all(second, trie, renormalize=renormalize)
    torch.testing.assert_close(fused, weight * own + (1 - weight) * other, rtol=1e-5, atol=1e-5)
    leaves = len(set(trie.node_of_item.tolist()))
    found = beam_search(first, trie, beam=leaves, renormalize=renormalize, fusion=fusion)
    for row in range(BATCH):
        score = dict(zip(trie.node_of_item.tolist(), fused[row].tolist(), strict=True))
        order = sorted(score, key=lambda leaf: (-score[leaf], int(trie.first_item[leaf])))
        assert found.leaves[row].tolist() == order


@given(trie=tries(), seed=st.integers(0, 1000), weight=st.sampled_from([0.0, 0.4, 1.0]))
@settings(deadline=None, max_examples=30)
def test_a_third_generator_is_mixed_into_what_two_say(
    trie: CodeTrie, seed: int, weight: float
) -> None:
    first, second, third = (random_model(trie, BATCH, seed + more) for more in range(3))
    inner = Fusion(guide=PrefixGuide(second, trie), weight=0.7)
    fusion = Fusion(guide=PrefixGuide(third, trie), weight=weight, after=inner)
    own, other, last = (score_all(each, trie) for each in (first, second, third))
    expected = weight * (0.7 * own + 0.3 * other) + (1 - weight) * last
    found = score_all(first, trie, fusion=fusion, chunk=2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    leaves = len(set(trie.node_of_item.tolist()))
    best = beam_search(first, trie, beam=leaves, fusion=fusion).scores
    of_leaf = {leaf: item for item, leaf in enumerate(trie.node_of_item.tolist())}
    scores = expected[:, list(of_leaf.values())].sort(dim=1, descending=True).values
    torch.testing.assert_close(best, scores, rtol=1e-5, atol=1e-5)


def test_what_comes_first_must_be_of_the_same_batch(trie: CodeTrie) -> None:
    inner = Fusion(guide=PrefixGuide(random_model(trie, BATCH, 1), trie), weight=0.5)
    outer = Fusion(guide=PrefixGuide(random_model(trie, 4, 1), trie), weight=0.5, after=inner)
    with pytest.raises(ValueError, match="each of the 4 rows, got 3"):
        beam_search(random_model(trie, 4, 0), trie, beam=2, fusion=outer)


class Loud:
    """A guide that nobody may ask."""

    batch_size = BATCH

    def log_probs(self, nodes: Tensor, children: Tensor) -> Tensor:
        raise AssertionError("asked")

    def extend(self, parent: Tensor, token: Tensor) -> Loud:
        raise AssertionError("asked")


@pytest.fixture
def trie() -> CodeTrie:
    return CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)


def test_at_weight_one_the_guide_is_not_asked(trie: CodeTrie) -> None:
    start, fusion = random_model(trie, BATCH, 0), Fusion(guide=Loud(), weight=1)
    alone, beside = (beam_search(start, trie, beam=3, fusion=f) for f in (None, fusion))
    assert torch.equal(alone.leaves, beside.leaves)
    assert torch.equal(alone.scores, beside.scores)
    assert torch.equal(score_all(start, trie), score_all(start, trie, fusion=fusion))


class Always(Loud):
    """A guide that says one number of every child."""

    def __init__(self, value: float, slots: int = 2) -> None:
        self.value, self.slots = value, slots

    def log_probs(self, nodes: Tensor, children: Tensor) -> Tensor:
        return torch.full((*nodes.shape, self.slots), self.value)

    def extend(self, parent: Tensor, token: Tensor) -> Always:
        return self


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_below_infinity_is_refused(trie: CodeTrie, bad: float) -> None:
    start, fusion = random_model(trie, BATCH, 0), Fusion(guide=Always(bad), weight=0.5)
    with pytest.raises(ValueError, match="of a guide must not be NaN or"):
        beam_search(start, trie, beam=2, fusion=fusion)
    with pytest.raises(ValueError, match="of a guide must not be NaN or"):
        score_all(start, trie, fusion=fusion)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("renormalize", ["children", "none"])
def test_a_second_generator_that_diverged_is_refused(
    trie: CodeTrie, bad: float, renormalize: Renormalize
) -> None:
    logits = torch.zeros(BATCH, trie.num_nodes, 2)
    logits[1, 2, 1] = bad
    guide = PrefixGuide(table_model(trie, logits), trie, renormalize=renormalize)
    start, fusion = random_model(trie, BATCH, 0), Fusion(guide=guide, weight=0.5)
    with pytest.raises(ValueError, match="must not be NaN or"):
        beam_search(start, trie, beam=4, renormalize=renormalize, fusion=fusion)


def test_bad_fusions_are_refused(trie: CodeTrie) -> None:
    start = random_model(trie, BATCH, 0)
    for weight in (-0.1, 1.1, torch.nan):
        with pytest.raises(ValueError, match=r"weight must lie in \[0, 1\]"):
            Fusion(guide=Loud(), weight=weight)
    with pytest.raises(ValueError, match=r"\(batch, beam, slot\) = \(3, 1, 2\), got \(3, 1, 5\)"):
        beam_search(start, trie, beam=2, fusion=Fusion(guide=Always(0.0, slots=5), weight=0.5))
    other = random_model(trie, BATCH + 1, 0)
    fusion = Fusion(guide=Always(0.0), weight=0.5)
    with pytest.raises(ValueError, match="each of the 4 rows, got 3"):
        beam_search(other, trie, beam=2, fusion=fusion)
    with pytest.raises(ValueError, match="each of the 4 rows, got 3"):
        score_all(other, trie, fusion=fusion)
    with pytest.raises(ValueError, match="fusion or sample, not both"):
        beam_search(start, trie, beam=2, fusion=fusion, sample=torch.Generator())
