"""Rescoring of the steps of a search, and fusion: mixing in a second model's distribution."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from semid.config import Renormalize
from semid.prefixes import Prefixes
from semid.successors import Successors, successors
from semid.trie import CodeTrie


class Rescoring(Protocol):
    """Changes the scores of every step of a search: a ``Fusion``, or a ``PriorCorrection``."""

    def check(self, batch_size: int) -> None:
        """Raise ``ValueError`` if it belongs to another batch."""
        ...

    def mix(self, found: Successors, nodes: Tensor) -> Successors:
        """The successors of ``nodes`` ``(batch, beam)`` with other scores."""
        ...

    def extend(self, parent: Tensor, token: Tensor) -> Self:
        """The same after prefixes that are one token longer, as ``Prefixes.extend``."""
        ...


class Guide(Protocol):
    """A second model's distribution over the children of nodes, for each row of a batch.

    At every node its probabilities sum to one over the children, so an only child is certain and
    those along a path multiply to the path's. A guide is immutable: a search may extend it
    repeatedly.
    """

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        ...

    def log_probs(self, nodes: Tensor, children: Tensor) -> Tensor:
        """Log-probability of each child given its node.

        Args:
            nodes: int64 ``(batch, beam)``; -1 has no children.
            children: int64 ``(batch, beam, slot)``, node ids, in the order of the node's children;
                an arbitrary node in empty slots.

        Returns:
            Float ``(batch, beam, slot)``; ``-inf`` forbids a child; NaN and ``+inf`` are errors.
            Empty slots may hold any value.
        """
        ...

    def extend(self, parent: Tensor, token: Tensor) -> Self:
        """The guide after prefixes that are one token longer, as ``Prefixes.extend``.

        A guide that depends only on nodes returns itself.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """A guide and its weight in the score of every step.

    A child scores ``weight * log P(child) + (1 - weight) * log P_guide(child)``, D3's fusion
    (arXiv:2406.14900). Summed along a path, this is the same mixture of the path's two
    log-probabilities.

    Attributes:
        guide: The second model.
        weight: Weight of the searched model, in [0, 1]: at 1 the guide is never evaluated, at 0 it
            alone ranks what the model does not forbid.
        after: Changes the scores of the step first; None to mix the model's own.

    Raises:
        ValueError: If the weight lies outside [0, 1].
    """

    guide: Guide
    weight: float
    after: Rescoring | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {self.weight}")

    def check(self, batch_size: int) -> None:
        """Raise ``ValueError`` if the guide, or what comes first, belongs to another batch."""
        if self.after is not None:
            self.after.check(batch_size)
        if self.guide.batch_size != batch_size:
            raise ValueError(
                f"the guide must cover each of the {batch_size} rows, got {self.guide.batch_size}"
            )

    def mix(self, found: Successors, nodes: Tensor) -> Successors:
        """The successors of ``nodes`` ``(batch, beam)`` with fused scores.

        Raises:
            ValueError: If the guide returns the wrong shape.
        """
        if self.after is not None:
            found = self.after.mix(found, nodes)
        if self.weight == 1:
            return found
        second = self.guide.log_probs(nodes, found.nodes)
        if second.shape != found.nodes.shape:
            raise ValueError(
                f"the guide must return log-probabilities (batch, beam, slot) = "
                f"{tuple(found.nodes.shape)}, got {tuple(second.shape)}"
            )
        second = second.float().masked_fill(~found.valid, -torch.inf)
        broken = found.broken | (second.isnan() | (second == torch.inf)).any()
        if self.weight > 0:
            second = self.weight * found.log_probs + (1 - self.weight) * second
        forbidden = found.log_probs == -torch.inf  # whatever the weight; 0 times -inf is NaN
        mixed = second.masked_fill(forbidden, -torch.inf)
        return dataclasses.replace(found, log_probs=mixed, broken=broken)

    def extend(self, parent: Tensor, token: Tensor) -> Fusion:
        """The fusion after prefixes that are one token longer, as ``Prefixes.extend``."""
        after = None if self.after is None else self.after.extend(parent, token)
        guide = self.guide if self.weight == 1 else self.guide.extend(parent, token)
        return dataclasses.replace(self, guide=guide, after=after)


class PrefixGuide:
    """A second generator as a guide, over the same paths and tokens.

    Args:
        start: Its empty prefix after each history.
        trie: The paths of the catalogue, as in the search.
        renormalize: As in the search; with ``"none"`` its probabilities over the children sum to
            less than one.
    """

    def __init__(
        self, start: Prefixes, trie: CodeTrie, *, renormalize: Renormalize = "children"
    ) -> None:
        self._prefixes, self._trie, self._renormalize = start, trie, renormalize
        self._depth = 0

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self._prefixes.batch_size

    def log_probs(self, nodes: Tensor, children: Tensor) -> Tensor:
        """Log-probability of each child after its node."""
        found = successors(self._prefixes, self._trie, nodes, self._depth, self._renormalize)
        return found.log_probs.masked_fill(found.broken, torch.nan)

    def extend(self, parent: Tensor, token: Tensor) -> PrefixGuide:
        """Read one token more."""
        longer = PrefixGuide(
            self._prefixes.extend(parent, token), self._trie, renormalize=self._renormalize
        )
        longer._depth = self._depth + 1
        return longer
