from __future__ import annotations

import pytest
import torch

from tca.consistency import collaborative_consistency


def test_consistency_is_the_share_of_equal_first_items() -> None:
    ours, teacher = torch.tensor([3, 1, 4, 1]), torch.tensor([3, 0, 4, 2])
    assert collaborative_consistency(ours, teacher) == 0.5


def test_a_user_without_a_recommendation_agrees_with_nothing() -> None:
    assert collaborative_consistency(torch.tensor([-1, 2]), torch.tensor([-1, 2])) == 0.5


def test_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="over the same users"):
        collaborative_consistency(torch.tensor([1, 2]), torch.tensor([1]))


def test_no_user_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        collaborative_consistency(torch.tensor([]), torch.tensor([]))
