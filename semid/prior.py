"""The prior of the training data over paths, divided out of the scores of a search."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from torch import Tensor

from semid.fusion import Rescoring
from semid.successors import Successors
from semid.trie import CodeTrie


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorCorrection:
    """Subtracts ``strength * log share`` of every item's path from its score.

    A generator has learned how frequent each prefix is in training, and so never reaches items that
    are not. A child scores ``log P(child) - strength * log share(child)``, where its share is the
    mass of the items below it relative to those below its parent; along a path these shares
    multiply to the path's share of all items. The results are scores, not log-probabilities.

    Attributes:
        correction: float32 ``(node,)``, ``strength * log share(node)``; 0 for the root.
        after: Changes the scores of the step first; None to correct the model's own.
    """

    correction: Tensor
    after: Rescoring | None = None

    @classmethod
    def from_counts(cls, trie: CodeTrie, counts: Tensor, *, strength: float) -> PriorCorrection:
        """The correction for training counts, with add-one smoothing.

        The share of a path is ``(count + 1) / (total + number of items)``, summed over its items.

        Args:
            trie: The paths of the catalogue.
            counts: int64 ``(item,)``, training events of each catalogue row.
            strength: At least 0: 0 changes nothing, 1 divides by the whole share.

        Raises:
            ValueError: If the counts are of another catalogue or negative, or the strength is out
                of range.
        """
        if counts.shape != (trie.num_items,):
            raise ValueError(
                f"counts must be one number for each of the {trie.num_items} items of the trie, "
                f"got {tuple(counts.shape)}. Were they counted in another catalogue?"
            )
        if bool((counts < 0).any()):
            raise ValueError(f"counts must be at least 0, got {int(counts.min())}")
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"strength must be finite and at least 0, got {strength}")
        ordered = counts.to(trie.device)[trie.item_order] + 1
        up_to = ordered.new_zeros(trie.num_items + 1)
        up_to[1:] = ordered.cumsum(0)
        log_mass = (up_to[trie.last_item] - up_to[trie.first_item]).double().log()
        log_share = log_mass - log_mass[trie.parent_of_node.clamp_min(0)]
        return cls(correction=(strength * log_share).float())

    def check(self, batch_size: int) -> None:
        """Raise ``ValueError`` if what changes the scores first belongs to another batch."""
        if self.after is not None:
            self.after.check(batch_size)

    def mix(self, found: Successors, nodes: Tensor) -> Successors:
        """The successors of ``nodes`` ``(batch, beam)`` with corrected scores."""
        if self.after is not None:
            found = self.after.mix(found, nodes)
        return dataclasses.replace(found, log_probs=found.log_probs - self.correction[found.nodes])

    def extend(self, parent: Tensor, token: Tensor) -> PriorCorrection:
        """The same after prefixes that are one token longer, as ``Prefixes.extend``."""
        if self.after is None:
            return self
        return dataclasses.replace(self, after=self.after.extend(parent, token))
