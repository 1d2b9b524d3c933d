"""Dropout from bytes: the laws of dropout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.nn.dropout import Dropout


def seeded(layer: Dropout, x: Tensor, seed: int = 0) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: Tensor = layer(x)
        return made


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_to_the_nearest_byte(rate: float) -> None:
    nearest = round(rate * 256) / 256
    found = float((seeded(Dropout(rate), torch.ones(500, 400)) == 0).float().mean())
    assert found == pytest.approx(nearest, abs=5 * (nearest * (1 - nearest) / 200_000) ** 0.5)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(rate: float) -> None:
    x = torch.linspace(1, 2, 1000).view(10, 100)
    out = seeded(Dropout(rate), x)
    kept = out != 0
    torch.testing.assert_close(out[kept], x[kept] / (1 - round(rate * 256) / 256))


def test_every_element_is_drawn_on_its_own() -> None:
    dropped = (seeded(Dropout(0.5), torch.ones(4000, 64)) == 0).float() - 0.5
    covariance = dropped.T @ dropped / len(dropped)
    torch.testing.assert_close(covariance, 0.25 * torch.eye(64), atol=0.025, rtol=0)


def test_the_seed_of_pytorch_decides() -> None:
    layer, x = Dropout(0.3), torch.ones(37, 11)
    assert torch.equal(seeded(layer, x), seeded(layer, x))
    assert not torch.equal(seeded(layer, x), seeded(layer, x, seed=1))


def test_in_eval_mode_nothing_is_touched_or_drawn() -> None:
    x = torch.ones(5, 3)
    before = torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_is_what_the_forward_pass_multiplied_by() -> None:
    x = torch.linspace(1, 2, 60).requires_grad_()
    out = seeded(Dropout(0.4), x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, out.detach() / x.detach())


@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (3, 5, 2), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_dtype_stay(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    out = seeded(Dropout(0.2), torch.ones(shape, dtype=dtype))
    assert out.shape == shape
    assert out.dtype == dtype


def test_off_the_cpu_it_is_the_dropout_of_pytorch() -> None:
    x = torch.ones(4, 3, device="meta")
    assert seeded(Dropout(0.2), x).shape == F.dropout(x, 0.2).shape


def test_a_rate_close_to_one_still_keeps_finite_numbers() -> None:
    out = seeded(Dropout(0.999), torch.ones(10_000))
    assert out.isfinite().all()
    assert 0 < int((out != 0).sum()) < 200


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        Dropout(rate)
