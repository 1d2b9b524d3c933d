"""Cold items in results, on lists written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.evaluation.cold import share_of_lists
from semid.arrays import IntArray


def rows(*items: int) -> IntArray:
    return np.array(items, dtype=np.int64)


def test_empty_places_are_no_recommendations() -> None:
    assert share_of_lists(np.array([[1, 2, -1], [2, 3, 4]]), rows(2, 9)) == pytest.approx(2 / 5)
    assert share_of_lists(np.full((2, 3), -1), rows(2)) == 0
