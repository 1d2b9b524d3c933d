import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semid.collisions import (
    CollisionReport,
    Costs,
    Resolution,
    collision_report,
    resolve_collisions,
)

SIZES = (3, 2)

code_tables = st.lists(
    st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=40
).map(lambda rows: torch.tensor(rows, dtype=torch.int64))


def numbered(codes: Tensor) -> Resolution:
    return resolve_collisions(codes, SIZES, "extra_level")


def rank_by_definition(codes: Tensor) -> list[int]:
    paths = [tuple(path) for path in codes.tolist()]
    return [paths[:row].count(path) for row, path in enumerate(paths)]


@given(code_tables)
def test_all_paths_are_distinct_afterwards(codes: Tensor) -> None:
    resolved = numbered(codes)
    assert collision_report(resolved.codes).distinct == len(codes)
    assert resolved.after == collision_report(resolved.codes)


@given(code_tables)
def test_extra_code_is_the_rank_in_the_group_by_row(codes: Tensor) -> None:
    resolved = numbered(codes)
    ranks = rank_by_definition(codes)
    if max(ranks) == 0:
        assert resolved.sizes == SIZES
    else:
        assert resolved.codes[:, -1].tolist() == ranks
        assert resolved.sizes == (*SIZES, max(ranks) + 1)
    assert resolved.numbered == sum(rank > 0 for rank in ranks)
    assert (resolved.moved, resolved.reconstruction_lost) == (0, 0.0)


@given(code_tables)
def test_levels_that_were_there_stay_and_the_input_too(codes: Tensor) -> None:
    given_codes = codes.clone()
    resolved = numbered(codes)
    assert resolved.codes[:, : len(SIZES)].equal(given_codes)
    resolved.codes.fill_(9)
    assert codes.equal(given_codes)


@given(code_tables, code_tables)
def test_items_added_behind_leave_earlier_ranks_as_they_were(first: Tensor, more: Tensor) -> None:
    alone = rank_by_definition(first)
    together = numbered(torch.cat([first, more])).codes
    if together.shape[1] > len(SIZES):
        assert together[: len(first), -1].tolist() == alone


@given(code_tables, code_tables)
def test_report_is_the_definition(codes: Tensor, taken: Tensor) -> None:
    paths = [tuple(path) for path in codes.tolist()]
    for others in (None, taken):
        held = paths + ([] if others is None else [tuple(path) for path in others.tolist()])
        counts = [held.count(path) for path in paths]
        assert collision_report(codes, others) == CollisionReport(
            items=len(paths),
            distinct=len(set(paths)),
            colliding_items=sum(count > 1 for count in counts),
            largest_group=max(counts),
        )


@pytest.mark.parametrize("strategy", ["extra_level", "keep", "next_nearest", "sinkhorn"])
def test_nothing_changes_where_nothing_collides(strategy: str) -> None:
    codes = torch.tensor([[0, 0], [0, 1], [2, 0]])
    resolved = resolve_collisions(codes, SIZES, strategy)
    assert resolved.codes.equal(codes)
    assert resolved.codes is not codes
    assert resolved.sizes == SIZES
    assert (resolved.moved, resolved.numbered, resolved.reconstruction_lost) == (0, 0, 0.0)


def test_keep_leaves_twins() -> None:
    codes = torch.tensor([[0, 0], [0, 0]])
    resolved = resolve_collisions(codes, SIZES, "keep")
    assert resolved.codes.equal(codes)
    assert resolved.codes is not codes
    assert resolved.before.largest_group == resolved.after.largest_group == 2


@pytest.mark.parametrize("strategy", ["hope", "", "keep+hope", "sinkhorn+"])
def test_an_unknown_strategy_is_named(strategy: str) -> None:
    with pytest.raises(ValueError, match=rf"extra_level.*'{strategy}'".replace("+", r"\+")):
        resolve_collisions(torch.tensor([[0, 0]]), SIZES, strategy)


def distances() -> Costs:
    """Squared distance on the line between codes and items that stand at their row."""

    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        place = 10 * prefix.sum(dim=1, keepdim=True) + torch.arange(SIZES[prefix.shape[1]])
        return (place - rows[:, None]).square().float()

    return costs


def test_reconstruction_lost_is_a_share_of_the_mean_squared_distance() -> None:
    codes = torch.tensor([[0, 1], [0, 1], [1, 0]])
    resolved = resolve_collisions(codes, SIZES, "next_nearest", costs=distances())
    assert resolved.codes.tolist() == [[0, 0], [0, 1], [1, 0]]
    before, after = 1 + 0 + 64, 0 + 0 + 64
    assert resolved.reconstruction_lost == pytest.approx((after - before) / before)
    assert resolved.moved == 1


def test_without_distances_nobody_knows_what_was_lost() -> None:
    codes = torch.tensor([[0, 1], [0, 1], [1, 0]])
    assert resolve_collisions(codes, SIZES, "next_nearest").reconstruction_lost is None
    zeros = resolve_collisions(
        codes, SIZES, "next_nearest", costs=lambda rows, prefix: torch.zeros(len(rows), 2)
    )
    assert zeros.reconstruction_lost is None


def test_strategies_follow_each_other() -> None:
    codes = torch.tensor([[0, 0]] * 3 + [[1, 0]])
    alone = resolve_collisions(codes, SIZES, "sinkhorn")
    assert alone.after.colliding_items == 3  # without distances no plan tells them apart
    both = resolve_collisions(codes, SIZES, "sinkhorn+extra_level")
    assert both.before == alone.before
    assert both.after.colliding_items == 0
    assert both.sizes == (*SIZES, 3)
    assert both.numbered == 2


def test_new_items_get_the_lowest_free_numbers_of_an_extra_level() -> None:
    taken = torch.tensor([[0, 0, 0], [0, 0, 2], [1, 1, 0]])
    codes = torch.tensor([[0, 0], [1, 0], [0, 0], [1, 1], [1, 0]])
    resolved = resolve_collisions(codes, (*SIZES, 4), "extra_level", taken=taken)
    assert resolved.codes[:, -1].tolist() == [1, 0, 3, 1, 1]
    assert resolved.sizes == (*SIZES, 4)
    assert resolved.before.colliding_items == 5
    assert resolved.after.colliding_items == 0
    assert resolved.numbered == 4


def test_a_full_extra_level_names_the_way_out() -> None:
    taken = torch.tensor([[0, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"row 1.*codes \(0, 0\).*next_nearest"):
        resolve_collisions(torch.tensor([[1, 0], [0, 0]]), (*SIZES, 2), "extra_level", taken=taken)


def test_without_an_extra_level_new_items_cannot_be_numbered() -> None:
    taken = torch.tensor([[0, 0]])
    free = resolve_collisions(torch.tensor([[0, 1]]), SIZES, "extra_level", taken=taken)
    assert free.codes.tolist() == [[0, 1]]
    assert free.sizes == SIZES
    with pytest.raises(ValueError, match=r"expected ids with an extra level.*next_nearest"):
        resolve_collisions(torch.tensor([[0, 0]]), SIZES, "extra_level", taken=taken)
