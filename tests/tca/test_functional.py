from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tca.functional import (
    adaptive_tau,
    aux_kl_loss,
    log_probs_over_candidates,
    log_probs_over_vocabulary,
    ntp_loss,
    ragged_token_distribution,
    soft_ce_loss,
    soft_labels,
    soft_ntp_loss,
    token_distribution,
    uniform_over_items,
    uniform_over_tokens,
)

TARGETS, POSITIONS, TOKENS, CHILDREN = 6, 3, 11, 5
LOG_PROBS = (log_probs_over_candidates, log_probs_over_vocabulary)
SOFT_LOSSES = (soft_ntp_loss, soft_ce_loss)


class World:
    """Random logits, candidates and teacher; the last target's last position is padding."""

    def __init__(self, seed: int = 0, scale: float = 2.0) -> None:
        gen = torch.Generator().manual_seed(seed)
        shape = (TARGETS, POSITIONS)
        self.logits = scale * torch.randn(*shape, TOKENS, generator=gen)
        counts = torch.randint(1, CHILDREN + 1, shape, generator=gen)
        counts[0, 0] = 1
        counts[-1, -1] = 0
        self.supervised = counts > 0
        self.valid = torch.arange(CHILDREN) < counts[..., None]
        tokens = torch.rand(*shape, TOKENS, generator=gen).argsort(-1)[..., :CHILDREN]
        self.tokens = tokens.masked_fill(~self.valid, 0)
        self.slot = (torch.rand(shape, generator=gen) * counts).long()
        teacher = (scale * torch.randn(*shape, CHILDREN, generator=gen)).masked_fill(
            ~self.valid, -math.inf
        )
        self.teacher = teacher.softmax(dim=-1).nan_to_num()

    def positions(self) -> list[tuple[int, int]]:
        return [(t, j) for t, j in self.supervised.nonzero().tolist()]


def slow_log_probs(world: World, tau: float, masked: bool) -> list[list[list[float]]]:
    result = []
    for t in range(TARGETS):
        result.append([])
        for j in range(POSITIONS):
            logits = [x / tau for x in world.logits[t, j].tolist()]
            children = world.tokens[t, j][world.valid[t, j]].tolist()
            total = sum(math.exp(logits[v]) for v in (children if masked else range(TOKENS)))
            row = [math.log(math.exp(logits[v]) / total) for v in children]
            result[t].append(row + [-math.inf] * (CHILDREN - len(row)))
    return result


def slow_losses(world: World, tau: float, masked: bool, alpha: float) -> tuple[float, ...]:
    """NTP, Soft-NTP, soft CE and NTP with the auxiliary KL as loops."""
    log_p = slow_log_probs(world, tau, masked)
    ntp, soft_ntp, soft_ce, aux_kl = [], [], [], []
    for t, j in world.positions():
        num_children = int(world.valid[t, j].sum())
        mixed = cross = divergence = 0.0
        for v in range(num_children):
            label = alpha * float(world.teacher[t, j, v])
            if v == int(world.slot[t, j]):
                label += 1 - alpha
            mixed += label * math.exp(log_p[t][j][v])
            cross -= label * log_p[t][j][v]
            mass = float(world.teacher[t, j, v])
            divergence += mass * (math.log(mass) - log_p[t][j][v]) if mass > 0 else 0.0
        ntp.append(-log_p[t][j][int(world.slot[t, j])])
        soft_ntp.append(-math.log(mixed))
        soft_ce.append(cross)
        aux_kl.append(ntp[-1] + alpha * divergence)
    return tuple(sum(losses) / len(losses) for losses in (ntp, soft_ntp, soft_ce, aux_kl))


