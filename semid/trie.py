"""One trie over the token paths of a catalogue, as flat tensors.

The same object is the valid-token mask of training, the ranges over which teacher mass is summed,
the graph that beams walk, and the way back from a path to items.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from semid.provenance import atomic_write

_PAD = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTrie:
    """Prefix tree over item paths, with nodes numbered breadth-first.

    Node 0 is the root; the nodes of one depth follow each other in path order, so the children of
    a node are contiguous and sorted by token, and so are the items below it. Several items may
    share a path (*twins*): each counts at the leaf.

    Attributes:
        first_child: int64 ``(node + 1,)``; the children of ``n`` are the nodes
            ``first_child[n]`` to ``first_child[n + 1] - 1``; a leaf has none.
        token_of_node: int64 ``(node,)``, the token that leads to the node; -1 for the root.
        parent_of_node: int64 ``(node,)``; -1 for the root.
        depth_of_node: int64 ``(node,)``; 0 for the root.
        item_order: int64 ``(item,)``, catalogue rows sorted by path, twins by row.
        first_item: int64 ``(node,)``; the items below ``n`` are
            ``item_order[first_item[n]:last_item[n]]``.
        last_item: int64 ``(node,)``, exclusive end of the same range.
        path_nodes: int64 ``(item, depth + 1)``, the nodes along each catalogue row's path, root
            first; a path shorter than the deepest repeats its leaf.
        num_tokens: Size of the token axis; every token lies in ``[0, num_tokens)``.
    """

    first_child: Tensor
    token_of_node: Tensor
    parent_of_node: Tensor
    depth_of_node: Tensor
    item_order: Tensor
    first_item: Tensor
    last_item: Tensor
    path_nodes: Tensor
    num_tokens: int

    @classmethod
    def from_paths(cls, paths: Tensor, num_tokens: int) -> CodeTrie:
        """Build the trie of a catalogue; rows may come in any order.

        Args:
            paths: int64 ``(item, level)``, row ``r`` the tokens of catalogue row ``r`` in
                ``[0, num_tokens)``; shorter paths are filled with -1 on the right.
            num_tokens: Size of the token axis of the model that writes the paths.

        Raises:
            ValueError: If the table is empty, a token is out of range, a path is empty or has a
                hole, or one path is a proper prefix of another.
        """
        _check_paths(paths, num_tokens)
        paths = paths[:, (paths != _PAD).any(dim=0)]  # a column that no path reaches is no depth
        num_items, depth = paths.shape
        item_order = torch.arange(num_items, device=paths.device)
        for level in reversed(range(depth)):
            item_order = item_order[paths[item_order, level].argsort(stable=True)]
        rows = paths[item_order]
        same = (rows[1:] == rows[:-1]).cumprod(dim=1).bool()  # (item - 1, level): equal up to here
        _check_no_prefix(rows, same, item_order)

        nodes = rows.new_zeros(num_items, depth + 1)
        tokens, parents, depths = [rows.new_tensor([_PAD])], [rows.new_tensor([_PAD])], [0]
        starts, counts = [rows.new_tensor([0])], [rows.new_tensor([num_items])]
        base = 1
        for level in range(depth):
            present = rows[:, level] != _PAD
            is_new = present.clone()
            is_new[1:] &= ~same[:, level]
            rank = is_new.cumsum(0) - 1
            nodes[:, level + 1] = torch.where(present, base + rank, nodes[:, level])
            tokens.append(rows[is_new, level])
            parents.append(nodes[is_new, level])
            starts.append(is_new.nonzero().squeeze(1))
            counts.append(rank[present].bincount(minlength=int(is_new.sum())))
            depths.append(int(is_new.sum()))
            base += depths[-1]
        depths[0] = 1

        parent_of_node = torch.cat(parents)
        num_children = parent_of_node[1:].bincount(minlength=base)
        first_item = torch.cat(starts)
        return cls(
            first_child=torch.cat([num_children.new_ones(1), 1 + num_children.cumsum(0)]),
            token_of_node=torch.cat(tokens),
            parent_of_node=parent_of_node,
            depth_of_node=torch.arange(depth + 1, device=paths.device).repeat_interleave(
                torch.tensor(depths, device=paths.device)
            ),
            item_order=item_order,
            first_item=first_item,
            last_item=first_item + torch.cat(counts),
            path_nodes=torch.empty_like(nodes).index_copy_(0, item_order, nodes),
            num_tokens=num_tokens,
        )

    @property
    def num_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self.token_of_node)

    @property
    def num_items(self) -> int:
        """Number of catalogue rows, twins counted."""
        return len(self.item_order)

    @property
    def depth(self) -> int:
        """Number of tokens of the longest path."""
        return self.path_nodes.shape[1] - 1

    @property
    def node_of_item(self) -> Tensor:
        """int64 ``(item,)``: the leaf of each catalogue row."""
        return self.path_nodes[:, -1]

    @cached_property
    def max_children(self) -> int:
        """Largest number of children of any node."""
        return int(self.first_child.diff().max())

    @cached_property
    def place_of_item(self) -> Tensor:
        """int64 ``(item,)``: where each catalogue row stands in ``item_order``."""
        place = torch.arange(self.num_items, device=self.device)
        return torch.empty_like(place).index_copy_(0, self.item_order, place)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.item_order.device

    def num_children(self, nodes: Tensor) -> Tensor:
        """Number of children, int64 in the shape of ``nodes``; 0 for a leaf."""
        return self.first_child[nodes + 1] - self.first_child[nodes]

    def children(self, nodes: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
        """The child slots of each node.

        Args:
            nodes: int64, any shape.
            width: Number of slots; by default the largest number of children among ``nodes``.

        Returns:
            ``child``, int64 ``nodes.shape + (width,)``, node ids in token order, and ``valid``,
            bool of the same shape. A slot that is not valid holds some node id, to be masked.

        Raises:
            ValueError: If a node has more children than ``width``.
        """
        start = self.first_child[nodes]
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
        """The child that a token leads to; -1 where there is none.

        Args:
            nodes: int64, any shape.
            tokens: int64, the same shape.
        """
        edges = self.edge_keys
        wanted = nodes * self.num_tokens + tokens
        found = torch.searchsorted(edges, wanted).clamp_max(len(edges) - 1)
        known = (edges[found] == wanted) & (nodes >= 0) & (tokens >= 0) & (tokens < self.num_tokens)
        return torch.where(known, found + 1, _PAD)

    @cached_property
    def edge_keys(self) -> Tensor:
        """int64 ``(node - 1,)``, rising: parent and token of every node but the root."""
        return self.parent_of_node[1:] * self.num_tokens + self.token_of_node[1:]

    def walk(self, tokens: Tensor) -> Tensor:
        """The node that each prefix leads to.

        Args:
            tokens: int64 ``(..., pos)``; no position at all leads to the root.

        Returns:
            int64 ``(...)``; -1 where the prefix is not in the trie.
        """
        nodes = tokens.new_zeros(tokens.shape[:-1])
        for token in tokens.unbind(-1):
            nodes = self.step(nodes, token)
        return nodes

    def items_below(self, node: int) -> Tensor:
        """Catalogue rows whose path runs through ``node``, in path order; int64 ``(item,)``."""
        return self.item_order[int(self.first_item[node]) : int(self.last_item[node])]

    def to(self, device: torch.device | str) -> CodeTrie:
        """The same trie with its tensors on ``device``."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return CodeTrie(num_tokens=self.num_tokens, **moved)

    def save(self, path: str | Path) -> None:
        """Write the trie to one safetensors file."""
        from safetensors.torch import save

        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors().items()}
        atomic_write(path, save(tensors, metadata={"num_tokens": str(self.num_tokens)}))

    @classmethod
    def load(cls, path: str | Path) -> CodeTrie:
        """Read what ``save`` wrote."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            num_tokens = int(file.metadata()["num_tokens"])
        return cls(num_tokens=num_tokens, **tensors)

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _check_paths(paths: Tensor, num_tokens: int) -> None:
    if paths.dim() != 2 or 0 in paths.shape or paths.dtype != torch.int64:
        raise ValueError(
            f"paths must be int64 (item, level) and not empty, got {paths.dtype} "
            f"{tuple(paths.shape)}"
        )
    present = paths != _PAD
    outside = present & ((paths < 0) | (paths >= num_tokens))
    if outside.any():
        item, level = outside.nonzero()[0].tolist()
        raise ValueError(
            f"tokens must lie in [0, {num_tokens}), got {int(paths[item, level])} at level {level} "
            f"of item {item}. Was the table made with another vocabulary?"
        )
    broken = ~present[:, 0] | (~present[:, :-1] & present[:, 1:]).any(dim=1)
    if broken.any():
        item = int(broken.nonzero()[0])
        raise ValueError(
            f"item {item} has an empty path or a hole in it: {paths[item].tolist()}. "
            "Fill shorter paths with -1 on the right only."
        )


def _check_no_prefix(rows: Tensor, same: Tensor, item_order: Tensor) -> None:
    ended = rows[:-1] == _PAD  # -1 sorts first, so a prefix stands directly before its extensions
    equal_before = torch.cat([torch.ones_like(same[:, :1]), same[:, :-1]], dim=1)
    prefix = (equal_before & ended & (rows[1:] != _PAD)).any(dim=1)
    if prefix.any():
        index = int(prefix.nonzero()[0])
        short, long = item_order[index : index + 2].tolist()
        raise ValueError(
            f"the path of item {short} is a prefix of the path of item {long}, so no decoder could "
            "end it. Append an end token to every path."
        )
