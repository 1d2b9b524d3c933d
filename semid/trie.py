"""One trie over the token paths of a catalogue, as flat tensors.

The same object provides the valid-token mask in training, the item ranges over which teacher mass
is summed, the graph that beams walk, and the map from a path back to its items.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from semid.trie_building import trie_tensors
from semid.trie_file import read_trie, write_trie


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTrie:
    """Prefix tree over item paths, with breadth-first node numbers.

    Node 0 is the root. The nodes of a depth are numbered in path order, so the children of a node
    are contiguous and sorted by token, and the items below it are contiguous too. Several items may
    share a path (*duplicates*): each counts at the leaf.

    Ids are stored as int32 and cheaply derived tables are not stored: ten million items of four
    tokens take about 320 MB. Methods take and return int64; indexing a tensor gives int32, so widen
    it before multiplying.

    Attributes:
        first_child: int32 ``(node + 1,)``; the children of ``n`` are the nodes
            ``first_child[n]`` to ``first_child[n + 1] - 1``; a leaf has none.
        token_of_node: int32 ``(node,)``, token on the edge into the node; -1 for the root.
        item_order: int32 ``(item,)``, catalogue rows sorted by path, then by row.
        first_item: int32 ``(node,)``; the items below ``n`` are
            ``item_order[first_item[n]:last_item[n]]``.
        last_item: int32 ``(node,)``, exclusive end of the same range.
        level_start: int64 ``(depth + 2,)``; the nodes of depth ``d`` are ``level_start[d]`` to
            ``level_start[d + 1] - 1``.
        num_tokens: Vocabulary size; every token lies in ``[0, num_tokens)``.
    """

    first_child: Tensor
    token_of_node: Tensor
    item_order: Tensor
    first_item: Tensor
    last_item: Tensor
    level_start: Tensor
    num_tokens: int

    @classmethod
    def from_paths(cls, paths: Tensor, num_tokens: int) -> CodeTrie:
        """Build the trie of a catalogue; rows may be in any order.

        Args:
            paths: int64 ``(item, level)``, row ``r`` holding the tokens of catalogue row ``r``, in
                ``[0, num_tokens)``; shorter paths are padded with -1 on the right.
            num_tokens: Vocabulary size of the model that generates the paths.

        Raises:
            ValueError: If the table is empty, a token is out of range, a path is empty or has a
                gap, one path is a proper prefix of another, or the number of items, nodes or tokens
                exceeds int32.
        """
        return cls(num_tokens=num_tokens, **trie_tensors(paths, num_tokens))

    @property
    def num_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self.token_of_node)

    @property
    def num_items(self) -> int:
        """Number of catalogue rows, duplicates included."""
        return len(self.item_order)

    @property
    def depth(self) -> int:
        """Number of tokens of the longest path."""
        return len(self.level_start) - 2

    @cached_property
    def parent_of_node(self) -> Tensor:
        """int32 ``(node,)``; -1 for the root."""
        node = torch.arange(self.num_nodes, dtype=torch.int32, device=self.device)
        return torch.cat([self.token_of_node[:1], node.repeat_interleave(self.first_child.diff())])

    @cached_property
    def node_of_item(self) -> Tensor:
        """int32 ``(item,)``: the leaf of each catalogue row."""
        leaves = (self.first_child.diff() == 0).nonzero().squeeze(1).to(torch.int32)
        leaves = leaves[self.first_item[leaves].argsort()]  # from breadth-first to path order
        leaf_in_order = leaves.repeat_interleave(self.last_item[leaves] - self.first_item[leaves])
        return torch.empty_like(leaf_in_order).index_copy_(0, self.item_order.long(), leaf_in_order)

    @cached_property
    def place_of_item(self) -> Tensor:
        """int32 ``(item,)``: position of each catalogue row in ``item_order``."""
        place = torch.arange(self.num_items, dtype=torch.int32, device=self.device)
        return torch.empty_like(place).index_copy_(0, self.item_order.long(), place)

    @property
    def max_children(self) -> int:
        """Largest number of children of any node."""
        return max(self._widths)

    def width_of_depth(self, depth: int) -> int:
        """Largest number of children of a node at ``depth``, in ``[0, self.depth)``."""
        return self._widths[depth]

    def tokens_of_depth(self, depth: int) -> Tensor:
        """All tokens that can follow a prefix of ``depth`` tokens; int64 ``(token,)``, ascending.

        Args:
            depth: In ``[0, self.depth)``.
        """
        return self._tokens[depth].long()

    @cached_property
    def column_of_node(self) -> Tensor:
        """int32 ``(node,)``: index of a node's token in ``tokens_of_depth``; -1 for the root.

        The depth is the parent's: a node at depth ``d + 1`` has a column in ``tokens_of_depth(d)``.
        """
        levels = torch.split(self.token_of_node, self.level_start.diff().tolist())
        columns = [
            torch.searchsorted(known, token, out_int32=True)
            for known, token in zip(self._tokens, levels[1:], strict=True)
        ]
        return torch.cat([levels[0], *columns])

    @cached_property
    def has_one_leaf(self) -> Tensor:
        """Bool ``(node,)``: whether a node is a leaf or has a single leaf below it."""
        count = self.first_child.diff()
        one = count == 0
        for depth in reversed(range(self.depth)):
            nodes = self.nodes_of_depth(depth)
            single = nodes[count[nodes] == 1]
            one[single] = one[self.first_child[single]]
        return one

    def nodes_of_depth(self, depth: int) -> Tensor:
        """The nodes at ``depth``; int64 ``(node,)``, ascending."""
        return torch.arange(*self.level_start[depth : depth + 2].tolist(), device=self.device)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.item_order.device

    def num_children(self, nodes: Tensor) -> Tensor:
        """Number of children, int64 with the shape of ``nodes``; 0 for a leaf."""
        return (self.first_child[nodes + 1] - self.first_child[nodes]).long()

    def children(self, nodes: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
        """The child slots of each node.

        Args:
            nodes: int64, any shape.
            width: Number of slots; by default the largest number of children among ``nodes``.

        Returns:
            ``child``, int64 ``nodes.shape + (width,)``, node ids in token order, and ``valid``,
            bool of the same shape. Invalid slots hold an arbitrary node id, to be masked.

        Raises:
            ValueError: If a node has more children than ``width``.
        """
        start = self.first_child[nodes].long()
        count = self.first_child[nodes + 1] - start
        most = int(count.max()) if count.numel() else 0
        if width is None:
            width = most
        elif most > width:
            raise ValueError(f"a node has {most} children, which do not fit into {width} slots")
        slot = torch.arange(width, device=self.device)
        child = (start.unsqueeze(-1) + slot).clamp_max(self.num_nodes - 1)
        return child, slot < count.unsqueeze(-1)

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The child reached by a token; -1 if there is none.

        Args:
            nodes: int64, any shape.
            tokens: int64, the same shape.
        """
        parent = nodes.clamp_min(0)
        child = self.seek(parent, tokens)
        within = (nodes >= 0) & (child < self.first_child[parent + 1])
        known = within & (self.token_of_node[child.clamp_max(self.num_nodes - 1)] == tokens)
        return torch.where(known, child, -1)

    def seek(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The first child whose token is at least ``tokens``, or the end of the children.

        Args:
            nodes: int64, any shape.
            tokens: int64, the same shape; any integers.

        Returns:
            int64, the same shape.
        """
        parent, wanted = nodes.flatten(), tokens.flatten()
        low = self.first_child.index_select(0, parent).long()
        high = self.first_child.index_select(0, parent + 1).long()
        for _ in range(self.max_children.bit_length()):
            middle = (low + high) >> 1
            token = self.token_of_node.index_select(0, middle.clamp_max(self.num_nodes - 1))
            beyond = (token < wanted) & (middle < high)
            low = torch.where(beyond, middle + 1, low)
            high = torch.where(beyond, high, middle)
        return low.view(nodes.shape)

    def walk(self, tokens: Tensor) -> Tensor:
        """The node of each prefix.

        Args:
            tokens: int64 ``(..., pos)``; an empty prefix leads to the root.

        Returns:
            int64 ``(...)``; -1 if the prefix is not in the trie.
        """
        nodes = tokens.new_zeros(tokens.shape[:-1])
        for token in tokens.unbind(-1):
            nodes = self.step(nodes, token)
        return nodes

    def path(self, items: Tensor) -> Tensor:
        """The nodes along the path of each item, root first; a shorter path repeats its leaf.

        Args:
            items: Catalogue rows, any shape.

        Returns:
            int64 ``items.shape + (depth + 1,)``.
        """
        nodes = [self.node_of_item[items].long()]
        for level in range(self.depth, 0, -1):
            node = nodes[-1]
            nodes.append(
                torch.where(node < self.level_start[level], node, self.parent_of_node[node])
            )
        return torch.stack(nodes[::-1], dim=-1)

    def items_below(self, node: int) -> Tensor:
        """Catalogue rows whose path runs through ``node``, in path order; int64 ``(item,)``."""
        return self.item_order[int(self.first_item[node]) : int(self.last_item[node])].long()

    def items_below_each(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Catalogue rows whose paths run through each of several nodes, grouped by node.

        Args:
            nodes: int64, any shape; -1 has no items.

        Returns:
            For each slot, an index into the flattened ``nodes`` and an item; both int64
            ``(slot,)``.
        """
        nodes = nodes.flatten()
        start = self.first_item[nodes]
        owner, place = ranges(start, torch.where(nodes < 0, start, self.last_item[nodes]))
        return owner, self.item_order[place].long()

    def depth_of(self, nodes: Tensor) -> Tensor:
        """Depth of each node; int64 with the shape of ``nodes``."""
        return torch.searchsorted(self.level_start, nodes, right=True) - 1

    def first_leaf(self, nodes: Tensor) -> Tensor:
        """The first leaf below each node, or the node if it is a leaf; int64 like ``nodes``."""
        for _ in range(self.depth):
            child = self.first_child[nodes].long()
            nodes = torch.where(child < self.first_child[nodes + 1], child, nodes)
        return nodes

    def to(self, device: torch.device | str) -> CodeTrie:
        """The same trie with its tensors on ``device``."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return CodeTrie(num_tokens=self.num_tokens, **moved)

    def save(self, path: str | Path) -> None:
        """Write the trie to one safetensors file, with a hash of its content."""
        write_trie(path, self._tensors(), self.num_tokens)

    @classmethod
    def load(cls, path: str | Path) -> CodeTrie:
        """Memory-map what ``save`` wrote, reading it once to check its hash.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is not a trie or has changed since it was saved.
        """
        tensors, num_tokens = read_trie(path)
        return cls(num_tokens=num_tokens, **tensors)

    @cached_property
    def _tokens(self) -> list[Tensor]:
        levels = torch.split(self.token_of_node, self.level_start.diff().tolist())
        return [torch.unique(token) for token in levels[1:]]

    @cached_property
    def _widths(self) -> list[int]:
        levels = torch.split(self.first_child.diff(), self.level_start.diff().tolist())
        return [int(count.max()) for count in levels[:-1]]

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def ranges(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The integers of several ranges, concatenated.

    Args:
        start: Integers ``(range,)``.
        end: Integers ``(range,)``, exclusive, not below ``start``.

    Returns:
        For each integer, the index of its range and the integer; both int64 ``(slot,)``.
    """
    length = (end - start).long()
    which = torch.repeat_interleave(length)
    offset = start - length.cumsum(0) + length
    return which, torch.arange(len(which), device=start.device) + offset.index_select(0, which)