@pytest.mark.parametrize("tau", [1.0, 4.5])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_log_probs_are_the_definition(log_probs, tau: float) -> None:
    world = World()
    got = log_probs(world.logits, world.tokens, world.valid, tau=tau)
    expected = slow_log_probs(world, tau, log_probs is log_probs_over_candidates)
    torch.testing.assert_close(got, torch.tensor(expected))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("tau", [1.0, 4.5])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_losses_are_the_definition(log_probs, tau: float, alpha: float) -> None:
    world = World(1)
    log_p = log_probs(world.logits, world.tokens, world.valid, tau=tau)
    labels = soft_labels(world.slot, world.teacher, alpha)
    got = (
        ntp_loss(log_p, world.slot, world.supervised),
        soft_ntp_loss(log_p, labels, world.supervised),
        soft_ce_loss(log_p, labels, world.supervised),
        aux_kl_loss(log_p, world.slot, world.teacher, alpha, world.supervised),
    )
    expected = slow_losses(world, tau, log_probs is log_probs_over_candidates, alpha)
    torch.testing.assert_close(torch.stack(got), torch.tensor(expected))


def test_soft_labels_mix_target_and_teacher() -> None:
    labels = soft_labels(torch.tensor([[1]]), torch.tensor([[[0.5, 0.25, 0.25]]]), 0.2)
    torch.testing.assert_close(labels, torch.tensor([[[0.1, 0.85, 0.05]]]))


@pytest.mark.parametrize("tau", [1.0, 4.5])
@pytest.mark.parametrize("loss", SOFT_LOSSES)
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_gradients_are_the_closed_forms(log_probs, loss, tau: float) -> None:
    world = World(2)
    logits = world.logits.clone().requires_grad_()
    labels = soft_labels(world.slot, world.teacher, 0.4)
    log_p = log_probs(logits, world.tokens, world.valid, tau=tau)
    loss(log_p, labels, world.supervised).backward()

    p = log_p.detach().exp()
    towards = labels
    if loss is soft_ntp_loss:
        towards = labels * p / (labels * p).sum(-1, keepdim=True)
    expected = torch.zeros_like(logits)
    for t, j in world.positions():
        if log_probs is log_probs_over_vocabulary:
            expected[t, j] = (world.logits[t, j] / tau).softmax(-1)
        for v in range(int(world.valid[t, j].sum())):
            if log_probs is log_probs_over_candidates:
                expected[t, j, world.tokens[t, j, v]] += p[t, j, v]
            expected[t, j, world.tokens[t, j, v]] -= towards[t, j, v]
    expected /= tau * world.supervised.sum()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("tau", [1.0, 4.5])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_the_auxiliary_kl_draws_to_target_and_teacher_apart(log_probs, tau: float) -> None:
    world = World(3)
    logits = world.logits.clone().requires_grad_()
    log_p = log_probs(logits, world.tokens, world.valid, tau=tau)
    aux_kl_loss(log_p, world.slot, world.teacher, 0.4, world.supervised).backward()

    p = log_p.detach().exp()
    expected = torch.zeros_like(logits)
    for t, j in world.positions():
        if log_probs is log_probs_over_vocabulary:
            expected[t, j] = 1.4 * (world.logits[t, j] / tau).softmax(-1)
        for v in range(int(world.valid[t, j].sum())):
            token = world.tokens[t, j, v]
            if log_probs is log_probs_over_candidates:
                expected[t, j, token] += 1.4 * p[t, j, v]
            expected[t, j, token] -= float(v == world.slot[t, j]) + 0.4 * world.teacher[t, j, v]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected / (tau * world.supervised.sum()))


@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_the_auxiliary_kl_is_soft_cross_entropy_of_another_weight(log_probs) -> None:
    world, alpha = World(12), 0.4
    gradients = []
    for which in ("aux_kl", "soft_ce"):
        logits = world.logits.clone().requires_grad_()
        log_p = log_probs(logits, world.tokens, world.valid)
        if which == "aux_kl":
            loss = aux_kl_loss(log_p, world.slot, world.teacher, alpha, world.supervised)
        else:
            labels = soft_labels(world.slot, world.teacher, alpha / (1 + alpha))
            loss = (1 + alpha) * soft_ce_loss(log_p, labels, world.supervised)
        gradients += torch.autograd.grad(loss, logits)
    torch.testing.assert_close(*gradients)


def soft_loss_of(loss, log_p: Tensor, world: World, alpha: Tensor | float) -> Tensor:
    if loss is aux_kl_loss:
        value: Tensor = loss(log_p, world.slot, world.teacher, alpha, world.supervised)
    else:
        value = loss(log_p, soft_labels(world.slot, world.teacher, alpha), world.supervised)
    return value


