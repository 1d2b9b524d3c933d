"""Codes to tokens and back."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semid.vocab import CodeVocab


@st.composite
def vocabularies(draw: st.DrawFn) -> CodeVocab:
    sizes = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)))
    if draw(st.booleans()):
        return CodeVocab.per_level(sizes)
    return CodeVocab.flat(sizes, num_special=draw(st.integers(0, 4)))


@given(vocab=vocabularies(), seed=st.integers(0, 1000))
def test_tokens_lead_back_to_their_codes(vocab: CodeVocab, seed: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    columns = [torch.randint(size, (2, 7), generator=gen) for size in vocab.sizes]
    codes = torch.stack(columns, dim=-1)
    for levels in range(1, len(vocab.sizes) + 1):
        tokens = vocab.tokens(codes[..., :levels])
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < vocab.num_tokens
        assert torch.equal(vocab.codes(tokens), codes[..., :levels])


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), num_special=st.integers(0, 4))
def test_a_flat_vocabulary_gives_every_code_a_token_of_its_own(
    sizes: list[int], num_special: int
) -> None:
    vocab = CodeVocab.flat(tuple(sizes), num_special=num_special)
    tokens = [
        offset + code
        for size, offset in zip(vocab.sizes, vocab.offsets, strict=True)
        for code in range(size)
    ]
    assert tokens == list(range(num_special, vocab.num_tokens))


def test_hand_written_codes_have_known_tokens() -> None:
    codes = torch.tensor([[0, 0, 0], [2, 4, 1]])
    flat = CodeVocab.flat((3, 5, 2))
    assert (flat.offsets, flat.num_tokens) == ((1, 4, 9), 11)
    assert flat.tokens(codes).tolist() == [[1, 4, 9], [3, 8, 10]]
    levels = CodeVocab.per_level((3, 5, 2))
    assert (levels.offsets, levels.num_tokens) == ((0, 0, 0), 5)
    assert levels.tokens(codes).tolist() == codes.tolist()


def test_an_empty_prefix_has_no_tokens() -> None:
    nothing = torch.zeros(4, 0, dtype=torch.int64)
    assert CodeVocab.flat((3, 5)).tokens(nothing).shape == (4, 0)
    assert CodeVocab.flat((3, 5)).codes(nothing).shape == (4, 0)


@pytest.mark.parametrize("codes", [[[0, 5]], [[3, 0]], [[-1, 0]]])
def test_a_code_outside_its_level_is_refused(codes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="codebook sizes"):
        CodeVocab.flat((3, 5)).tokens(torch.tensor(codes))


@pytest.mark.parametrize("tokens", [[[0, 4]], [[1, 3]], [[4, 4]], [[1, 9]]])
def test_a_token_of_another_level_is_refused(tokens: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="belong to its level"):
        CodeVocab.flat((3, 5)).codes(torch.tensor(tokens))


def test_more_levels_than_the_vocabulary_has_are_refused() -> None:
    too_deep = torch.ones(2, 3, dtype=torch.int64)
    vocab = CodeVocab.flat((3, 5))
    with pytest.raises(ValueError, match="3 levels"):
        vocab.tokens(too_deep)
    with pytest.raises(ValueError, match="3 levels"):
        vocab.codes(too_deep)


def test_a_trie_is_built_once_for_codes_and_vocabulary() -> None:
    codes, flat = torch.tensor([[0, 1], [1, 0], [1, 1]]), CodeVocab.flat((2, 2))
    trie, other = flat.trie(codes), CodeVocab.per_level((2, 2)).trie(codes)
    assert flat.trie(codes) is trie
    assert CodeVocab.flat((2, 2)).trie(codes) is trie
    assert other is not trie
    assert other.num_tokens == 2
    assert torch.equal(trie.walk(flat.tokens(codes)), trie.node_of_item)


def test_codes_that_change_have_another_trie() -> None:
    codes, vocab = torch.tensor([[0, 1], [1, 0]]), CodeVocab.flat((2, 2))
    before = vocab.trie(codes)
    codes[0] = codes.new_tensor([1, 1])
    after = vocab.trie(codes)
    assert after is not before
    assert after.num_nodes == before.num_nodes - 1, "both items begin alike now"


def test_a_trie_goes_with_its_codes() -> None:
    codes = torch.tensor([[0, 1], [1, 0]])
    trie = weakref.ref(CodeVocab.flat((2, 2)).trie(codes))
    assert trie() is not None
    del codes
    gc.collect()
    assert trie() is None
