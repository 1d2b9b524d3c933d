"""Adding and removing items without sorting the whole catalogue again.

Both functions return exactly what ``CodeTrie.from_paths`` returns for the changed table. Each
tensor is merged or filtered in one pass; only the new paths are sorted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semid.trie import CodeTrie
from semid.trie_building import check_fits


def add_items(trie: CodeTrie, paths: Tensor) -> CodeTrie:
    """The trie with added items, whose catalogue rows follow the existing ones.

    Args:
        trie: A trie; not modified.
        paths: int64 ``(item, level)``, tokens of the new items, shorter paths padded with -1.

    Raises:
        ValueError: As ``CodeTrie.from_paths``; also if a new path is a prefix of an old one or vice
            versa, or there would be too many items or nodes.
    """
    new = CodeTrie.from_paths(paths, trie.num_tokens)
    match = _matches(trie, new)
    _check_no_prefix(trie, new, match)
    before, place = _insertions(trie, new, match)
    place = place[new.node_of_item[new.item_order]]  # of each new item in path order
    fresh = match < 0
    num_fresh = _before(fresh)
    check_fits("items", trie.num_items + new.num_items)
    check_fits("nodes", trie.num_nodes + int(num_fresh[-1]))

    place_of_new = place + torch.arange(new.num_items, device=trie.device)
    id_of_fresh = before[fresh] + torch.arange(int(num_fresh[-1]), device=trie.device)
    is_old = _all_but(id_of_fresh, trie.num_nodes + len(id_of_fresh))
    id_of_new = torch.empty_like(match)
    id_of_new[fresh] = id_of_fresh
    matched = match[~fresh]
    id_of_new[~fresh] = matched + torch.searchsorted(before[fresh], matched, right=True)

    shift = torch.zeros(trie.num_items + 1, dtype=torch.int32, device=trie.device)
    shift.index_add_(0, place, torch.ones_like(place, dtype=torch.int32)).cumsum_(0)
    first_of_new = place_of_new[new.first_item].int()
    first_item = _spread(trie.first_item + shift.index_select(0, trie.first_item), is_old)
    first_item[id_of_fresh] = first_of_new[fresh]
    first_item[id_of_new] = torch.minimum(first_item[id_of_new], first_of_new)
    last_item = _spread(trie.last_item - trie.first_item, is_old)  # the size, so far
    last_item[id_of_new] += new.last_item - new.first_item
    last_item += first_item

    token_of_node = _spread(trie.token_of_node, is_old)
    token_of_node[id_of_fresh] = new.token_of_node[fresh]
    first_child = torch.ones(len(is_old) + 1, dtype=torch.int32, device=trie.device)
    num_children = _spread(trie.first_child.diff(), is_old)
    parent_of_fresh = id_of_new[new.parent_of_node[fresh]]
    num_children.index_add_(0, parent_of_fresh, torch.ones_like(parent_of_fresh).int())
    torch.cumsum(num_children, 0, out=first_child[1:]).add_(1)

    item_order = _spread(trie.item_order, _all_but(place_of_new, trie.num_items + new.num_items))
    item_order[place_of_new] = trie.num_items + new.item_order
    return CodeTrie(
        first_child=first_child,
        token_of_node=token_of_node,
        item_order=item_order,
        first_item=first_item,
        last_item=last_item,
        level_start=_sum_of_levels(trie.level_start, num_fresh[new.level_start]),
        num_tokens=trie.num_tokens,
    )


def remove_items(trie: CodeTrie, items: Tensor) -> CodeTrie:
    """The trie without some items; later rows move up.

    Args:
        trie: A trie; not modified.
        items: int64 ``(item,)``, catalogue rows to remove; repeats are allowed.

    Raises:
        ValueError: If the rows are not int64, one is not in the catalogue, or no item is left.
    """
    if items.dtype != torch.int64 or items.dim() != 1:
        raise ValueError(
            f"items must be int64 (item,), got {items.dtype} {tuple(items.shape)}. "
            "Turn a mask into rows with nonzero."
        )
    if items.numel() and not 0 <= int(items.min()) <= int(items.max()) < trie.num_items:
        raise ValueError(
            f"items must be catalogue rows in [0, {trie.num_items}), got {int(items.min())} to "
            f"{int(items.max())}"
        )
    stays = torch.ones(trie.num_items, dtype=torch.bool, device=trie.device)
    stays[items] = False
    if not stays.any():
        raise ValueError("removing these items leaves an empty catalogue; keep at least one.")
    in_order = stays.index_select(0, trie.item_order)
    item_order = trie.item_order.index_select(0, _positions(in_order))
    place = _before(in_order)
    first_item = place.index_select(0, trie.first_item)
    last_item = place.index_select(0, trie.last_item)
    kept = first_item < last_item
    new_id = _before(kept)
    level_start = new_id[trie.level_start].long()
    depth = int((level_start.diff() > 0).sum()) - 1
    ends = _positions(torch.nn.functional.pad(kept, (0, 1), value=True))
    nodes = ends[:-1]
    return CodeTrie(
        first_child=new_id.index_select(0, trie.first_child.index_select(0, ends)),
        token_of_node=trie.token_of_node.index_select(0, nodes),
        item_order=_before(stays).index_select(0, item_order),
        first_item=first_item.index_select(0, nodes),
        last_item=last_item.index_select(0, nodes),
        level_start=level_start[: depth + 2],
        num_tokens=trie.num_tokens,
    )


def _matches(trie: CodeTrie, new: CodeTrie) -> Tensor:
    """For each node of ``new``, the node of ``trie`` with its path, or -1; ``(new node,)``."""
    match = torch.zeros(new.num_nodes, dtype=torch.int64, device=trie.device)
    for depth in range(1, new.depth + 1):
        nodes = new.nodes_of_depth(depth)
        match[nodes] = trie.step(match[new.parent_of_node[nodes]], new.token_of_node[nodes])
    return match


def _check_no_prefix(trie: CodeTrie, new: CodeTrie, match: Tensor) -> None:
    matched = (match >= 0).nonzero().squeeze(1)
    inner = trie.num_children(match[matched]) > 0
    clash = matched[inner != (new.num_children(matched) > 0)]
    if len(clash):
        node = int(clash[0])
        item = trie.num_items + int(new.items_below(node)[0])
        other = int(trie.items_below(int(match[node]))[0])
        raise ValueError(
            f"of the paths of items {other} and {item} one is a prefix of the other, so no decoder "
            "could end it. Append an end token to every path."
        )


def _insertions(trie: CodeTrie, new: CodeTrie, match: Tensor) -> tuple[Tensor, Tensor]:
    """Insertion points of the nodes of ``new``.

    Returns:
        The old node before which each fresh node is inserted, and the position in the old item
        order before which its items are; for a matched node the latter is the end of its items.
        Both ``(new node,)``.
    """
    before, place = torch.zeros_like(match), torch.zeros_like(match)
    matched = match >= 0
    place[matched] = trie.last_item[match[matched]].long()
    for depth in range(1, new.depth + 1):
        nodes = new.nodes_of_depth(depth)
        nodes = nodes[~matched[nodes]]
        parent = new.parent_of_node[nodes]
        old = match[parent].clamp_min(0)
        sibling = trie.seek(old, new.token_of_node[nodes])
        has_sibling = sibling < trie.first_child[old + 1]
        branch_place = torch.where(
            has_sibling,
            trie.first_item[sibling.clamp_max(trie.num_nodes - 1)],
            trie.last_item[old],
        )
        branches = matched[parent]
        before[nodes] = torch.where(branches, sibling, trie.first_child[before[parent]])
        place[nodes] = torch.where(branches, branch_place, place[parent])
    return before, place


def _before(flags: Tensor) -> Tensor:
    """Number of flags set before each position and before the end; int32, one longer."""
    count = torch.zeros(len(flags) + 1, dtype=torch.int32, device=flags.device)
    torch.cumsum(flags, 0, dtype=torch.int32, out=count[1:])
    return count


def _positions(flags: Tensor) -> Tensor:
    """Positions of set flags, int32; uses less memory than ``nonzero`` if most are set."""
    gaps = (~flags).nonzero().squeeze(1)
    steps = torch.ones(len(flags) - len(gaps) + 1, dtype=torch.int32, device=flags.device)
    steps[0] = 0
    after = gaps - torch.arange(len(gaps), device=flags.device)  # the set flag after each gap
    steps.index_add_(0, after, torch.ones_like(after, dtype=torch.int32))
    return steps.cumsum_(0)[:-1]


def _all_but(positions: Tensor, length: int) -> Tensor:
    flags = torch.ones(length, dtype=torch.bool, device=positions.device)
    flags[positions] = False
    return flags


def _spread(values: Tensor, places: Tensor) -> Tensor:
    """Scatter the values, in order, to the set flags, with 0 elsewhere."""
    return values.new_zeros(len(places)).masked_scatter_(places, values)


def _sum_of_levels(old: Tensor, added: Tensor) -> Tensor:
    """Level starts of the merged trie; a trie has no nodes beyond its deepest level."""
    last = torch.arange(max(len(old), len(added)), device=old.device)
    return old[last.clamp_max(len(old) - 1)] + added[last.clamp_max(len(added) - 1)]
