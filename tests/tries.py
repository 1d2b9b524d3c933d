"""Random tries for hypothesis, and models that score their prefixes by a table."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from semid.prefixes import StatelessPrefixes
from semid.trie import CodeTrie

NUM_TOKENS = 5


@st.composite
def tries(draw: st.DrawFn) -> CodeTrie:
    """A trie of up to 20 items with twins and paths of different lengths, which end in token 0."""
    stem = st.lists(st.integers(1, NUM_TOKENS - 1), max_size=3)
    paths = draw(st.lists(stem.map(lambda tokens: [*tokens, 0]), min_size=1, max_size=20))
    depth = max(map(len, paths))
    padded = torch.tensor([path + [-1] * (depth - len(path)) for path in paths])
    return CodeTrie.from_paths(padded, NUM_TOKENS)


def table_model(trie: CodeTrie, logits: Tensor) -> StatelessPrefixes:
    """The empty prefixes of a model with given logits ``(batch, node, token)``."""
    rows = torch.arange(len(logits)).unsqueeze(1)
    return StatelessPrefixes(lambda prefix: logits[rows, trie.walk(prefix)], len(logits))


def random_model(trie: CodeTrie, batch: int, seed: int) -> StatelessPrefixes:
    """The empty prefixes of a model with random logits at every node."""
    gen = torch.Generator().manual_seed(seed)
    return table_model(trie, torch.randn(batch, trie.num_nodes, trie.num_tokens, generator=gen))
