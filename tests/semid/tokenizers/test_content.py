import numpy as np
import pytest
import torch

from semid.tokenizers.content import distinct_rows, mix, row_hashes

WORD = 2**64


def mix_by_hand(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB % WORD
    return value ^ value >> 31


def hash_by_hand(row: list[float], seed: int) -> int:
    total = 0
    for place, value in enumerate(row, start=1):
        bits = int(np.array(value, dtype=np.float32).view(np.int32))
        key = mix_by_hand((place * 0x9E3779B97F4A7C15 + seed) % WORD)
        total += mix_by_hand((bits + key) % WORD)
    return mix_by_hand(total % WORD)


@pytest.mark.parametrize("seed", [0, 5, -1])
def test_hashes_are_the_definition_in_whole_numbers(seed: int) -> None:
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    found = row_hashes(rows, seed=seed)
    assert [value % WORD for value in found.tolist()] == [
        hash_by_hand(row, seed) for row in rows.tolist()
    ]


def test_mixing_is_one_to_one_as_far_as_one_can_see() -> None:
    values = torch.arange(-5_000, 5_000)
    assert len(mix(values).unique()) == 10_000


def test_zero_has_one_sign_and_places_differ() -> None:
    assert row_hashes(torch.tensor([[-0.0, 1.0]])).equal(row_hashes(torch.tensor([[0.0, 1.0]])))
    swapped = row_hashes(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    assert swapped[0] != swapped[1]


def test_a_view_with_gaps_hashes_as_its_copy() -> None:
    rows = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    assert row_hashes(rows[:, ::2]).equal(row_hashes(rows[:, ::2].contiguous()))


def test_distinct_rows_are_counted_until_there_are_enough() -> None:
    rows = torch.arange(10_000.0).remainder(7)[:, None]
    assert distinct_rows(rows, enough=8) == 7
    assert distinct_rows(rows, enough=3) >= 3
