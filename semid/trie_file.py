"""A trie in one safetensors file, verified by a content hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semid.provenance import atomic_write, hash_arrays

_TYPES = {
    "first_child": torch.int32,
    "token_of_node": torch.int32,
    "item_order": torch.int32,
    "first_item": torch.int32,
    "last_item": torch.int32,
    "level_start": torch.int64,
}


def write_trie(path: str | Path, tensors: Mapping[str, Tensor], num_tokens: int) -> None:
    """Write the tensors of a trie, by name, with a hash of their values."""
    from safetensors.torch import save

    held = {name: tensors[name].cpu().contiguous() for name in _TYPES}
    content = {"num_tokens": str(num_tokens), "content": _content(held, num_tokens)}
    atomic_write(path, save(held, metadata=content))


def read_trie(path: str | Path) -> tuple[dict[str, Tensor], int]:
    """Memory-map what ``write_trie`` wrote, reading it once to check it.

    A file without a hash, as written by version 0.1, is checked for consistency instead: this finds
    invalid rows, nodes and tokens, but not two swapped items.

    Returns:
        The tensors by name, and ``num_tokens``.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is not a trie or has changed since it was saved.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, f"it cannot be read as safetensors ({error})") from error
    types = {name: tensor.dtype for name, tensor in tensors.items()}
    if types != _TYPES or any(tensor.dim() != 1 for tensor in tensors.values()):
        raise _damaged(path, f"expected {', '.join(_TYPES)} of one axis, got {types}")
    if set(metadata) - {"content"} != {"num_tokens"} or not metadata["num_tokens"].isdecimal():
        raise _damaged(path, f"expected num_tokens and content in its metadata, got {metadata}")
    num_tokens = int(metadata["num_tokens"])
    if "content" not in metadata:
        for fault in _faults(tensors, num_tokens):
            raise _damaged(path, fault)
    elif metadata["content"] != _content(tensors, num_tokens):
        raise _damaged(path, "its values are not those that were saved")
    return tensors, num_tokens


def _content(tensors: Mapping[str, Tensor], num_tokens: int) -> str:
    return hash_arrays(np.array(num_tokens), *(tensors[name].numpy() for name in _TYPES))


def _damaged(path: str | Path, fault: str) -> ValueError:
    return ValueError(f"{path} is not a whole trie: {fault}. Build it again and save it.")


def _faults(tensors: Mapping[str, Tensor], num_tokens: int) -> Iterator[str]:
    """Why the tensors are not a valid trie; later faults often follow from the first."""
    first_child, token, order, first, last, level_start = (tensors[name] for name in _TYPES)
    nodes, items = len(token), len(order)
    if not len(first_child) - 1 == len(first) == len(last) == nodes > 1:
        yield "its tensors disagree on the number of nodes"
    if level_start[:2].tolist() != [0, 1] or int(level_start[-1]) != nodes:
        yield "level_start does not begin with the root or end with the last node"
    if (level_start.diff() < 1).any() or len(level_start) < 3:
        yield "level_start does not rise"
    next_level = torch.cat([level_start[1:], level_start[-1:]])
    if (first_child.diff() < 0).any() or not first_child[level_start].long().equal(next_level):
        yield "first_child does not lead from each level to the next"
    opens = torch.zeros(nodes + 1, dtype=torch.bool)  # the first child of its parent
    opens[first_child] = True
    if int(token[0]) != -1 or ((token[1:] < 0) | (token[1:] >= num_tokens)).any():
        yield f"token_of_node holds other numbers than tokens in [0, {num_tokens})"
    if ((token[2:] <= token[1:-1]) & ~opens[2:-1]).any():
        yield "siblings in token_of_node do not rise"
    if (order < 0).any() or (order >= items).any() or not order.bincount().eq(1).all():
        yield f"item_order does not hold each of its {items} rows once"
    if int(first[0]) != 0 or int(last[0]) != items or (first >= last).any():
        yield "the ranges of items do not cover the catalogue"
    if ((first[2:] != last[1:-1]) & ~opens[2:-1]).any():
        yield "the ranges of siblings do not follow each other"
    inner = (first_child.diff() > 0).nonzero().squeeze(1)
    outer = first_child[inner], first_child[inner + 1] - 1
    if not (first[inner].equal(first[outer[0]]) and last[inner].equal(last[outer[1]])):
        yield "the range of a node is not that of its children"
