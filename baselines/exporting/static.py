"""STATIC (arXiv:2602.22647): the arrays of its constrained decoding.

The tuple that ``build_static_index`` returns (github.com/youtube/static-constraint-decoding,
static_decoding/csr_utils.py), by name: the first tokens in ``start_mask``, prefixes of the first
``dense_lookup_layers`` tokens in ``dense_mask`` and ``dense_states``, later tokens and the states
that they lead to in ``packed_csr``, by the ranges of ``indptr``. State 0 ends a path, state ``t +
1`` is the prefix of the first token ``t``, and longer prefixes follow, breadth-first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from baselines.exporting.view import ITEMS_OF_PATHS, ExportView
from semid.arrays import IntArray

ARRAYS = "static.npz"
_MOST_DENSE = 1 << 26  # entries of the dense tables
_LAYERS = 2  # of the dense tables, as in the paper, if they are not too large


def require_static(view: ExportView) -> None:
    """Refuse paths of different lengths, or of one token."""
    view.require_equal_lengths("static")
    if view.trie.depth < 2:
        raise ValueError(
            f"static holds paths of two or more tokens, got one token an item in {view.source}. "
            "Build semantic ids of more levels."
        )


def write_static(view: ExportView, folder: Path) -> None:
    """Write the arrays, with the size of the vocabulary and of the dense tables."""
    trie, vocab = view.trie, view.trie.num_tokens
    layers = _LAYERS if trie.depth > _LAYERS and vocab**_LAYERS <= _MOST_DENSE else 1
    states, num_states = _states(view)
    deep = slice(int(trie.level_start[2]), None)  # the nodes whose parents have a state
    transitions = np.stack([trie.token_of_node.numpy()[deep], states[deep]], axis=1)
    padding = np.stack([np.full(vocab, vocab), np.zeros(vocab, dtype=np.int64)], axis=1)
    counts = np.bincount(states[trie.parent_of_node.numpy()[deep]], minlength=num_states)
    ends = np.concatenate([[0], counts.cumsum(), [len(transitions) + vocab]])
    dense = slice(*trie.level_start[layers : layers + 2].tolist())
    prefixes = _tokens_to(view, np.arange(dense.start, dense.stop), layers)
    start_mask = np.zeros(vocab, dtype=bool)
    dense_mask = np.zeros((vocab,) * layers, dtype=bool)
    dense_states = np.zeros((vocab,) * layers, dtype=np.int32)
    start_mask[trie.tokens_of_depth(0).numpy()] = True
    dense_mask[prefixes] = True
    dense_states[prefixes] = states[dense]
    np.savez(
        folder / ARRAYS,
        packed_csr=np.concatenate([transitions, padding]).astype(np.int32),
        indptr=ends.astype(np.int32),
        layer_max_branches=np.array([trie.width_of_depth(d) for d in range(trie.depth)]),
        start_mask=start_mask,
        dense_mask=dense_mask,
        dense_states=dense_states,
        vocab_size=np.array(vocab),
        dense_lookup_layers=np.array(layers),
    )
    (folder / ITEMS_OF_PATHS).write_text(view.items_of_paths(view.paths), "utf-8")


def _states(view: ExportView) -> tuple[IntArray, int]:
    """State of each node, int64 ``(node,)``, and the number of states; the root's is unused."""
    trie, vocab = view.trie, view.trie.num_tokens
    first, second, last = (int(trie.level_start[depth]) for depth in (1, 2, trie.depth))
    states = np.zeros(trie.num_nodes, dtype=np.int64)
    states[first:second] = trie.token_of_node.numpy()[first:second] + 1
    states[second:last] = vocab + 1 + np.arange(last - second)
    return states, vocab + 1 + last - second


def _tokens_to(view: ExportView, nodes: IntArray, depth: int) -> tuple[IntArray, ...]:
    """Tokens of the prefixes of nodes at ``depth``, an array for each position."""
    tokens, parents = view.trie.token_of_node.numpy(), view.trie.parent_of_node.numpy()
    found: list[IntArray] = []
    for _ in range(depth):
        found.append(tokens[nodes])
        nodes = parents[nodes]
    return tuple(reversed(found))
