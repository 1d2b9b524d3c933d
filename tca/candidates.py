"""Candidate next tokens along the paths of a batch of targets, looked up in the trie."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from semid.trie import CodeTrie


@dataclass(frozen=True, kw_only=True, eq=False)
class Positions:
    """A subset of the positions on the paths of a batch of targets, grouped by depth.

    Attributes:
        target: int64 ``(position,)``, index into the batch.
        pos: int64 ``(position,)``, ascending: number of preceding tokens.
        real: bool ``(position,)``; false for padding. Each depth is padded to a multiple of some
            number so that shapes repeat: on CPU a new shape doubles the cost of a matrix product.
        count: int64 ``()``, number of positions that the loss averages over, including those
            omitted here because their loss is zero.
    """

    target: Tensor
    pos: Tensor
    real: Tensor
    count: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Candidate next tokens for a batch of target items, at all positions or a subset.

    The first axes are ``(target, pos)``, or ``(position,)`` in the order of ``Positions``. A
    position is *forced* if its prefix has a single child, and *branching* if it has more.

    Attributes:
        trie: The paths of the catalogue.
        child: int64 ``(target, pos, child)``, the child nodes of each prefix of the target's path;
            an arbitrary node where not valid.
        tokens: int64 ``(target, pos, child)``, their tokens; 0 where not valid.
        valid: bool ``(target, pos, child)``.
        num_children: int64 ``(target, pos)``; 0 beyond the end of a shorter path.
        target_slot: int64 ``(target, pos)``, the slot of the target's next token.
        pos: int64 ``(target, pos)``, number of preceding tokens.
        supervised: bool ``(target, pos)``; false beyond the end of a shorter path.
        left: int64 ``(target, pos)``, number of tokens from here to the path's end; 0 or less
            beyond it.
        on_paths: int64 ``(target, depth)``, ``num_children`` along the whole paths, regardless of
            the positions kept; 0 where unsupervised.
    """

    trie: CodeTrie
    child: Tensor
    tokens: Tensor
    valid: Tensor
    num_children: Tensor
    target_slot: Tensor
    pos: Tensor
    supervised: Tensor
    left: Tensor
    on_paths: Tensor

    @property
    def count(self) -> Tensor:
        """int64 ``()``: number of supervised positions of the whole paths."""
        return (self.on_paths > 0).sum()

    @property
    def num_branching(self) -> Tensor:
        """int64 ``()``: number of those that are branching."""
        return (self.on_paths > 1).sum()

    @property
    def branching(self) -> Tensor:
        """Bool ``(target, pos)``: supervised, with more than one possible next token."""
        return self.supervised & (self.num_children > 1)

    def without_last(self, num: int) -> Candidates:
        """A copy in which the last ``num`` positions of each path are not supervised."""
        supervised = self.supervised & (self.left > num)
        return dataclasses.replace(
            self, supervised=supervised, on_paths=without_last(self.on_paths, num)
        )

    def items_below(self) -> Tensor:
        """int64 ``(target, pos, child)``: number of items below each candidate; 0 if none."""
        below = self.trie.last_item[self.child] - self.trie.first_item[self.child]
        return below.long() * self.valid


def candidates(trie: CodeTrie, target_items: Tensor, at: Positions | None = None) -> Candidates:
    """Look up the candidates along the path of each target.

    Args:
        trie: The paths of the catalogue.
        target_items: int64 ``(target,)``, catalogue rows, on the trie's device.
        at: Positions to look up; all by default.

    Returns:
        The candidates, with a ``child`` axis of up to ``trie.max_children``, in the slot order of
        ``CollaborativeTokenizer``.
    """
    nodes = trie.path(target_items)
    prefix, following = nodes[:, :-1], nodes[:, 1:]
    num_children = on_paths = trie.num_children(prefix)
    left = _left(on_paths)
    if at is None:
        pos = prefix.new_tensor(range(trie.depth)).expand_as(prefix)
        supervised = num_children > 0
    else:
        prefix, following = prefix[at.target, at.pos], following[at.target, at.pos]
        num_children, left = num_children[at.target, at.pos], left[at.target, at.pos]
        pos, supervised = at.pos, at.real
    child, valid = trie.children(prefix, trie.max_children)
    return Candidates(
        trie=trie,
        child=child,
        tokens=trie.token_of_node[child].long().masked_fill_(~valid, 0),
        valid=valid,
        num_children=num_children,
        target_slot=(following - trie.first_child[prefix]).masked_fill_(~supervised, 0),
        pos=pos,
        supervised=supervised,
        left=left,
        on_paths=on_paths,
    )


def without_last(on_paths: Tensor, num: int) -> Tensor:
    """``Candidates.on_paths`` with 0 at the last ``num`` positions of each path."""
    return on_paths.masked_fill(_left(on_paths) <= num, 0)


def _left(on_paths: Tensor) -> Tensor:
    lengths = (on_paths > 0).sum(dim=1, keepdim=True)
    return lengths - torch.arange(on_paths.shape[1], device=on_paths.device)
