"""A saved trie comes back as it was, or is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import save_file
from torch import Tensor
from tries import tries

from semid.decoding import beam_search, rank_items
from semid.prefixes import StatelessPrefixes
from semid.trie import CodeTrie

NAMES = ["first_child", "token_of_node", "item_order", "first_item", "last_item", "level_start"]


@pytest.fixture
def trie() -> CodeTrie:
    paths = [[0, 0, -1], [0, 1, -1], [1, 0, 2], [1, 1, -1], [0, 1, -1], [1, 0, 1]]
    return CodeTrie.from_paths(torch.tensor(paths), 3)


def tensors_of(trie: CodeTrie) -> dict[str, Tensor]:
    return {name: getattr(trie, name) for name in NAMES}


def is_same(found: CodeTrie, trie: CodeTrie) -> bool:
    tensors = tensors_of(found)
    same = all(tensors[name].equal(tensor) for name, tensor in tensors_of(trie).items())
    return same and found.num_tokens == trie.num_tokens


def saved_by_the_first_version(path: Path, tensors: dict[str, Tensor], num_tokens: int = 3) -> None:
    """Tensors and the number of tokens, without a hash."""
    save_file(tensors, path, metadata={"num_tokens": str(num_tokens)})


def test_whatever_bit_is_flipped_no_other_trie_is_read(trie: CodeTrie, tmp_path: Path) -> None:
    path = tmp_path / "trie.safetensors"
    trie.save(path)
    assert is_same(CodeTrie.load(path), trie)
    whole = path.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = CodeTrie.load(path)
        except ValueError as error:
            assert "is not a whole trie" in str(error)  # noqa: PT017
        else:
            assert place < start, "a value has changed"
            assert is_same(found, trie)


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_file_that_breaks_off_is_refused(trie: CodeTrie, tmp_path: Path, left: int) -> None:
    path = tmp_path / "trie.safetensors"
    trie.save(path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"trie.safetensors is not a whole trie: .* safetensors"):
        CodeTrie.load(path)


def test_a_file_of_something_else_is_refused(trie: CodeTrie, tmp_path: Path) -> None:
    path = tmp_path / "trie.safetensors"
    with pytest.raises(FileNotFoundError):
        CodeTrie.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"expected first_child, .* of one axis"):
        CodeTrie.load(path)
    save_file(tensors_of(trie), path)
    with pytest.raises(ValueError, match="expected num_tokens"):
        CodeTrie.load(path)


@given(trie=tries())
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_trie_of_the_first_version_still_loads(trie: CodeTrie, tmp_path: Path) -> None:
    path = tmp_path / "trie.safetensors"
    saved_by_the_first_version(path, tensors_of(trie), trie.num_tokens)
    assert is_same(CodeTrie.load(path), trie)
    trie.save(path)
    assert is_same(CodeTrie.load(path), trie)


def test_flipped_bits_of_the_first_version_never_give_rows_that_do_not_exist(
    trie: CodeTrie, tmp_path: Path
) -> None:
    path = tmp_path / "trie.safetensors"
    saved_by_the_first_version(path, tensors_of(trie))
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    start = StatelessPrefixes(lambda prefix: torch.zeros(*prefix.shape[:2], 3), 1)
    read = 0
    for name in NAMES:
        for place in range(*header[name]["data_offsets"]):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[8 + size + place] ^= 1 << bit
                path.write_bytes(damaged)
                try:
                    found = CodeTrie.load(path)
                except ValueError as error:
                    assert "is not a whole trie" in str(error)  # noqa: PT017
                    continue
                assert name == "token_of_node", f"{name} has changed unseen"
                ranked = rank_items(beam_search(start, found, beam=6), found, k=6)
                assert sorted(ranked.items[0].tolist()) == list(range(6))
                read += 1
    assert read < 10, "another token that is none of its siblings is all that can be"


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("item_order", [0, 1, 4, 5, 2, 2], "each of its 6 rows once"),
        ("item_order", [0, 1, 4, 5, 2, -3], "each of its 6 rows once"),
        ("item_order", [0, 1, 4, 5, 2, 6], "each of its 6 rows once"),
        ("token_of_node", [-1, 0, 3, 0, 1, 0, 1, 1, 2], r"tokens in \[0, 3\)"),
        ("token_of_node", [-1, 1, 0, 0, 1, 0, 1, 1, 2], "do not rise"),
        ("first_item", [0, 0, 3, 0, 2, 3, 5, 3, 4], "follow each other"),
        ("level_start", [0, 1, 1, 7, 9], "does not rise"),
        ("level_start", [0, 1, 3, 7, 10], "last node"),
    ],
)
def test_what_is_no_trie_is_named(
    trie: CodeTrie, tmp_path: Path, name: str, changed: list[int], message: str
) -> None:
    tensors = tensors_of(trie)
    tensors[name] = torch.tensor(changed).to(tensors[name].dtype)
    saved_by_the_first_version(tmp_path / "trie", tensors)
    with pytest.raises(ValueError, match=message):
        CodeTrie.load(tmp_path / "trie")
