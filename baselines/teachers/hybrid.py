"""A collaborative teacher and the items' content as one: the less was seen, the more content."""

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
    """Log-probabilities: a collaborative teacher, discounted, and content in place of the rest.

    Of an item with ``n`` training events, the collaborative teacher's probability is trusted by
    ``w = n / (n + half_items)``; of a history with ``m`` items that occur in training, all of them
    by ``v = m / (m + half_history)``. What is not trusted goes to content::

        p(i) = v w_i p_cf(i) + (1 - sum_j v w_j p_cf(j)) p_content(i)

    as language models discount what they have counted and back off to a wider distribution;
    ``n / (n + half)`` is the share of the counts in the mean of a Dirichlet posterior whose prior
    weighs ``half`` events (Zhai and Lafferty, SIGIR 2001, section 3). It sums to one, no item has
    probability zero, and an item that was never seen has its probability from content alone. Such
    items are no part of the teacher's softmax, nor of the histories that it gets: their embeddings
    are little but random starts.

    ``p_content`` is the softmax of cosines between an item's vector and the mean of the history's,
    all of length 1; the ``a``-th from the end weighs ``decay ** a``. An item of the history is held
    against the others only: it would be nearest to itself. A vector of zeros is like none.

    Args:
        config: How to blend.
        cf: The collaborative teacher, trained.
        vectors: Content; float ``(item, dim)``, finite.
        train: Its items are counted.
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
        """The history without items of no training event; of nothing but such, the last of them.

        That one is not trusted at all, but a model wants a history.
        """
        known = past.mask & (self.counts[past.items] > 0)
        order = known.to(torch.uint8).argsort(dim=1, stable=True)
        known = known.gather(1, order)
        known[:, -1] = True
        return dataclasses.replace(past, items=past.items.gather(1, order), mask=known)

    def _cosines(self, past: Histories) -> Tensor:
        """Of all items with the history's mean; float32 ``(batch, item)``."""
        age = torch.arange(past.items.shape[1] - 1, -1, -1, device=past.items.device)
        weight = self.config.decay ** age.float() * past.mask
        own = self.vectors[past.items]
        weighted = own * weight.unsqueeze(-1)
        cosines = F.normalize(weighted.sum(dim=1), dim=1) @ self.vectors.T
        others = (past.items[:, :, None] != past.items[:, None, :]).float() @ weighted
        row, pos = past.mask.nonzero().unbind(1)
        of_others = (F.normalize(others[row, pos], dim=1) * own[row, pos]).sum(dim=1)
        return cosines.index_put_((row, past.items[row, pos]), of_others)


def trust(counts: Tensor, half: float) -> Tensor:
    """``n / (n + half)``, and 0 of nothing; float64, for it comes close to 1."""
    n = counts.double()
    return torch.where(n > 0, n / (n + half), 0.0)


def blend(log_cf: Tensor, log_content: Tensor, of_item: Tensor, of_history: Tensor) -> Tensor:
    """Discount one distribution and let another have what is left; see ``Hybrid``.

    Args:
        log_cf: Log-probabilities, float32 ``(batch, item)``; ``-inf`` for none.
        log_content: Likewise, all above ``-inf``.
        of_item: Trust in each item's probability, float64 ``(item,)`` in [0, 1]. At least a
            float's last digit is left.
        of_history: Trust in each row, float64 ``(batch, 1)`` in [0, 1].

    Returns:
        float32 ``(batch, item)``, log-probabilities above ``-inf``.
    """
    doubt = (1 - of_item).clamp_min(torch.finfo(torch.float64).eps)
    left = (log_cf.exp() @ doubt.float()).unsqueeze(1)
    passed_on = 1 - of_history + of_history * left
    trusted = log_cf + of_item.log().float() + of_history.log().float()
    return torch.logaddexp(trusted, log_content + passed_on.log().float())
