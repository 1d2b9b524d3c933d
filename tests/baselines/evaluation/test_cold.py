"""Cold items in results, on codes and lists written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.evaluation.cold import share_of_lists, support_by_level
from semid.arrays import IntArray
from semid.ids import SemanticIds


def rows(*items: int) -> IntArray:
    return np.array(items, dtype=np.int64)


def ids(*codes: list[int]) -> SemanticIds:
    sizes = (3,) * len(codes[0])
    return SemanticIds.of(list(range(len(codes))), torch.tensor(codes), sizes, scheme="by hand")


IDS = ids([0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [2, 0, 0])


def test_support_is_the_share_of_cold_items_below_a_warm_prefix() -> None:
    # Item 2 shares (0, 0) with item 0, item 4 shares (0) with it, item 3 shares nothing.
    assert support_by_level(IDS, rows(2, 3, 4), rows(0, 0)) == pytest.approx([2 / 3, 1 / 3, 0])
    # Items 1 and 5 are neither cold nor in training, so they support nothing, until 1 is.
    assert support_by_level(IDS, rows(2, 3, 4), rows(1, 0)) == pytest.approx([2 / 3, 2 / 3, 0])


def test_an_item_with_the_id_of_a_warm_one_is_supported_to_the_end() -> None:
    same = ids([0, 1], [0, 1])
    assert support_by_level(same, rows(1), rows(0)) == [1.0, 1.0]


def test_support_of_no_item_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        support_by_level(IDS, rows(), rows(0))


def test_empty_places_are_no_recommendations() -> None:
    assert share_of_lists(np.array([[1, 2, -1], [2, 3, 4]]), rows(2, 9)) == pytest.approx(2 / 5)
    assert share_of_lists(np.full((2, 3), -1), rows(2)) == 0
