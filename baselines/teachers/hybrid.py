"""A collaborative teacher that backs off to item content where interactions are few."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.teachers.config import HybridConfig
from baselines.teachers.model import TeacherModel


class Hybrid(TeacherModel):
    """A discounted collaborative teacher; the remaining probability goes to content.

    The collaborative probability of an item with ``n`` training events is discounted by
    ``w = n / (n + half_items)``; for a history with ``m`` items that occur in training, all
    probabilities are also discounted by ``v = m / (m + half_history)``. The rest goes to content::

        p(i) = v w_i p_cf(i) + (1 - sum_j v w_j p_cf(j)) p_content(i)

    as language models discount counts and back off to a wider distribution; ``n / (n + half)`` is
    the weight of the counts in the mean of a Dirichlet posterior whose prior has the weight of
    ``half`` events (Zhai and Lafferty, SIGIR 2001, section 3). The result sums to one, no item has
    probability zero, and an item without training events gets its probability from content alone.
    Such items are excluded from the teacher's softmax and from its histories, since their
    embeddings are hardly more than random initialisation.

    ``p_content`` is the softmax of cosines between an item's vector and the mean of the history's
    unit vectors, where the ``a``-th item from the end has weight ``decay ** a``. An item of the
    history is compared with the other items only, since it would be nearest to itself. A zero
    vector has cosine 0 with everything.

    Args:
        config: Settings of the blend.
        cf: The trained collaborative teacher.
        vectors: Content vectors; float ``(item, dim)``, finite.
        train: Training sequences, in which items are counted.
    """

    def __init__(
        self, config: HybridConfig, cf: TeacherModel, vectors: Tensor, train: SequenceSet
    ) -> None:
        super().__init__()
        self.config, self.cf = config, cf
        self.label = f"{cf.label} + content"
        self.needs_interactions = cf.needs_interactions
        self.max_history = max(cf.max_history, config.max_history)
        counts = torch.bincount(torch.from_numpy(train.items), minlength=len(vectors))
        self.counts = nn.Parameter(counts, requires_grad=False)
        unit = F.normalize(vectors.float(), dim=1)
        self.vectors = nn.Parameter(unit, requires_grad=False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Log-probabilities of all items; float32 ``(batch, item)``."""
        past, config = histories.last(self.max_history).to(self.vectors.device), self.config
        counted = past.last(config.max_history)
        known = (counted.mask & (self.counts[counted.items] > 0)).sum(dim=1, keepdim=True)
        scores = self.cf.score(self._known_alone(past)) / config.cf_temperature
        log_cf = scores.masked_fill(self.counts == 0, -torch.inf).log_softmax(dim=1)
        log_content = self._cosines(counted).div_(config.content_temperature).log_softmax(dim=1)
        return blend(
            log_cf,
            log_content,
            trust(self.counts, config.half_items),
            trust(known, config.half_history),
        )

    def _known_alone(self, past: Histories) -> Histories:
        """Drop history items without training events; if no item is left, keep the last.

        The model needs a history; its scores are then discounted to zero weight.
        """
        known = past.mask & (self.counts[past.items] > 0)
        order = known.to(torch.uint8).argsort(dim=1, stable=True)
        known = known.gather(1, order)
        known[:, -1] = True
        return dataclasses.replace(past, items=past.items.gather(1, order), mask=known)

    def _cosines(self, past: Histories) -> Tensor:
        """Cosines of all items with the history's mean; float32 ``(batch, item)``."""
        weight = past.recency(self.config.decay)
        own = self.vectors[past.items]
        weighted = own * weight.unsqueeze(-1)
        cosines = F.normalize(weighted.sum(dim=1), dim=1) @ self.vectors.T
        others = (past.items[:, :, None] != past.items[:, None, :]).float() @ weighted
        row, pos = past.mask.nonzero().unbind(1)
        of_others = (F.normalize(others[row, pos], dim=1) * own[row, pos]).sum(dim=1)
        return cosines.index_put_((row, past.items[row, pos]), of_others)


def trust(counts: Tensor, half: float) -> Tensor:
    """``n / (n + half)``, and 0 for ``n = 0``; float64, since it comes close to 1."""
    n = counts.double()
    return torch.where(n > 0, n / (n + half), 0.0)


def blend(log_cf: Tensor, log_content: Tensor, of_item: Tensor, of_history: Tensor) -> Tensor:
    """Discount one distribution and give the rest to another; see ``Hybrid``.

    Args:
        log_cf: Log-probabilities, float32 ``(batch, item)``; may be ``-inf``.
        log_content: Likewise, but above ``-inf``.
        of_item: Discount of each item's probability, float64 ``(item,)`` in [0, 1]. At least one
            machine epsilon remains for content.
        of_history: Discount of each row, float64 ``(batch, 1)`` in [0, 1].

    Returns:
        float32 ``(batch, item)``, log-probabilities above ``-inf``.
    """
    doubt = (1 - of_item).clamp_min(torch.finfo(torch.float64).eps)
    left = (log_cf.exp() @ doubt.float()).unsqueeze(1)
    passed_on = 1 - of_history + of_history * left
    trusted = log_cf + of_item.log().float() + of_history.log().float()
    return torch.logaddexp(trusted, log_content + passed_on.log().float())
