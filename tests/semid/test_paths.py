"""Grouping of equal paths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semid.paths import group_paths


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_groups_are_those_of_unique_rows(items: int, levels: int, size: int, seed: int) -> None:
    codes = torch.randint(0, size, (items, levels), generator=torch.manual_seed(seed))
    expected = torch.unique(codes, dim=0, return_inverse=True, return_counts=True)
    for found, wanted in zip(group_paths(codes), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("size", [2, 10**6, 2**40])
def test_paths_may_be_longer_than_a_whole_number_can_count(size: int) -> None:
    codes = torch.randint(0, size, (200, 12), generator=torch.manual_seed(0))
    codes = torch.cat([codes, codes[:50]])
    expected = torch.unique(codes, dim=0, return_inverse=True, return_counts=True)
    for found, wanted in zip(group_paths(codes), expected, strict=True):
        assert torch.equal(found, wanted)
