import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semid.collisions import (
    CollisionReport,
    collision_report,
    resolve_collisions,
    resolve_extra_level,
)

SIZES = (3, 2)

code_tables = st.lists(
    st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=40
).map(lambda rows: torch.tensor(rows, dtype=torch.int64))


def rank_by_definition(codes: Tensor) -> list[int]:
    paths = [tuple(path) for path in codes.tolist()]
    return [paths[:row].count(path) for row, path in enumerate(paths)]


@given(code_tables)
def test_all_paths_are_distinct_afterwards(codes: Tensor) -> None:
    resolved = resolve_extra_level(codes, SIZES)
    assert collision_report(resolved.codes).distinct == len(codes)


@given(code_tables)
def test_extra_code_is_the_rank_in_the_group_by_row(codes: Tensor) -> None:
    resolved = resolve_extra_level(codes, SIZES)
    ranks = rank_by_definition(codes)
    if max(ranks) == 0:
        assert resolved.sizes == SIZES
    else:
        assert resolved.codes[:, -1].tolist() == ranks
        assert resolved.sizes == (*SIZES, max(ranks) + 1)


@given(code_tables)
def test_levels_that_were_there_stay_and_the_input_too(codes: Tensor) -> None:
    given_codes = codes.clone()
    resolved = resolve_extra_level(codes, SIZES)
    assert resolved.codes[:, : len(SIZES)].equal(given_codes)
    resolved.codes.fill_(9)
    assert codes.equal(given_codes)


@given(code_tables, code_tables)
def test_items_added_behind_leave_earlier_ranks_as_they_were(first: Tensor, more: Tensor) -> None:
    alone = rank_by_definition(first)
    together = resolve_extra_level(torch.cat([first, more]), SIZES).codes
    if together.shape[1] > len(SIZES):
        assert together[: len(first), -1].tolist() == alone


@given(code_tables)
def test_report_is_the_definition(codes: Tensor) -> None:
    paths = [tuple(path) for path in codes.tolist()]
    counts = [paths.count(path) for path in paths]
    assert collision_report(codes) == CollisionReport(
        items=len(paths),
        distinct=len(set(paths)),
        colliding_items=sum(count > 1 for count in counts),
        largest_group=max(counts),
    )


def test_nothing_is_appended_where_nothing_collides() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [2, 0]])
    resolved = resolve_collisions(codes, SIZES, "extra_level")
    assert resolved.codes.equal(codes)
    assert resolved.sizes == SIZES


def test_keep_leaves_twins() -> None:
    codes = torch.tensor([[0, 0], [0, 0]])
    resolved = resolve_collisions(codes, SIZES, "keep")
    assert resolved.codes.equal(codes)
    assert resolved.codes is not codes
    assert resolved.before.largest_group == 2


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ValueError, match=r"extra_level.*'hope'"):
        resolve_collisions(torch.tensor([[0, 0]]), SIZES, "hope")
