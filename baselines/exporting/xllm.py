"""JD's xLLM: the binary vocabulary of its ``rec`` backend.

Records of a little-endian int64 item ID and three int32 tokens, without a header
(github.com/jd-opensource/xllm, xllm/core/framework/state_dict/rec_vocab_dict.cpp). Items of one
path have a record each.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from baselines.exporting.view import ITEMS, ExportView

VOCABULARY = "rec_vocab.bin"
_LEVELS = 3
_RECORD = np.dtype([("item_id", "<i8"), ("tokens", "<i4", (_LEVELS,))])
_LARGEST = np.iinfo(np.int64)


def require_xllm(view: ExportView) -> None:
    """Refuse paths that are not of exactly three tokens."""
    view.require_equal_lengths("xllm")
    if view.trie.depth != _LEVELS:
        raise ValueError(
            f"xllm holds exactly {_LEVELS} codes an item, got {view.trie.depth} in {view.source}. "
            f"Build semantic ids of {_LEVELS} levels, without a further one against collisions."
        )


def write_xllm(view: ExportView, folder: Path) -> None:
    """Write the vocabulary; items are named by their number in ``items.json`` if not integers."""
    trie = view.trie
    by_number = any(
        isinstance(item, str) or not _LARGEST.min <= item <= _LARGEST.max for item in view.item_ids
    )
    numbers = trie.item_order.numpy().astype(np.int64)
    count = (trie.last_item[view.leaves] - trie.first_item[view.leaves]).numpy()
    records = np.empty(len(numbers), _RECORD)
    records["item_id"] = numbers if by_number else np.array(view.item_ids)[numbers]
    records["tokens"] = view.paths.numpy().repeat(count, axis=0)
    records[np.argsort(numbers)].tofile(folder / VOCABULARY)
    if by_number:
        (folder / ITEMS).write_text(json.dumps(view.item_ids, ensure_ascii=False), "utf-8")
