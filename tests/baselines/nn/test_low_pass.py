"""Low-pass filters: the Fourier one by its definition as sums, the causal one by its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.nn.low_pass import causal_low_pass, fourier_low_pass

SIZES = [(50, 3), (50, 1), (50, 26), (7, 2), (7, 4), (6, 4), (2, 1), (1, 1)]


def slow_low_pass(x: np.ndarray, bins: int) -> np.ndarray:
    """The lowest ``bins`` frequencies of ``(pos, dim)``: a discrete Fourier transform in sums."""
    length = len(x)
    low = np.zeros(x.shape, dtype=complex)
    for k in range(length):
        if min(k, length - k) < bins:  # a frequency, or its conjugate
            turns = np.exp(-2j * np.pi * k * np.arange(length) / length) / np.sqrt(length)
            low += np.conj(turns)[:, None] * (turns @ x)[None]
    return low.real


@pytest.mark.parametrize(("length", "bins"), SIZES)
def test_the_fourier_filter_is_its_definition(length: int, bins: int) -> None:
    x = np.random.default_rng(length).normal(size=(length, 5))
    low = fourier_low_pass(length, bins).double() @ torch.from_numpy(x)
    np.testing.assert_allclose(low.numpy(), slow_low_pass(x, bins), atol=1e-6)


def test_all_frequencies_are_the_sequence_itself() -> None:
    torch.testing.assert_close(fourier_low_pass(9, 5), torch.eye(9))
    torch.testing.assert_close(causal_low_pass(9, 5), torch.eye(9))


@pytest.mark.parametrize(("length", "bins"), SIZES)
def test_the_causal_filter_has_the_kernel_of_the_other_over_half_a_length(
    length: int, bins: int
) -> None:
    kernel, made = fourier_low_pass(length, bins)[:, 0], causal_low_pass(length, bins)
    for row in range(length):
        for column in range(length):
            lag = row - column
            expected = kernel[lag] if 0 <= lag <= length // 2 else torch.tensor(0.0)
            torch.testing.assert_close(made[row, column], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("bins", range(1, 27))
def test_the_weights_of_any_number_of_recent_positions_have_a_sum_to_divide_by(bins: int) -> None:
    weight_of_lag = causal_low_pass(50, bins)[:, 0]
    assert (weight_of_lag.cumsum(dim=0) >= weight_of_lag[0] / 2).all()