@pytest.mark.parametrize("loss", [*SOFT_LOSSES, aux_kl_loss])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_an_alpha_a_position_is_each_position_with_its_own(log_probs, loss) -> None:
    world = World(13)
    alpha = torch.rand(TARGETS, POSITIONS, generator=torch.Generator().manual_seed(0))
    log_p = log_probs(world.logits, world.tokens, world.valid)
    got = soft_loss_of(loss, log_p, world, alpha)
    total = 0.0
    for t, j in world.positions():
        alone = World(13)
        alone.supervised = torch.zeros_like(world.supervised)
        alone.supervised[t, j] = True
        total += float(soft_loss_of(loss, log_p, alone, float(alpha[t, j])))
    assert float(got) == pytest.approx(total / int(world.supervised.sum()), rel=1e-5)


@pytest.mark.parametrize("loss", [*SOFT_LOSSES, aux_kl_loss])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_the_gradient_in_alpha_is_that_of_finite_differences(log_probs, loss) -> None:
    world, step = World(14, scale=1.0), 1e-2
    log_p = log_probs(world.logits, world.tokens, world.valid)
    alpha = torch.full((TARGETS, POSITIONS), 0.4, requires_grad=True)
    soft_loss_of(loss, log_p, world, alpha).backward()
    assert alpha.grad is not None
    assert not alpha.grad[~world.supervised].any()
    for t, j in world.positions():
        moved = torch.zeros_like(alpha)
        moved[t, j] = step
        above, below = (
            float(soft_loss_of(loss, log_p, world, alpha.detach() + sign * moved))
            for sign in (1, -1)
        )
        slope = (above - below) / (2 * step)
        assert float(alpha.grad[t, j]) == pytest.approx(slope, abs=1e-4, rel=1e-3)


@pytest.mark.parametrize("loss", [*SOFT_LOSSES, aux_kl_loss])
@pytest.mark.parametrize("scale", [80.0, 1e4])
def test_extreme_logits_keep_the_gradient_in_alpha_finite(loss, scale: float) -> None:
    world = World(15, scale=1.0)
    logits = (scale * world.logits).requires_grad_()
    alpha = torch.full((TARGETS, POSITIONS), 0.4, requires_grad=True)
    log_p = log_probs_over_candidates(logits, world.tokens, world.valid)
    soft_loss_of(loss, log_p, world, alpha).backward()
    for found in (alpha.grad, logits.grad):
        assert found is not None
        assert found.norm().isfinite()


