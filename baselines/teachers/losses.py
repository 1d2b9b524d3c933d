"""Training losses of teachers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def catalogue_cross_entropy(
    states: Tensor, item_vectors: Tensor, targets: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Mean softmax cross-entropy over the whole catalogue.

    Args:
        states: float ``(target, dim)``.
        item_vectors: float ``(item, dim)``.
        targets: int64 ``(target,)``, catalogue rows.
        bias: float ``(item,)``, added to the scores.

    Returns:
        Scalar float32.
    """
    scores = (states @ item_vectors.to(states.dtype).T).float()
    return F.cross_entropy(scores if bias is None else scores + bias, targets)


def sampled_cross_entropy(
    states: Tensor, item_vectors: Tensor, targets: Tensor, sampled: Tensor
) -> Tensor:
    """Mean softmax cross-entropy against a sample of the catalogue, corrected for the sampling.

    A sampled item's score is corrected by ``-log Q``, its probability to be in the sample (Yi et
    al., RecSys 2019, doi:10.1145/3298689.3346996, section 3; there for in-batch items, here for a
    uniform sample without replacement, so ``Q = sampled / item``). A target counts once, with
    probability 1. The softmax's denominator is thus, in expectation, that of the whole catalogue;
    with all items sampled, this is ``catalogue_cross_entropy``.

    Args:
        states: float ``(target, dim)``.
        item_vectors: float ``(item, dim)``; only rows of targets and sampled items are read.
        targets: int64 ``(target,)``, catalogue rows.
        sampled: int64 ``(sample,)``, catalogue rows, each at most once, the same for all targets.

    Returns:
        Scalar float32.
    """
    log_q = math.log(len(sampled) / len(item_vectors))
    positive = (states * F.embedding(targets, item_vectors).to(states.dtype)).sum(dim=1).float()
    others = (states @ F.embedding(sampled, item_vectors).to(states.dtype).T).float() - log_q
    others = others.masked_fill(sampled == targets[:, None], -math.inf)
    return (torch.logaddexp(positive, others.logsumexp(dim=1)) - positive).mean()


def binary_loss(positive: Tensor, negative: Tensor, *, beta: float = 1.0) -> Tensor:
    """Binary cross-entropy with sampled negatives and a generalised sigmoid for positives.

    The mean over targets of ``-(log sigmoid(s+)^beta + sum log(1 - sigmoid(s-)))`` (gSASRec,
    arXiv:2308.07192, equation 11, without its factor 1 / (negatives + 1), which does not change
    the optimum). ``beta = 1`` is plain binary cross-entropy.

    Args:
        positive: float32 ``(target,)``, scores of the targets.
        negative: float32 ``(target, negative)``.
        beta: Exponent of the positive's probability, in (0, 1].

    Returns:
        Scalar float32.
    """
    return -(beta * F.logsigmoid(positive) + F.logsigmoid(-negative).sum(dim=1)).mean()


def gbce_beta(*, num_negatives: int, num_items: int, t: float) -> float:
    """The exponent of gBCE: ``a (t (1 - 1/a) + 1/a)``, ``a = num_negatives / (num_items - 1)``.

    gSASRec, arXiv:2308.07192, equations 10 and 16. ``t = 0`` gives 1, plain binary
    cross-entropy, whose scores are overconfident through sampling; ``t = 1`` gives ``a``, which
    calibrates them.

    Raises:
        ValueError: If ``t`` is not in [0, 1], or ``a`` is not in (0, 1].
    """
    share = num_negatives / (num_items - 1)
    if not (0 <= t <= 1 and 0 < share <= 1):
        raise ValueError(
            f"gbce needs t in [0, 1] and 1 to {num_items - 1} negatives for {num_items} items, "
            f"got t {t} and {num_negatives} negatives"
        )
    return share * (t * (1 - 1 / share) + 1 / share)


def draw_outside(windows: Tensor, num_items: int, num_negatives: int) -> Tensor:
    """Items drawn uniformly from outside each window, with replacement.

    Args:
        windows: int64 ``(target, pos)``, the window of each target, padded with -1.
        num_items: Size of the catalogue, larger than any window.
        num_negatives: Items to draw for each target.

    Returns:
        int64 ``(target, negative)``.
    """
    shape = (len(windows), num_negatives)
    negatives = torch.randint(num_items, shape, device=windows.device)
    while (clash := _in_window(negatives, windows)).any():
        fresh = torch.randint(num_items, shape, device=windows.device)
        negatives = torch.where(clash, fresh, negatives)
    return negatives


def require_outside(num_items: int, window: int) -> None:
    """Raise if a window of this length could contain the whole catalogue.

    Raises:
        ValueError: If ``num_items <= window``.
    """
    if num_items <= window:
        raise ValueError(
            f"negatives are drawn from outside a window of {window} items, so the catalogue must "
            f"hold more, got {num_items}. Lower --backbones.lm.max_history."
        )


def _in_window(items: Tensor, windows: Tensor) -> Tensor:
    """Whether each item is in its row's window; position by position to save memory."""
    found = torch.zeros_like(items, dtype=torch.bool)
    for column in windows.unbind(dim=1):
        found |= items == column[:, None]
    return found
