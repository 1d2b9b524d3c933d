"""Sinkhorn: the transport plan against its definition, and what makes it a plan."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.tokenizers.sinkhorn import sinkhorn


def brute_force_plan(costs: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Algorithm 1 as loops, on costs moved and scaled to [-1, 1]."""
    rows = costs.tolist()
    flat = [cost for row in rows for cost in row]
    middle, half = (min(flat) + max(flat)) / 2, (max(flat) - min(flat)) / 2
    plan = [[math.exp(-(cost - middle) / half / epsilon) for cost in row] for row in rows]
    for _ in range(iterations):
        for row in plan:
            total = sum(row)
            for code in range(len(row)):
                row[code] /= total * len(plan)
        for code in range(len(plan[0])):
            total = sum(row[code] for row in plan)
            for row in plan:
                row[code] /= total * len(row)
    return torch.tensor(plan, dtype=torch.float64)


@pytest.mark.parametrize(("items", "codes"), [(1, 2), (9, 4), (4, 9), (30, 30)])
@pytest.mark.parametrize("epsilon", [0.5, 0.02, 0.003])
def test_the_plan_is_the_definition(items: int, codes: int, epsilon: float) -> None:
    costs = torch.rand(items, codes, generator=torch.Generator().manual_seed(items * codes)) * 7
    plan = sinkhorn(costs, epsilon=epsilon, iterations=20).exp()
    torch.testing.assert_close(plan, brute_force_plan(costs, epsilon, 20), atol=1e-9, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.floats(1e-3, 1e4),
    st.floats(-1e4, 1e4),
    st.integers(0, 2**31),
)
def test_columns_hold_equal_mass_and_scale_and_place_of_costs_do_not_matter(
    items: int, codes: int, scale: float, shift: float, seed: int
) -> None:
    costs = torch.rand(
        items, codes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    plan = sinkhorn(costs, epsilon=0.1, iterations=30).exp()
    columns = torch.full((codes,), 1 / codes, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(dim=0), columns)
    moved = sinkhorn(costs * scale + shift, epsilon=0.1, iterations=30).exp()
    torch.testing.assert_close(moved, plan, atol=1e-6, rtol=1e-6)


def test_items_of_one_place_are_shared_among_codes_that_differ_little() -> None:
    costs = torch.rand(64, 8, generator=torch.Generator().manual_seed(0)) + torch.arange(8.0) * 0.1
    shares = sinkhorn(costs, epsilon=0.02, iterations=200).argmax(dim=1).bincount(minlength=8)
    assert costs.argmin(dim=1).bincount(minlength=8).max() > 16
    assert shares.min() >= 6
    assert shares.max() <= 10


@pytest.mark.parametrize("epsilon", [3e-3, 3e-4, 1e-5])
def test_factors_beside_the_logarithm_change_nothing(epsilon: float) -> None:
    costs = torch.rand(40, 12, generator=torch.Generator().manual_seed(3)).double()
    costs = costs**6
    low, high = costs.aminmax()
    log_plan = (costs - (low + high) / 2) / ((high - low) / 2) / -epsilon
    for _ in range(50):
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True) - math.log(40)
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True) - math.log(12)
    torch.testing.assert_close(
        sinkhorn(costs, epsilon=epsilon).exp(), log_plan.exp(), atol=1e-6, rtol=1e-4
    )


def test_nor_does_moving_them_into_it_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = torch.rand(12, 5, generator=torch.Generator().manual_seed(0))
    kept_apart = sinkhorn(costs, iterations=30)
    monkeypatch.setattr("semid.tokenizers.sinkhorn._LARGEST_FACTOR", 1.01)  # at every round or so
    torch.testing.assert_close(sinkhorn(costs, iterations=30), kept_apart)


def test_a_tiny_epsilon_overflows_nothing_and_equal_costs_share_alike() -> None:
    costs = torch.rand(20, 5, generator=torch.Generator().manual_seed(1))
    assert not sinkhorn(costs, epsilon=1e-7).isnan().any()
    torch.testing.assert_close(
        sinkhorn(torch.full((3, 4), 2.0)).exp(), torch.full((3, 4), 1 / 12, dtype=torch.float64)
    )


def test_costs_stay_as_they_are() -> None:
    costs = torch.rand(6, 3, dtype=torch.float64)
    before = costs.clone()
    sinkhorn(costs)
    assert torch.equal(costs, before)


@pytest.mark.parametrize(
    ("costs", "kwargs", "message"),
    [
        (torch.rand(3), {}, r"expected costs: finite float \(item, code\)"),
        (torch.rand(0, 3), {}, "at least one of each"),
        (torch.tensor([[0.0, math.nan]]), {}, "NaN or infinity"),
        (torch.rand(2, 2), {"epsilon": 0.0}, "epsilon above 0"),
        (torch.rand(2, 2), {"iterations": 0}, "at least one iteration"),
    ],
)
def test_bad_costs_and_settings_are_refused(
    costs: Tensor, kwargs: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn(costs, **kwargs)  # type: ignore[arg-type]