def test_uniform_labels_give_each_token_or_each_item_the_same() -> None:
    valid = torch.tensor([[[True, True, True, False], [True, False, False, False], [False] * 4]])
    tokens = uniform_over_tokens(valid, valid.sum(-1))
    third = 1 / 3
    expected = [[[third, third, third, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4]]
    torch.testing.assert_close(tokens, torch.tensor(expected))
    items = uniform_over_items(torch.tensor([[[5, 1, 2, 0], [7, 0, 0, 0], [0] * 4]]))
    expected = [[[0.625, 0.125, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4]]
    torch.testing.assert_close(items, torch.tensor(expected))


def test_uniform_items_are_a_teacher_to_whom_all_items_are_equal() -> None:
    slot_of_item = torch.tensor([0, 2, 0, 1, 0])
    equal = token_distribution(torch.zeros(1, 5), slot_of_item, 4)
    torch.testing.assert_close(uniform_over_items(torch.tensor([[3, 1, 1, 0]])), equal)


def test_the_adaptive_temperature_solves_its_quadratic_equation() -> None:
    gen = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 40, generator=gen)
    valid = torch.ones(7, 40, dtype=torch.bool)
    valid[:, 32:] = False
    target = 9 + torch.randn(7, generator=gen)
    logits[:, 3] = target
    tau = float(adaptive_tau(target, logits, valid, 0.25))
    pool = [x for row in logits.tolist() for x in row[:32]]
    mean = sum(pool) / len(pool)
    variance = sum((x - mean) ** 2 for x in pool) / (len(pool) - 1)
    gap, c = float(target.mean()) - mean, math.log(0.25 * 32)
    assert gap**2 > 2 * c * variance
    assert tau == pytest.approx((gap + math.sqrt(gap**2 - 2 * c * variance)) / (2 * c), rel=1e-5)
    assert c * tau**2 - gap * tau + variance / 2 == pytest.approx(0, abs=1e-3)


def test_the_adaptive_temperature_has_no_value_for_few_tokens_or_none() -> None:
    four = torch.ones(3, 4, dtype=torch.bool)
    assert adaptive_tau(torch.ones(3), torch.zeros(3, 4), four, 0.25).isnan()
    assert adaptive_tau(torch.ones(0), torch.zeros(0, 4), four[:0], 0.25).isnan()


@pytest.mark.parametrize("log_probs", LOG_PROBS)
@pytest.mark.parametrize("loss", SOFT_LOSSES)
def test_alpha_zero_is_ntp(log_probs, loss) -> None:
    world = World(4)
    log_p = log_probs(world.logits, world.tokens, world.valid)
    labels = soft_labels(world.slot, world.teacher, 0.0)
    expected = ntp_loss(log_p, world.slot, world.supervised)
    torch.testing.assert_close(
        loss(log_p, labels, world.supervised), expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("loss", SOFT_LOSSES)
def test_one_hot_labels_over_the_vocabulary_give_cross_entropy(loss) -> None:
    world = World(5)
    log_p = log_probs_over_vocabulary(world.logits, world.tokens, world.valid)
    one_hot = F.one_hot(world.slot, CHILDREN).float()
    target = world.tokens.gather(-1, world.slot[..., None]).squeeze(-1)
    expected = F.cross_entropy(world.logits[world.supervised], target[world.supervised])
    torch.testing.assert_close(loss(log_p, one_hot, world.supervised), expected)


@pytest.mark.parametrize("loss", SOFT_LOSSES)
def test_alpha_one_with_all_mass_on_one_token_is_ntp_on_that_token(loss) -> None:
    world = World(6)
    other = world.valid.sum(-1).sub(1).clamp_min(0)
    log_p = log_probs_over_candidates(world.logits, world.tokens, world.valid)
    labels = soft_labels(world.slot, F.one_hot(other, CHILDREN).float(), 1.0)
    torch.testing.assert_close(
        loss(log_p, labels, world.supervised), ntp_loss(log_p, other, world.supervised)
    )


@pytest.mark.parametrize("loss", [ntp_loss, *SOFT_LOSSES])
def test_a_single_child_under_the_mask_gives_neither_loss_nor_gradient(loss) -> None:
    logits = torch.randn(1, 1, TOKENS, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    valid = torch.tensor([[[True, False]]])
    slot, supervised = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    log_p = log_probs_over_candidates(logits, torch.tensor([[[7, 0]]]), valid)
    labels = slot if loss is ntp_loss else soft_labels(slot, torch.tensor([[[1.0, 0.0]]]), 0.5)
    value = loss(log_p, labels, supervised)
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1), scale=st.floats(0.1, 20))
@example(seed=2450, alpha=1.0, scale=17.0)
@settings(deadline=None)
def test_soft_ntp_keeps_its_bounds(seed: int, alpha: float, scale: float) -> None:
    world = World(seed, scale)
    labels = soft_labels(world.slot, world.teacher, alpha)
    log_p = log_probs_over_candidates(world.logits, world.tokens, world.valid)
    for t, j in world.positions():
        here = (slice(t, t + 1), slice(j, j + 1))
        soft_ntp = float(soft_ntp_loss(log_p[here], labels[here], world.supervised[here]))
        ntp = float(ntp_loss(log_p[here], world.slot[here], world.supervised[here]))
        on_target = float(labels[t, j, world.slot[t, j]])
        assert soft_ntp >= -math.log(float(labels[t, j].max())) - 1e-4
        if on_target > 0:
            assert soft_ntp <= ntp - math.log(on_target) + 1e-4
        soft_ce = float(soft_ce_loss(log_p[here], labels[here], world.supervised[here]))
        assert soft_ce >= soft_ntp - 1e-4 * (1 + soft_ce)
        teacher = world.teacher[here]
        aux_kl = float(
            aux_kl_loss(log_p[here], world.slot[here], teacher, alpha, world.supervised[here])
        )
        assert aux_kl >= ntp - 1e-4 * (1 + ntp)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("loss", SOFT_LOSSES)
@pytest.mark.parametrize("log_probs", LOG_PROBS)
@pytest.mark.parametrize("scale", [80.0, 1e4])
def test_extreme_logits_keep_loss_and_gradient_finite(
    log_probs, loss, alpha: float, scale: float
) -> None:
    world = World(7, scale=1.0)
    logits = (scale * world.logits).requires_grad_()
    log_p = log_probs(logits, world.tokens, world.valid)
    value = loss(log_p, soft_labels(world.slot, world.teacher, alpha), world.supervised)
    value.backward()
    assert logits.grad is not None
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_soft_ntp_counts_a_supported_token_whose_probability_underflows() -> None:
    log_p = torch.tensor([[[0.0, -500.0, -502.0]]])
    labels = torch.tensor([[[0.0, 0.5, 0.5]]])
    expected = 500 - math.log(0.5 + 0.5 * math.exp(-2))
    value = soft_ntp_loss(log_p, labels, torch.tensor([[True]]))
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [ntp_loss, *SOFT_LOSSES])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_positions_that_do_not_count_have_no_part(log_probs, loss) -> None:
    world = World(8)
    logits = world.logits.clone().requires_grad_()
    log_p = log_probs(logits, world.tokens, world.valid)
    labels = world.slot if loss is ntp_loss else soft_labels(world.slot, world.teacher, 0.5)
    value = loss(log_p, labels, world.supervised)
    value.backward()
    alone = [
        loss(log_p[t : t + 1, j : j + 1], labels[t : t + 1, j : j + 1], torch.tensor([[True]]))
        for t, j in world.positions()
    ]
    torch.testing.assert_close(value, torch.stack(alone).mean())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[~world.supervised].any()


