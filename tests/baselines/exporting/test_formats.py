"""Files of servers, read back as their formats are described, give the paths of the trie."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import random_view

from baselines.exporting.config import Server
from baselines.exporting.export import FORMATS
from baselines.exporting.view import ExportView

SEEDS = range(200)
Items = dict[tuple[int, ...], list[Any]]


def items_of(view: ExportView) -> Items:
    """Items by path, found without the view's own paths: down every branch of the trie."""
    trie, found = view.trie, defaultdict(list)
    for row in trie.item_order.tolist():
        node, path = int(trie.node_of_item[row]), []
        while node:
            path.append(int(trie.token_of_node[node]))
            node = int(trie.parent_of_node[node])
        found[tuple(reversed(path))].append(view.item_ids[row])
    return dict(found)


def exported(view: ExportView, server: Server, folder: Path) -> Path:
    FORMATS[server].require(view)
    FORMATS[server].write(view, folder)
    return folder


def items_of_paths(folder: Path) -> Items:
    found = json.loads((folder / "items_of_paths.json").read_text())
    return {tuple(map(int, path.split(","))): items for path, items in found.items()}


def read_rtp_llm(tree: dict[str, Any]) -> Iterator[tuple[int, ...]]:
    """All that can be generated: as a DFA over prefixes that ends at the end token.

    A prefix without a key allows only the end token; a new prefix must have a key, or be ended.
    """
    prefixes, end = tree["prefix_dict"], tree["end_token_id"]

    def below(status: str, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for token in prefixes.get(status, [end]):
            reached = status + tree["sep"] + str(token)
            if token == end:
                yield path
            else:
                assert reached in prefixes, "the server raises"
                yield from below(reached, (*path, token))

    return below(str(tree["start_token_id"]), ())


@pytest.mark.parametrize("ragged", [False, True])
def test_the_tree_of_rtp_llm_generates_the_paths(ragged: bool, tmp_path: Path) -> None:
    for seed in SEEDS:
        view = random_view(seed, ragged=ragged, with_ends=True)
        folder = exported(view, "rtp-llm", tmp_path)
        tree = json.loads((folder / "tree.json").read_text())
        assert list(tree) == ["start_token_id", "end_token_id", "sep", "prefix_dict"]
        paths, expected = list(read_rtp_llm(tree)), items_of(view)
        assert len(paths) == len(set(paths))
        assert set(paths) == {path[:-1] if path[-1] == view.end else path for path in expected}
        assert items_of_paths(folder) == expected


def read_xllm(data: bytes) -> Items:
    """Items by path: an int64 and three int32 a record, little-endian."""
    found = defaultdict(list)
    for item, *tokens in struct.iter_unpack("<qiii", data):
        found[tuple(tokens)].append(item)
    return dict(found)


@pytest.mark.parametrize("integers", [False, True])
def test_the_vocabulary_of_xllm_holds_every_item(integers: bool, tmp_path: Path) -> None:
    for seed in SEEDS:
        view = random_view(seed, levels=3, integers=integers)
        folder = exported(view, "xllm", tmp_path)
        found = read_xllm((folder / "rec_vocab.bin").read_bytes())
        if not integers:
            names = json.loads((folder / "items.json").read_text())
            found = {path: [names[number] for number in held] for path, held in found.items()}
        assert found == items_of(view)


def read_static(held: Any) -> Iterator[tuple[int, ...]]:
    """All paths: the first tokens from the dense tables, the others from the transitions."""
    layers, vocab = int(held["dense_lookup_layers"]), int(held["vocab_size"])
    transitions, ends = held["packed_csr"], held["indptr"]
    most = held["layer_max_branches"].tolist()

    def below(state: int, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if state == 0:
            assert len(path) == len(most)
            yield path
            return
        block = transitions[ends[state] : ends[state] + most[len(path)]]  # as kernels read it
        for token, following in block[: ends[state + 1] - ends[state]].tolist():
            yield from below(following, (*path, token))

    assert held["start_mask"].shape == (vocab,)
    assert held["dense_mask"].shape == held["dense_states"].shape == (vocab,) * layers
    assert held["start_mask"].sum() == most[0]
    for prefix in zip(*held["dense_mask"].nonzero(), strict=True):
        assert held["start_mask"][prefix[0]]
        yield from below(int(held["dense_states"][prefix]), tuple(map(int, prefix)))
    assert ends[-1] == len(transitions)
    assert (transitions[-vocab:] == [vocab, 0]).all()


def test_the_arrays_of_static_hold_the_paths(tmp_path: Path) -> None:
    for seed in SEEDS:
        view = random_view(seed)
        folder = exported(view, "static", tmp_path)
        with np.load(folder / "static.npz", allow_pickle=False) as held:
            arrays = dict(held)
        paths, expected = list(read_static(arrays)), items_of(view)
        assert len(paths) == len(set(paths))
        assert set(paths) == set(expected)
        assert items_of_paths(folder) == expected


def codes_of(view: ExportView) -> Items:
    """Items by codes: a token is 1, the codes of the levels before, and the code."""
    assert view.vocab is not None
    starts = 1 + np.cumsum([0, *view.vocab.sizes[:-1]])
    return {tuple((path - starts).tolist()): held for path, held in items_of(view).items()}


def test_the_catalogue_of_flashrec_holds_the_codes(tmp_path: Path) -> None:
    for seed in SEEDS:
        view = random_view(seed)
        folder = exported(view, "flashrec", tmp_path)
        keys = json.loads((folder / "sid2vid.json").read_text())
        assert [tuple(map(int, key.split(","))) for key in keys] == sorted(codes_of(view))
        assert items_of_paths(folder) == codes_of(view)


def test_flashrec_reads_its_catalogue(tmp_path: Path) -> None:
    catalog = pytest.importorskip("flashrec.catalog", reason="flashrec (a CUDA server) is absent")
    for seed in SEEDS:
        view = random_view(seed)
        folder = exported(view, "flashrec", tmp_path)
        found, keys, bad, packed = catalog.load_unique_sids(folder / "sid2vid.json")
        assert found == sorted(codes_of(view))
        assert (keys, bad, packed) == (len(found), 0, False)
        assert catalog.infer_levels(found, packed_only=packed) == view.trie.depth
