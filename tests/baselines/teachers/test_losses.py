"""Losses of teachers: their definitions, and gBCE between plain and calibrated."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from baselines.teachers.losses import (
    binary_loss,
    catalogue_cross_entropy,
    draw_outside,
    gbce_beta,
    sampled_cross_entropy,
)


def scores(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_binary_loss_is_its_definition(beta: float) -> None:
    positive, negative = scores(5), scores(5, 3, seed=1)
    total = 0.0
    for own, others in zip(positive.tolist(), negative.tolist(), strict=True):
        total -= math.log((1 / (1 + math.exp(-own))) ** beta)
        total -= sum(math.log(1 - 1 / (1 + math.exp(-other))) for other in others)
    assert float(binary_loss(positive, negative, beta=beta)) == pytest.approx(total / 5, rel=1e-5)


@given(
    num_items=st.integers(3, 10_000),
    share=st.floats(0.01, 1),
    t=st.floats(0, 1),
)
def test_beta_runs_from_one_at_t_0_to_the_sampling_rate_at_t_1(
    num_items: int, share: float, t: float
) -> None:
    negatives = max(1, round(share * (num_items - 1)))
    alpha = negatives / (num_items - 1)
    beta = gbce_beta(num_negatives=negatives, num_items=num_items, t=t)
    assert beta == pytest.approx(1 - t * (1 - alpha), abs=1e-9)
    assert gbce_beta(num_negatives=negatives, num_items=num_items, t=0) == pytest.approx(1)
    assert gbce_beta(num_negatives=negatives, num_items=num_items, t=1) == pytest.approx(alpha)


def test_gbce_at_t_0_is_bce() -> None:
    positive, negative = scores(6), scores(6, 4, seed=1)
    beta = gbce_beta(num_negatives=4, num_items=30, t=0)
    torch.testing.assert_close(
        binary_loss(positive, negative, beta=beta), binary_loss(positive, negative)
    )


def test_with_t_1_the_best_score_of_the_positive_is_the_logit_of_its_probability() -> None:
    """Minimise the expected loss of one context over the score of one item (the paper's aim)."""
    probability, num_items, negatives = 0.2, 11, 3
    score = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    beta = gbce_beta(num_negatives=negatives, num_items=num_items, t=1)
    optimizer = torch.optim.LBFGS([score], max_iter=100, tolerance_grad=1e-12)

    def expected() -> torch.Tensor:
        optimizer.zero_grad()
        as_positive = -probability * beta * F.logsigmoid(score)
        as_negative = (
            -(1 - probability) * negatives / (num_items - 1) * F.logsigmoid(-score)
        )  # an item that is not the positive is drawn at this rate
        loss = (as_positive + as_negative).sum()
        loss.backward()
        return loss

    optimizer.step(expected)  # type: ignore[no-untyped-call]
    assert float(score.detach().sigmoid()) == pytest.approx(probability, rel=1e-3)


@pytest.mark.parametrize(("negatives", "t"), [(0, 0.5), (30, 0.5), (3, -0.1), (3, 1.1)])
def test_a_calibration_that_cannot_be_is_refused(negatives: int, t: float) -> None:
    with pytest.raises(ValueError, match="gbce needs t in"):
        gbce_beta(num_negatives=negatives, num_items=30, t=t)


def test_cross_entropy_runs_over_all_items_with_their_biases() -> None:
    states, table, bias = scores(4, 3), scores(6, 3, seed=1), scores(6, seed=2)
    targets = torch.tensor([0, 5, 2, 2])
    total = 0.0
    for state, target in zip(states, targets.tolist(), strict=True):
        logits = [float(state @ row + add) for row, add in zip(table, bias, strict=True)]
        total += math.log(sum(map(math.exp, logits))) - logits[target]
    loss = catalogue_cross_entropy(states, table, targets, bias)
    assert float(loss) == pytest.approx(total / 4, rel=1e-5)


def test_items_are_drawn_evenly_from_outside_the_window() -> None:
    windows = torch.tensor([[-1, 2], [0, 1]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = draw_outside(windows, num_items=4, num_negatives=3000)
    counts = torch.stack([torch.bincount(row, minlength=4) for row in drawn])
    assert counts[0, 2] == 0
    assert counts[1, :2].tolist() == [0, 0]
    assert (counts[0, [0, 1, 3]] > 900).all()
    assert (counts[1, 2:] > 1400).all()


def test_sampled_softmax_of_all_items_is_the_full_softmax() -> None:
    targets, order = torch.tensor([0, 6, 3, 3]), torch.randperm(7)
    states, items = scores(4, 5).requires_grad_(), scores(7, 5, seed=1).requires_grad_()
    sampled = sampled_cross_entropy(states, items, targets, order)
    full = catalogue_cross_entropy(states, items, targets)
    torch.testing.assert_close(sampled, full)
    for one, other in zip(
        torch.autograd.grad(sampled, (states, items)),
        torch.autograd.grad(full, (states, items)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_the_denominator_of_a_sample_is_that_of_all_items_on_average(size: int) -> None:
    """Over all samples of six items; the target, 2, is never one of its own negatives."""
    state, items, target = scores(1, 3) / 3, scores(6, 3, seed=1) / 3, torch.tensor([2])
    own = (state @ items[2]).item()
    found = [
        math.exp(own + sampled_cross_entropy(state, items, target, torch.tensor(sample)).item())
        for sample in combinations(range(6), size)
    ]
    expected = (state @ items.T).exp().sum().item()
    assert sum(found) / len(found) == pytest.approx(expected, rel=1e-5)
    assert math.log(expected) - own == pytest.approx(
        catalogue_cross_entropy(state, items, target).item(), rel=1e-5
    )


def test_a_sample_of_the_target_alone_teaches_nothing() -> None:
    states, items = scores(2, 3).requires_grad_(), scores(4, 3, seed=1).requires_grad_()
    loss = sampled_cross_entropy(states, items, torch.tensor([1, 1]), torch.tensor([1]))
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None
    assert not states.grad.any()