@pytest.mark.parametrize("loss", [ntp_loss, *SOFT_LOSSES])
def test_no_counted_position_is_zero(loss) -> None:
    world = World(9)
    nothing = torch.zeros_like(world.supervised)
    logits = world.logits.clone().requires_grad_()
    log_p = log_probs_over_candidates(logits, world.tokens, world.valid)
    labels = world.slot if loss is ntp_loss else soft_labels(world.slot, world.teacher, 0.5)
    value = loss(log_p, labels, nothing)
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("log_probs", LOG_PROBS)
def test_half_precision_logits_are_summed_in_float32(log_probs, dtype: torch.dtype) -> None:
    world = World(10)
    logits = world.logits.to(dtype)
    got = log_probs(logits, world.tokens, world.valid)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, log_probs(logits.float(), world.tokens, world.valid))


def test_token_distribution_is_softmax_summed_by_slot() -> None:
    scores = torch.tensor([[0.0, math.log(2), math.log(5), -math.inf]])
    p = token_distribution(scores, torch.tensor([0, 2, 0, 1]), 4)
    torch.testing.assert_close(p, torch.tensor([[6 / 8, 0.0, 2 / 8, 0.0]]))


def test_ragged_token_distribution_is_each_row_alone() -> None:
    gen = torch.Generator().manual_seed(0)
    rows = [(3, 0.0), (1, -1e4), (7, 80.0)]  # number of candidates, offset of their scores
    scores = [offset + torch.randn(number, generator=gen) for number, offset in rows]
    slots = [torch.randint(4, (number,), generator=gen) for number, _ in rows]
    row_of_entry = torch.tensor(
        [row for row, (number, _) in enumerate(rows) for _ in range(number)]
    )
    got = ragged_token_distribution(
        torch.cat(scores), row_of_entry, torch.cat(slots), (3, 4), temperature=2.0
    )
    alone = [
        token_distribution(score[None], slot, 4, temperature=2.0)
        for score, slot in zip(scores, slots, strict=True)
    ]
    torch.testing.assert_close(got, torch.cat(alone))
