"""Items that come and go: a changed trie without sorting the whole catalogue again.

Both functions give exactly what ``CodeTrie.from_paths`` gives for the changed table. They merge or
filter the flat tensors in a few passes; only the new paths are sorted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semid.trie import CodeTrie


def add_items(trie: CodeTrie, paths: Tensor) -> CodeTrie:
    """The trie with more items, whose catalogue rows follow those it has.

    Args:
        trie: A trie; it stays as it is.
        paths: int64 ``(item, level)``, tokens of the new items, shorter paths filled with -1.

    Raises:
        ValueError: As ``CodeTrie.from_paths``, also where a new path is a prefix of an old one or
            the other way round.
    """
    new = CodeTrie.from_paths(paths, trie.num_tokens)
    match = _matches(trie, new)
    _check_no_prefix(trie, new, match)
    before, place = _insertions(trie, new, match)

    fresh = match < 0
    shift = before[fresh].bincount(minlength=trie.num_nodes + 1).cumsum(0)
    id_of_old = torch.arange(trie.num_nodes, device=trie.device) + shift[:-1]
    id_of_new = torch.where(fresh, before + fresh.cumsum(0) - 1, id_of_old[match.clamp_min(0)])

    def merged(old: Tensor, added: Tensor) -> Tensor:
        values = old.new_empty(trie.num_nodes + int(fresh.sum()))
        values[id_of_old] = old
        values[id_of_new[fresh]] = added[fresh]
        return values

    place = place[new.node_of_item[new.item_order]]  # of each new item in path order
    shift = place.bincount(minlength=trie.num_items + 1).cumsum(0)
    place_of_old = torch.arange(trie.num_items, device=trie.device) + shift[:-1]
    place_of_new = place + torch.arange(new.num_items, device=trie.device)
    item_order = trie.item_order.new_empty(trie.num_items + new.num_items)
    item_order[place_of_old] = trie.item_order
    item_order[place_of_new] = trie.num_items + new.item_order

    first_of_new = place_of_new[new.first_item]
    first_item = merged(place_of_old[trie.first_item], first_of_new)
    first_item[id_of_new] = torch.minimum(first_item[id_of_new], first_of_new)
    size = merged(trie.last_item - trie.first_item, torch.zeros_like(new.first_item))
    size[id_of_new] += new.last_item - new.first_item

    parent_of_new = id_of_new[new.parent_of_node.clamp_min(0)]  # the root is never fresh
    parents = merged(id_of_old[trie.parent_of_node.clamp_min(0)], parent_of_new)
    parents[0] = -1
    depth = max(trie.depth, new.depth)
    return CodeTrie(
        first_child=_first_child(parents),
        token_of_node=merged(trie.token_of_node, new.token_of_node),
        parent_of_node=parents,
        depth_of_node=merged(trie.depth_of_node, new.depth_of_node),
        item_order=item_order,
        first_item=first_item,
        last_item=first_item + size,
        path_nodes=torch.cat(
            [
                _deepened(id_of_old[trie.path_nodes], depth),
                _deepened(id_of_new[new.path_nodes], depth),
            ]
        ),
        num_tokens=trie.num_tokens,
    )


def remove_items(trie: CodeTrie, items: Tensor) -> CodeTrie:
    """The trie without some items; the rows behind them move up.

    Args:
        trie: A trie; it stays as it is.
        items: int64 ``(item,)``, catalogue rows to remove; repetitions do no harm.

    Raises:
        ValueError: If a row is not in the catalogue, or no item is left.
    """
    if items.numel() and not 0 <= int(items.min()) <= int(items.max()) < trie.num_items:
        raise ValueError(
            f"items must be catalogue rows in [0, {trie.num_items}), got {int(items.min())} to "
            f"{int(items.max())}"
        )
    stays = torch.ones(trie.num_items, dtype=torch.bool, device=trie.device)
    stays[items] = False
    if not stays.any():
        raise ValueError("removing these items leaves an empty catalogue; keep at least one.")
    row_of_item = stays.cumsum(0) - 1
    in_order = stays[trie.item_order]
    staying_before = torch.nn.functional.pad(in_order.cumsum(0), (1, 0))  # each place
    first_item, last_item = staying_before[trie.first_item], staying_before[trie.last_item]
    kept = first_item < last_item
    id_of_node = kept.cumsum(0) - 1
    parents = id_of_node[trie.parent_of_node.clamp_min(0)][kept]
    parents[0] = -1
    depth_of_node = trie.depth_of_node[kept]
    return CodeTrie(
        first_child=_first_child(parents),
        token_of_node=trie.token_of_node[kept],
        parent_of_node=parents,
        depth_of_node=depth_of_node,
        item_order=row_of_item[trie.item_order[in_order]],
        first_item=first_item[kept],
        last_item=last_item[kept],
        path_nodes=id_of_node[trie.path_nodes[stays, : int(depth_of_node[-1]) + 1]],
        num_tokens=trie.num_tokens,
    )


def _matches(trie: CodeTrie, new: CodeTrie) -> Tensor:
    """The node of ``trie`` with the path of each node of ``new``, -1 for none; ``(new node,)``."""
    match = torch.zeros_like(new.parent_of_node)
    for depth in range(1, new.depth + 1):
        nodes = (new.depth_of_node == depth).nonzero().squeeze(1)
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
    """Where the nodes of ``new`` go.

    Returns:
        The old node that each fresh node stands before, and the place in the old item order that
        its items stand before; for a matched node the second is the end of its items. Both
        ``(new node,)``.
    """
    before, place = torch.zeros_like(match), torch.zeros_like(match)
    matched = match >= 0
    place[matched] = trie.last_item[match[matched]]
    for depth in range(1, new.depth + 1):
        nodes = ((new.depth_of_node == depth) & ~matched).nonzero().squeeze(1)
        parent = new.parent_of_node[nodes]
        old = match[parent].clamp_min(0)
        sibling = 1 + torch.searchsorted(
            trie.edge_keys, old * trie.num_tokens + new.token_of_node[nodes]
        )
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


def _first_child(parents: Tensor) -> Tensor:
    num_children = parents[1:].bincount(minlength=len(parents))
    return torch.cat([num_children.new_ones(1), 1 + num_children.cumsum(0)])


def _deepened(path_nodes: Tensor, depth: int) -> Tensor:
    """Paths up to ``depth``: a shorter one repeats its leaf."""
    missing = depth + 1 - path_nodes.shape[1]
    return torch.cat([path_nodes, path_nodes[:, -1:].expand(-1, missing)], dim=1)
