"""The contract of metrics: what keeps it passes, and each clause is named when it is broken."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from baselines.evaluation.config import METRICS
from baselines.evaluation.metrics import ListMetric, Metric, RankMetric
from baselines.testing import ContractError, check_metric


class Precision(RankMetric):
    symbol = "P"

    def of_rank(self, rank: Any, cutoff: float) -> Any:
        return (rank < cutoff) / cutoff


class Unnamed(Precision):
    symbol = ""


class NeedsMore(Precision):
    def __init__(self, base: int) -> None:
        self.base = base


class Mean(Precision):
    def of_rank(self, rank: Any, cutoff: float) -> Any:
        return super().of_rank(rank, cutoff).mean()


class Endless(Precision):
    def of_rank(self, rank: Any, cutoff: float) -> Any:
        return 1 - rank / cutoff


class Normalised(Precision):
    def of_rank(self, rank: Any, cutoff: float) -> Any:
        values = super().of_rank(rank, cutoff)
        return values / (1 + values.sum())


class Upside(Precision):
    def of_rank(self, rank: Any, cutoff: float) -> Any:
        return np.where(rank < cutoff, rank, 0.0)


class Writes(Precision):
    def of_rank(self, rank: Any, cutoff: float) -> Any:
        rank += 1
        return super().of_rank(rank, cutoff)


class Undefined(Precision):
    def of_rank(self, rank: Any, cutoff: float) -> Any:
        with np.errstate(divide="ignore"):
            return np.where(rank < cutoff, 1 / rank, 0)


class Length(ListMetric):
    symbol = "length"

    def of_lists(self, items: Any, popularity: Any) -> float:
        return float((items >= 0).sum(axis=1).mean())


class FirstUser(Length):
    def of_lists(self, items: Any, popularity: Any) -> float:
        return float(items[0, 0])


class Counts(Length):
    calls = itertools.count()

    def of_lists(self, items: Any, popularity: Any) -> float:
        return float(next(self.calls))


class ReadsPadding(Length):
    def of_lists(self, items: Any, popularity: Any) -> float:
        return float("nan") if (items < 0).any() else 0.0


@pytest.mark.parametrize("metric", [*METRICS, Precision, Length])
def test_what_keeps_the_contract_passes(metric: type[Metric] | str) -> None:
    check_metric(metric)


@pytest.mark.parametrize(
    ("metric", "clause"),
    [
        (RankMetric, "build"),
        (NeedsMore, "build"),
        (dict, "build"),
        (Unnamed, "symbol"),
        (Mean, "values"),
        (Undefined, "values"),
        (ReadsPadding, "values"),
        (Writes, "determinism"),
        (Counts, "determinism"),
        (Normalised, "alone"),
        (Upside, "order"),
        (Endless, "cutoff"),
        (FirstUser, "users"),
    ],
)
def test_a_broken_clause_is_named(metric: Any, clause: str) -> None:
    with pytest.raises(ContractError, match="contract of metrics") as error:
        check_metric(metric)
    assert error.value.clause == clause
    assert "\n" not in str(error.value)
