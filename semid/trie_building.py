"""From a table of paths to the tensors of its trie: one sort of packed keys, then level by level.

Ten million paths must fit in memory next to their table, so nothing here exceeds a few keys per
item: ids are int32, and each level's intermediates are dropped before the next.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

_PAD = -1
_MOST = torch.iinfo(torch.int32).max  # items, nodes and tokens are stored as int32


def trie_tensors(paths: Tensor, num_tokens: int) -> dict[str, Tensor]:
    """The tensors of ``CodeTrie``, by name; see ``CodeTrie.from_paths`` for the arguments."""
    depth = _checked_depth(paths, num_tokens)
    bits = num_tokens.bit_length()  # of token + 1: 0 marks the end of a path
    packs = torch.split(torch.arange(depth), 63 // bits)  # the levels that share a key
    order, keys = _sorted_rows(paths, packs, bits)

    num_items = len(paths)
    tokens, starts = [order.new_full((1,), _PAD)], [order.new_zeros(1)]
    ends, level_start = [order.new_full((1,), num_items)], [0, 1]
    opens = torch.zeros(num_items, dtype=torch.bool, device=paths.device)  # a prefix, in path order
    opens[0] = True
    for pack in packs:
        keys = keys if pack is packs[0] else _keys(paths, pack, bits, order)
        change = keys[1:] ^ keys[:-1]  # larger the earlier the first differing level
        for level in pack.tolist():
            place = bits * (int(pack[-1]) - level)
            opens_parent = opens.clone()
            opens[1:] |= change >= 1 << place
            start = opens.nonzero().squeeze(1).to(torch.int32)
            token = (keys.index_select(0, start) >> place).bitwise_and_((1 << bits) - 1)
            token = token.to(torch.int32) + _PAD
            end = torch.cat([start[1:], ends[0]])
            ended = token == _PAD
            if ended.any():
                _check_no_prefix(ended, start, opens_parent, order)
                start, end, token = start[~ended], end[~ended], token[~ended]
            tokens.append(token)
            starts.append(start)
            ends.append(end)
            level_start.append(level_start[-1] + len(start))
            check_fits("nodes", level_start[-1])
    del keys, change, opens, opens_parent, start, end, token, ended

    first_child = [  # children of a node precede those of later nodes
        base + torch.searchsorted(below, start, out_int32=True)
        for base, (start, below) in zip(level_start[1:], pairwise(starts), strict=False)
    ]
    first_child.append(order.new_full((len(starts[-1]) + 1,), level_start[-1]))
    return {
        "first_child": _joined(first_child),
        "token_of_node": _joined(tokens),
        "item_order": order,
        "first_item": _joined(starts),
        "last_item": _joined(ends),
        "level_start": torch.tensor(level_start, device=paths.device),
    }


def _joined(parts: list[Tensor]) -> Tensor:
    joined = torch.cat(parts)
    parts.clear()
    return joined


def _sorted_rows(paths: Tensor, packs: tuple[Tensor, ...], bits: int) -> tuple[Tensor, Tensor]:
    """Rows sorted by path, then by row, int32 ``(item,)``; and their keys of the first pack."""
    order = torch.arange(len(paths), dtype=torch.int32, device=paths.device)
    for pack in reversed(packs):
        keys, by_key = _keys(paths, pack, bits, order).sort(stable=True)
        order = order.index_select(0, by_key)
        del by_key
    return order, keys


def _keys(paths: Tensor, pack: Tensor, bits: int, order: Tensor) -> Tensor:
    """One sortable key for the tokens of several levels; int64 ``(item,)``."""
    keys = paths.new_zeros(len(paths))
    for level in pack.tolist():
        column = paths[:, level].index_select(0, order)
        keys.bitwise_left_shift_(bits).add_(column).sub_(_PAD)
    return keys


def _checked_depth(paths: Tensor, num_tokens: int) -> int:
    """Number of tokens of the longest path; columns of padding only do not count."""
    if paths.dim() != 2 or 0 in paths.shape or paths.dtype != torch.int64:
        raise ValueError(
            f"paths must be int64 (item, level) and not empty, got {paths.dtype} "
            f"{tuple(paths.shape)}"
        )
    check_fits("items", len(paths))
    check_fits("tokens", num_tokens)
    lowest, highest = torch.stack(paths.aminmax()).tolist()
    if lowest < _PAD or highest >= num_tokens:
        item, level = ((paths < _PAD) | (paths >= num_tokens)).nonzero()[0].tolist()
        raise ValueError(
            f"tokens must lie in [0, {num_tokens}), got {int(paths[item, level])} at level {level} "
            f"of item {item}. Was the table made with another vocabulary?"
        )
    if lowest != _PAD:
        return paths.shape[1]
    ended = [column == _PAD for column in paths.unbind(1)]
    broken = ended[0].clone()
    for before, after in pairwise(ended):
        broken |= before & ~after
    if broken.any():
        item = int(broken.nonzero()[0])
        raise ValueError(
            f"item {item} has an empty path or a hole in it: {paths[item].tolist()}. "
            "Fill shorter paths with -1 on the right only."
        )
    return sum(not bool(column.all()) for column in ended)


def check_fits(what: str, count: int) -> None:
    """Raise if a count does not fit in int32.

    Raises:
        ValueError: If ``count`` is too large.
    """
    if count > _MOST:
        raise ValueError(
            f"a trie holds at most {_MOST} {what}, got {count}. Split the catalogue into several."
        )


def _check_no_prefix(ended: Tensor, start: Tensor, opens_parent: Tensor, order: Tensor) -> None:
    """A path that ended sorts directly before those it is a prefix of."""
    siblings = ~opens_parent.index_select(0, start[1:])
    prefix = ended[:-1] & siblings
    if prefix.any():
        index = int(start[1:][prefix][0])
        short, long = order[index - 1 : index + 1].tolist()
        raise ValueError(
            f"the path of item {short} is a prefix of the path of item {long}, so no decoder could "
            "end it. Append an end token to every path."
        )
