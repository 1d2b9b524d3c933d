"""Grouping of equal paths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semid.paths import count_paths, group_paths


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


def test_paths_are_counted_as_they_are_grouped() -> None:
    codes = torch.tensor([[1, 2], [0, 3], [1, 2], [0, 3], [1, 2], [0, 0]])
    assert count_paths(codes).tolist() == [1, 2, 3]
    many = torch.randint(3, (500, 45), generator=torch.Generator().manual_seed(0))
    many = many[torch.randint(20, (500,), generator=torch.Generator().manual_seed(1))]
    assert torch.equal(count_paths(many), group_paths(many)[2])
