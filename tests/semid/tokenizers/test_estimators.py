"""Gradients past the choice of a code: each strategy against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers.estimators import (
    ESTIMATORS,
    Batch,
    Gumbel,
    Rotation,
    StraightThrough,
    estimator_of,
    rotate,
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(items: int, progress: float = 0.0, seed: int = 0) -> Batch:
    return Batch(
        rows=torch.arange(items),
        inputs=torch.zeros(items, 1),
        progress=progress,
        generator=torch.Generator().manual_seed(seed),
    )


def rotation_matrix(e: Tensor, q: Tensor) -> Tensor:
    """``|q| / |e| (I - 2 r r' + 2 q^ e^')``, one pair of vectors."""
    e_unit, q_unit = e / e.norm(), q / q.norm()
    r = (e_unit + q_unit) / (e_unit + q_unit).norm()
    rotation = torch.eye(len(e)) - 2 * torch.outer(r, r) + 2 * torch.outer(q_unit, e_unit)
    return q.norm() / e.norm() * rotation


def test_rotation_and_its_gradient_are_the_matrix() -> None:
    e, q, towards = randn(9, 5), randn(9, 5, seed=1), randn(9, 5, seed=2)
    leaf = e.clone().requires_grad_()
    turned = rotate(leaf, q)
    torch.testing.assert_close(turned.detach(), q)
    (gradient,) = torch.autograd.grad((turned * towards).sum(), leaf)
    for row in range(9):
        matrix = rotation_matrix(e[row], q[row])
        torch.testing.assert_close(matrix @ e[row], q[row])
        torch.testing.assert_close(gradient[row], matrix.T @ towards[row])


def test_a_rotated_gradient_keeps_its_angle_to_the_codeword() -> None:
    e, q, towards = randn(9, 5), randn(9, 5, seed=1), randn(9, 5, seed=2)
    leaf = e.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((rotate(leaf, q) * towards).sum(), leaf)
    torch.testing.assert_close(
        F.cosine_similarity(gradient, e), F.cosine_similarity(towards, q), atol=1e-5, rtol=1e-5
    )


def test_where_no_rotation_is_determined_the_gradient_is_finite() -> None:
    e = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    q = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    output = Rotation().join(e, q)
    assert output.detach().equal(q)
    (gradient,) = torch.autograd.grad(output.sum(), e)
    assert gradient.isfinite().all()


def test_straight_through_is_the_identity_backward_and_the_nearest_code_forward() -> None:
    latent, codebook = randn(8, 3).requires_grad_(), randn(5, 3, seed=1)
    codes, part = StraightThrough().choose(latent, codebook, batch_of(8))
    assert codes.equal((latent[:, None] - codebook).square().sum(dim=2).argmin(dim=1))
    output = StraightThrough().join(latent, part)
    torch.testing.assert_close(output.detach(), codebook[codes])
    (gradient,) = torch.autograd.grad((output * 3).sum(), latent)
    assert gradient.equal(torch.full((8, 3), 3.0))


def test_gumbel_has_a_codeword_forward_and_the_softmaxs_gradient() -> None:
    latent, codebook = randn(8, 3).requires_grad_(), randn(5, 3, seed=1).requires_grad_()
    estimator = Gumbel(start=0.7, end=0.7)
    codes, part = estimator.choose(latent, codebook, batch_of(8))
    torch.testing.assert_close(part, codebook[codes])

    uniform = torch.rand(8, 5, generator=torch.Generator().manual_seed(0))
    noise = -torch.log(-torch.log(uniform))
    distances = (latent[:, None] - codebook).square().sum(dim=2)
    scale = distances.detach().min(dim=1).values.mean()
    soft = torch.softmax((noise - distances / scale) / 0.7, dim=1)
    assert codes.equal(soft.argmax(dim=1))
    towards = randn(8, 3, seed=3)
    (found,) = torch.autograd.grad((part * towards).sum(), latent)
    (expected,) = torch.autograd.grad(((soft @ codebook.detach()) * towards).sum(), latent)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_gumbel_draws_codes_by_their_distance() -> None:
    codebook = torch.tensor([[1.0], [-1.5], [3.0]])
    latent = torch.zeros(40_000, 1)
    codes, _ = Gumbel(start=1.0, end=1.0).choose(latent, codebook, batch_of(40_000))
    shares = torch.bincount(codes, minlength=3) / 40_000
    expected = torch.softmax(torch.tensor([-1.0, -2.25, -9.0]), dim=0)
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)


def test_the_temperature_falls_from_start_to_end() -> None:
    gumbel = Gumbel(start=2.0, end=0.5)
    temperatures = [gumbel.temperature(progress) for progress in (0.0, 0.5, 1.0)]
    assert temperatures == pytest.approx([2.0, 1.0, 0.5])
    assert math.isclose(temperatures[0] / temperatures[1], temperatures[1] / temperatures[2])


def test_every_name_has_a_strategy_and_no_other() -> None:
    kinds = {type(estimator_of(name, (1.0, 0.1))) for name in ESTIMATORS}
    assert kinds == {StraightThrough, Rotation, Gumbel}
