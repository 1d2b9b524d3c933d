"""What a model or a guide forbids with ``-inf`` never comes back from any search."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from tries import NUM_TOKENS, table_model, tries

from semid.boosts import ItemBoosts
from semid.decoding import BeamResult, beam_search, rank_items
from semid.filters import ItemFilter
from semid.fusion import Fusion, PrefixGuide
from semid.prefixes import StatelessPrefixes
from semid.scoring import score_all
from semid.successors import Renormalize
from semid.trie import CodeTrie

BATCH = 2


def some_forbidden(trie: CodeTrie, seed: int, share: float) -> Tensor:
    """Logits ``(batch, node, token)``, whole numbers so that paths tie, some of them ``-inf``."""
    gen = torch.Generator().manual_seed(seed)
    shape = (BATCH, trie.num_nodes, NUM_TOKENS)
    logits = torch.randint(-2, 3, shape, generator=gen).float()
    return logits.masked_fill(torch.rand(shape, generator=gen) < share, -torch.inf)


def is_forbidden(trie: CodeTrie, logits: Tensor, item: int, renormalize: Renormalize) -> bool:
    """The definition: a token of the item's path that the model is asked about has ``-inf``."""
    path = trie.path(torch.tensor(item)).tolist()
    for node, child in pairwise(path):
        asked = renormalize == "none" or not bool(trie.has_one_leaf[node]) or node == 0
        if node != child and asked and logits[node, trie.token_of_node[child]] == -math.inf:
            return True
    return False


@given(
    trie=tries(),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    renormalize=st.sampled_from(["children", "none"]),
    weight=st.sampled_from([0.0, 0.4, 1.0]),
    denied=st.lists(st.integers(-1, 19), max_size=4),
    static=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_it_comes_back_from_no_search(
    trie: CodeTrie,
    seed: int,
    share: float,
    renormalize: Renormalize,
    weight: float,
    denied: list[int],
    static: bool,
) -> None:
    own, other = some_forbidden(trie, seed, share), some_forbidden(trie, seed + 1, 0.1)
    start = table_model(trie, own)
    guide = PrefixGuide(table_model(trie, other), trie, renormalize=renormalize)
    fusion = Fusion(guide=guide, weight=weight)
    deny = torch.tensor([[item if item < trie.num_items else -1 for item in denied]] * BATCH)
    within = ItemFilter(trie, deny=deny.long())
    boosts = ItemBoosts(trie, 50.0 * torch.arange(trie.num_items))
    exact = score_all(start, trie, renormalize=renormalize, fusion=fusion, chunk=3)
    found = beam_search(
        start,
        trie,
        beam=trie.num_items + 2,
        renormalize=renormalize,
        within=within,
        boosts=boosts,
        fusion=fusion,
        static_shapes=static,
    )
    ranked = rank_items(found, trie, k=trie.num_items, within=within, boosts=boosts)
    for row in range(BATCH):
        opinions = [own[row]] if weight == 1 else [own[row], other[row]]
        forbidden = {
            item
            for item in range(trie.num_items)
            if any(is_forbidden(trie, logits, item, renormalize) for logits in opinions)
        }
        assert {i for i, s in enumerate(exact[row].tolist()) if s == -math.inf} == forbidden
        listed = [item for item in ranked.items[row].tolist() if item >= 0]
        assert sorted(listed) == sorted(set(range(trie.num_items)) - forbidden - set(denied))
        assert ranked.scores[row].isfinite().tolist() == (ranked.items[row] >= 0).tolist()


@given(trie=tries(), seed=st.integers(0, 1000), share=st.sampled_from([0.3, 1.0]))
@settings(deadline=None, max_examples=50)
def test_it_is_never_drawn(trie: CodeTrie, seed: int, share: float) -> None:
    logits = some_forbidden(trie, seed, share)
    gen = torch.Generator().manual_seed(seed)
    drawn = beam_search(table_model(trie, logits), trie, beam=trie.num_items, sample=gen)
    for row in range(BATCH):
        leaves = {leaf for leaf in drawn.leaves[row].tolist() if leaf >= 0}
        assert leaves == {
            int(trie.node_of_item[item])
            for item in range(trie.num_items)
            if not is_forbidden(trie, logits[row], item, "children")
        }


def test_a_leaf_with_no_probability_has_no_items() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0], [1], [1]]), 2)
    found = BeamResult(leaves=torch.tensor([[1, 2]]), scores=torch.tensor([[0.0, -torch.inf]]))
    boosts = ItemBoosts(trie, torch.tensor([0.0, 9.0, 9.0]))
    assert rank_items(found, trie, k=3, boosts=boosts).items.tolist() == [[0, -1, -1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_is_so_in_every_precision(dtype: torch.dtype) -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), 2)
    logits = torch.zeros(1, trie.num_nodes, 2, dtype=dtype)
    logits[..., 1] = -torch.inf
    for renormalize in ("children", "none"):
        found = beam_search(table_model(trie, logits), trie, beam=4, renormalize=renormalize)
        assert rank_items(found, trie, k=4).items.tolist() == [[0, -1, -1, -1]]


@pytest.mark.parametrize("renormalize", ["children", "none"])
@pytest.mark.parametrize("static", [True, False])
def test_a_row_that_has_nothing_left_does_not_spoil_its_neighbours(
    renormalize: Renormalize, static: bool
) -> None:
    """Its places in the beam are filled with prefixes of which a model may say anything."""
    trie = CodeTrie.from_paths(torch.tensor([[0, 0, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]]), 2)

    def logits(prefix: Tensor) -> Tensor:
        values = torch.zeros(*prefix.shape[:2], 2)
        values[0] = -torch.inf if prefix.shape[2] == 0 else torch.nan
        return values

    start = StatelessPrefixes(logits, 2)
    found = beam_search(start, trie, beam=4, renormalize=renormalize, static_shapes=static)
    assert (found.leaves[0] == -1).all()
    assert rank_items(found, trie, k=4).items[1].tolist() == [0, 1, 2, 3]
