"""The equations of TCA4Rec (arXiv:2601.18457) on plain tensors.

Everything is laid out along the *child* axis: at each position of a target's token path, one slot
per token that may follow its prefix; invalid slots are padding. All functions compute in float32
and in log space, on the device of their inputs, without loops over targets or items.

Positions that are not ``supervised`` (beyond the end of a shorter path) add nothing to a loss,
which is the mean over the supervised positions, or zero if there are none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOWEST = torch.finfo(torch.float32).min
_TINY = torch.finfo(torch.float32).tiny
_STEEPEST = 40.0  # log of the steepest slope in a label, so that gradient norms stay finite


def token_distribution(
    item_scores: Tensor, slot_of_item: Tensor, num_slots: int, *, temperature: float = 1.0
) -> Tensor:
    """The teacher's next-token distribution where every item is a candidate, as at the root.

    ``p(v) = sum_{i: slot(i) = v} softmax(item_scores / temperature)(i)``: TCA4Rec's Collaborative
    Tokenizer, the item distribution summed by next token. Items that share a path each add their
    own mass.

    Args:
        item_scores: Float ``(batch, item)``; ``-inf`` excludes an item.
        slot_of_item: int64 ``(item,)`` in ``[0, num_slots)``, the child that leads to each item.
        num_slots: Number of child slots.
        temperature: Above 0.

    Returns:
        float32 ``(batch, child)``; rows sum to one. NaN where a row has no finite score.
    """
    item_p = _tempered(item_scores, temperature).softmax(dim=-1)
    mass = item_p.new_zeros(len(item_p), num_slots)
    mass.scatter_add_(1, slot_of_item.expand_as(item_p), item_p)
    return mass / mass.sum(
        dim=-1, keepdim=True
    )  # softmax's own sum loses precision over millions of items


def ragged_token_distribution(
    item_scores: Tensor,
    row_of_entry: Tensor,
    slot_of_entry: Tensor,
    shape: tuple[int, int],
    *,
    temperature: float = 1.0,
) -> Tensor:
    """``token_distribution`` for rows with different candidates, given as one flat list.

    The softmax subtracts each row's own maximum, so a prefix keeps its distribution even if its
    share of the catalogue's mass underflows.

    Args:
        item_scores: Float ``(entry,)``; ``-inf`` excludes an entry.
        row_of_entry: int64 ``(entry,)``, the row for which an entry is a candidate.
        slot_of_entry: int64 ``(entry,)``, the child that leads to it.
        shape: Number of rows and of child slots.
        temperature: Above 0.

    Returns:
        float32 ``shape``; rows sum to one. NaN where a row has no finite score.
    """
    num_rows, num_slots = shape
    scores = _tempered(item_scores, temperature)
    highest = scores.new_full((num_rows,), -torch.inf)
    highest.scatter_reduce_(0, row_of_entry, scores, "amax")
    weight = (scores - highest.index_select(0, row_of_entry)).exp_()
    mass = scores.new_zeros(num_rows * num_slots)
    mass = mass.scatter_add_(0, row_of_entry * num_slots + slot_of_entry, weight).view(shape)
    return mass / mass.sum(dim=-1, keepdim=True)


def _tempered(scores: Tensor, temperature: float) -> Tensor:
    scores = scores.float()
    return scores if temperature == 1 else scores / temperature  # saves a pass over all items


def uniform_over_tokens(valid: Tensor, num_children: Tensor) -> Tensor:
    """Uniform over the valid tokens: labels without a teacher.

    (TCA4Rec's ablation "w/o CT"; the paper does not say over what it is uniform.)

    Args:
        valid: bool ``(target, pos, child)``.
        num_children: int64 ``(target, pos)``, number of valid slots at each position.

    Returns:
        float32 ``(target, pos, child)``, summing to one over the valid slots; zero without any.
    """
    return valid / num_children.clamp_min(1).unsqueeze(-1)


def uniform_over_items(items_below: Tensor) -> Tensor:
    """Uniform over the items that share the prefix, summed by next token.

    The Collaborative Tokenizer's output for a teacher that scores all items equally: the other
    reading of "w/o CT".

    Args:
        items_below: int64 ``(target, pos, child)``, items below each candidate; 0 where not valid.

    Returns:
        float32 ``(target, pos, child)``, summing to one; zero where there is no candidate.
    """
    return items_below / items_below.sum(dim=-1, keepdim=True).clamp_min(1)


def log_probs_over_candidates(
    logits: Tensor, candidate_tokens: Tensor, valid: Tensor, *, tau: float | Tensor = 1.0
) -> Tensor:
    """Log-probabilities of the candidates under a softmax over the candidates only.

    ``P = softmax(f / tau)`` with ``f(v) = -inf`` for every token that cannot follow the prefix: the
    masked softmax of MSL (arXiv:2504.04178).

    Args:
        logits: Float ``(target, pos, token)``.
        candidate_tokens: int64 ``(target, pos, child)`` in ``[0, token)``, also where not valid.
        valid: bool ``(target, pos, child)``.
        tau: Temperature, above 0.

    Returns:
        float32 ``(target, pos, child)``, ``-inf`` where not valid. Gradients are finite everywhere
        and zero for all other tokens, also at positions without any candidate.
    """
    scores = logits.gather(-1, candidate_tokens).float() / tau
    mask_bias = _mask_bias(
        valid
    )  # finite, so that a position without candidates does not become NaN
    return (scores + mask_bias).log_softmax(dim=-1) + 2 * mask_bias


def log_probs_over_vocabulary(
    logits: Tensor,
    candidate_tokens: Tensor,
    valid: Tensor,
    *,
    tau: float | Tensor = 1.0,
    log_total: Tensor | None = None,
) -> Tensor:
    """Log-probabilities of the candidates under a softmax over the whole vocabulary.

    ``P = softmax(f / tau)`` over all tokens, gathered at the candidates: plain next-token
    prediction. TCA4Rec's released code fixes ``tau = 1`` here; we apply it.

    Args and returns as ``log_probs_over_candidates``; the candidates' mass is at most one. If the
    logits cover only part of the vocabulary, ``log_total``, float32 ``(target, pos)``, is
    ``logsumexp(logits / tau)`` over all of it.
    """
    if log_total is None:
        log_p = (logits.float() / tau).log_softmax(dim=-1).gather(-1, candidate_tokens)
    else:
        log_p = logits.gather(-1, candidate_tokens).float() / tau - log_total.unsqueeze(-1)
    return log_p + 2 * _mask_bias(valid)


def soft_labels(target_slot: Tensor, teacher_p: Tensor, alpha: float | Tensor) -> Tensor:
    """Soft labels: ``y(v) = (1 - alpha) [v = target] + alpha p(v)``.

    (TCA4Rec's Soft Alignment.)

    Args:
        target_slot: int64 ``(target, pos)``, the slot of the target's next token.
        teacher_p: Float ``(target, pos, child)``, the teacher's token distribution.
        alpha: Weight of the teacher, in ``[0, 1]``; or one for each position, float
            ``(target, pos)``, which may carry a gradient.

    Returns:
        float32 ``(target, pos, child)``, summing to one wherever ``teacher_p`` does.
    """
    return _mixed(target_slot, 1 - alpha, teacher_p, alpha)


def _mixed(slot: Tensor, own: float | Tensor, p: Tensor, alpha: float | Tensor) -> Tensor:
    """``own [v = target] + alpha p(v)``."""
    slot = slot.unsqueeze(-1)
    if isinstance(own, Tensor):
        own = own.unsqueeze(-1).float()
    else:
        own = torch.full_like(slot, own, dtype=torch.float32)
    if isinstance(alpha, Tensor):
        alpha = alpha.unsqueeze(-1)
    return (alpha * p.float()).scatter_add_(-1, slot, own)


def ntp_loss(log_p: Tensor, target_slot: Tensor, supervised: Tensor) -> Tensor:
    """Next-token prediction: mean of ``-log P(target)``.

    With ``log_probs_over_candidates`` this is MSL's loss (arXiv:2504.04178), not multiplied by
    tau; with ``log_probs_over_vocabulary`` and ``tau`` below 1 it is LETTER's ranking-guided
    generation loss (arXiv:2405.07314). Gradient of one position in its logits:
    ``(P - target) / tau``.

    Args:
        log_p: float32 ``(target, pos, child)``.
        target_slot: int64 ``(target, pos)``.
        supervised: bool ``(target, pos)``.

    Returns:
        Scalar float32.
    """
    return _mean(-log_p.gather(-1, target_slot.unsqueeze(-1)).squeeze(-1), supervised)


def soft_ntp_loss(log_p: Tensor, labels: Tensor, supervised: Tensor) -> Tensor:
    """Soft-NTP: mean of ``-log sum_v y(v) P(v)``, the logarithm outside the sum.

    (TCA4Rec's loss; *not* the soft cross-entropy, which is ``soft_ce_loss``.) Gradient of one
    position in its logits: ``(P - q) / tau`` with ``q = y P / sum(y P)`` (equation 16). It is
    never below ``-log max y`` and reaches that with all mass on the mode of ``y``.

    Args:
        log_p: float32 ``(target, pos, child)``.
        labels: float32 ``(target, pos, child)``, at least 0, with mass on a valid slot wherever the
            position is supervised.
        supervised: bool ``(target, pos)``.

    Returns:
        Scalar float32.
    """
    with torch.no_grad():
        neg_grad_log_p = torch.where(labels > 0, log_p, -torch.inf)
        highest = neg_grad_log_p.amax(dim=-1, keepdim=True).clamp_min_(_LOWEST)
        # The floor keeps exp off its slow path; a clamped slot has weight 2e-35 of its label.
        neg_grad_log_p = neg_grad_log_p.sub_(highest).clamp_min_(-80.0).exp_().mul_(labels)
        mass = neg_grad_log_p.sum(dim=-1, keepdim=True).clamp_min_(_TINY)
        losses = -(mass.log() + highest)
        neg_grad_log_p.div_(mass)
        grad_labels = None
        if labels.requires_grad:
            grad_labels = -(log_p + losses).clamp_max_(_STEEPEST).exp_()
    return _mean(
        _soft_losses(log_p, labels, losses.squeeze(-1), neg_grad_log_p, grad_labels), supervised
    )


def linear_soft_ntp_loss(
    log_p: Tensor, labels: Tensor, supervised: Tensor, highest: Tensor
) -> Tensor:
    """``soft_ntp_loss`` summed as in TCA4Rec's released code, outside log space.

    With ``e(v) = exp((f(v) - max f) / tau)`` it is the mean of
    ``-log sum_v y(v) e(v) + log sum_v e(v)``: the same value unless ``e`` underflows for every
    token with a nonzero label, when the loss is infinite and its gradient NaN.

    Args:
        log_p: float32 ``(target, pos, child)``.
        labels: float32 ``(target, pos, child)``.
        supervised: bool ``(target, pos)``.
        highest: float32 ``(target, pos)``, the largest log-probability over all tokens in the
            softmax, which is ``-log sum_v e(v)``. The loss does not depend on it.

    Returns:
        Scalar float32.
    """
    highest = torch.where(supervised, highest, 0.0).detach()
    e = torch.where(supervised[..., None], log_p - highest[..., None], 0.0).exp()
    mass = torch.where(supervised, (e * labels).sum(dim=-1), 1.0)
    return _mean(-mass.log() - highest, supervised)


def soft_ce_loss(log_p: Tensor, labels: Tensor, supervised: Tensor) -> Tensor:
    """Soft cross-entropy: mean of ``-sum_v y(v) log P(v)``.

    Gradient of one position in its logits: ``(P - y) / tau``. Never below ``soft_ntp_loss``.

    Args and returns as ``soft_ntp_loss``.
    """
    return _mean(_soft_ce(log_p, labels), supervised)


def aux_kl_loss(
    log_p: Tensor, target_slot: Tensor, teacher_p: Tensor, alpha: float | Tensor, supervised: Tensor
) -> Tensor:
    """Next-token prediction plus distillation: mean of ``-log P(target) + alpha KL(p, P)``.

    ``KL(p, P) = sum_v p(v) (log p(v) - log P(v))``, TCA4Rec's ablation "w/o SA". Gradient of one
    position in its logits: ``((P - target) + alpha (P - p)) / tau``, towards fixed targets
    (equation 13), equal to that of ``(1 + alpha) soft_ce_loss`` at ``alpha / (1 + alpha)``.

    Args:
        log_p: float32 ``(target, pos, child)``.
        target_slot: int64 ``(target, pos)``.
        teacher_p: Float ``(target, pos, child)``.
        alpha: Weight of the teacher, at least 0; or one for each position, ``(target, pos)``.
        supervised: bool ``(target, pos)``.

    Returns:
        Scalar float32.
    """
    teacher_p = teacher_p.float()
    both = _mixed(target_slot, 1.0, teacher_p, alpha)
    surprise = torch.xlogy(teacher_p, teacher_p).sum(dim=-1)
    return _mean(_soft_ce(log_p, both) + alpha * surprise, supervised)


def _soft_ce(log_p: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        finite = log_p.clamp_min(_LOWEST)  # 0 * log 0 is 0
        grad_labels = -finite if labels.requires_grad else None
        losses = -finite.mul_(labels).sum(dim=-1)
    return _soft_losses(log_p, labels, losses, labels.detach(), grad_labels)


def _soft_losses(
    log_p: Tensor,
    labels: Tensor,
    losses: Tensor,
    neg_grad_log_p: Tensor,
    grad_labels: Tensor | None,
) -> Tensor:
    return _SoftLosses.apply(log_p, labels, losses, neg_grad_log_p, grad_labels)  # type: ignore[no-any-return,no-untyped-call]


class _SoftLosses(torch.autograd.Function):
    """Losses with given gradients: ``-neg_grad_log_p`` for ``log_p``, ``grad_labels`` for labels.

    Autograd would compute the same in several more passes over ``(target, pos, child)``.
    Labels carry a gradient only where alpha is learned.
    """

    @staticmethod
    def forward(
        ctx: Any,
        log_p: Tensor,
        labels: Tensor,
        losses: Tensor,
        neg_grad_log_p: Tensor,
        grad_labels: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(neg_grad_log_p, grad_labels if ctx.needs_input_grad[1] else None)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        neg_grad_log_p, grad_labels = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        return (
            -grad * neg_grad_log_p,
            None if grad_labels is None else grad * grad_labels,
            None,
            None,
            None,
        )


def adaptive_tau(target_logits: Tensor, logits: Tensor, valid: Tensor, eta: float) -> Tensor:
    """MSL's adaptive temperature for these logits (ATS, arXiv:2504.04178; its released code).

    With ``d`` the mean logit of the targets minus that of all valid tokens, ``s2`` the variance of
    the latter (targets included) and ``C = log(eta n)`` for ``n`` valid tokens per row:
    ``tau = (d + sqrt(max(0, d^2 - 2 C s2))) / (2 C)``.

    Args:
        target_logits: Float ``(row,)``.
        logits: Float ``(row, child)``.
        valid: bool ``(row, child)``, the same number in each row.
        eta: Above 0.

    Returns:
        Scalar float32, without gradient. NaN if ``eta n`` is at most 1 or there are fewer than two
        valid tokens.
    """
    with torch.no_grad():
        among = logits.float()[valid]
        if len(among) < 2:
            return among.new_full((), torch.nan)
        gap = target_logits.float().mean() - among.mean()
        c = (eta * valid.sum() / len(valid)).log()
        root = (gap**2 - 2 * c * among.var()).clamp_min(0).sqrt()
        return torch.where(c > 0, (gap + root) / (2 * c), torch.nan)


def _mask_bias(valid: Tensor) -> Tensor:
    """0 where valid, else the lowest finite float32; twice that is ``-inf``.

    Adding it is several times faster than ``masked_fill``, especially in the backward pass.
    """
    return torch.where(valid, 0.0, _LOWEST)


def _mean(losses: Tensor, supervised: Tensor) -> Tensor:
    return losses.masked_fill(~supervised, 0.0).sum() / supervised.sum().clamp_min(1)
