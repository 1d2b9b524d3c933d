"""The contract of metrics."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any, NoReturn

import numpy as np

from baselines.evaluation.beyond_accuracy import Diversity
from baselines.evaluation.config import METRICS, EvaluationConfig, parse_selection
from baselines.evaluation.metrics import (
    ListMetric,
    Metric,
    RankMetric,
    load_metric,
)
from baselines.testing.holding import holding
from semid.arrays import FloatArray, IntArray
from semid.checks import ContractError

_holding = partial(holding, contract="metrics")

_CUTOFFS = (1, 3, 10, math.inf)
_RANKS = np.arange(40)
_LISTS = np.array([[3, 1, 0], [2, 3, -1], [0, 5, 1], [-1, -1, -1]])
_POPULARITY = np.array([7, 4, 2, 2, 0, 1])


def check_metric(metric: type[Metric] | str) -> None:
    """Run a metric through every clause of the contract.

    ===============  ============================================================================
    clause           what holds
    ===============  ============================================================================
    ``build``        it is a ``RankMetric`` or a ``ListMetric``, built without arguments
    ``symbol``       it has a symbol, its name in reports
    ``values``       it has a finite value for each rank, or one for all lists
    ``determinism``  equal inputs give equal values, and inputs are not modified
    ``alone``        a rank's value does not depend on the other ranks in the call
    ``order``        no rank is worth more than a better one
    ``cutoff``       a rank beyond the list is worth nothing
    ``users``        the order of the users' lists does not matter
    ===============  ============================================================================

    Args:
        metric: The class, its ``package.module:Class``, or the name of a built-in one.

    Raises:
        ContractError: At the first broken clause: its name, what was expected, what was found.
        ValueError: If a name cannot be imported.
    """
    name = metric if isinstance(metric, str) else metric.__name__
    with _holding(name, "build", "to be made without arguments"):
        made = load_metric(metric) if isinstance(metric, str) else _complete(metric)()
    if not isinstance(made, RankMetric | ListMetric | Diversity):
        _broken(name, "build", f"expected a RankMetric or a ListMetric, got {made!r}.")
    if not isinstance(getattr(made, "symbol", None), str) or not made.symbol:
        _broken(name, "symbol", "expected a symbol such as 'P', got none.")
    if isinstance(made, RankMetric):
        _check_ranks(made, name)
    elif isinstance(made, ListMetric):
        _check_lists(made, name)


def check_own_metrics(evaluation: EvaluationConfig) -> None:
    """Run the metrics in the settings that are not built in through the contract.

    Raises:
        ContractError: At the first broken clause.
        ValueError: If one cannot be imported.
    """
    selected_by, _ = parse_selection(evaluation.selected_by)
    for name in dict.fromkeys((*evaluation.metrics, selected_by)):
        if name not in METRICS:
            check_metric(name)


def _complete(metric: type[Metric]) -> type[Metric]:
    if missing := inspect.isabstract(metric) and sorted(metric.__abstractmethods__):
        raise TypeError(f"a class without {', '.join(missing)}")
    return metric


def _check_ranks(metric: RankMetric, name: str) -> None:
    for cutoff in _CUTOFFS if metric.has_cutoff else (math.inf,):
        asked = _RANKS.copy()
        values = _values(metric, name, asked, cutoff)
        if (
            not (asked == _RANKS).all()
            or not (values == _values(metric, name, asked, cutoff)).all()
        ):
            _broken(name, "determinism", "expected equal values of equal ranks, left unchanged.")
        if not np.allclose(_values(metric, name, _RANKS[:1], cutoff), values[0]):
            _broken(name, "alone", "expected the value of rank 0 whatever other ranks are asked.")
        if (np.diff(values) > 0).any():
            _broken(name, "order", f"expected no rank worth more than a better one, got {values}.")
        if (values[cutoff <= _RANKS] != 0).any():
            _broken(name, "cutoff", f"expected 0 from rank {cutoff} on at a cutoff of {cutoff}.")


def _values(metric: RankMetric, name: str, ranks: IntArray, cutoff: float) -> FloatArray:
    with _holding(name, "values", "a value for each rank"):
        values = np.asarray(metric.of_rank(ranks, cutoff), dtype=np.float64)
    if values.shape != ranks.shape or not np.isfinite(values).all():
        _broken(name, "values", f"expected {ranks.shape} finite values, got {values}.")
    return values


def _check_lists(metric: ListMetric, name: str) -> None:
    items, popularity = _LISTS.copy(), _POPULARITY.copy()
    value = _value(metric, name, items, popularity)
    unchanged = (items == _LISTS).all() and (popularity == _POPULARITY).all()
    if not unchanged or value != _value(metric, name, items, popularity):
        _broken(name, "determinism", "expected equal values of equal lists, left unchanged.")
    other = _value(metric, name, items[::-1], popularity)
    if not math.isclose(other, value, rel_tol=1e-9):
        _broken(name, "users", f"expected {value} in any order of the users, got {other}.")


def _value(metric: ListMetric, name: str, items: IntArray, popularity: IntArray) -> float:
    with _holding(name, "values", "a number of all lists, in which -1 is no item"):
        value: Any = float(metric.of_lists(items, popularity))
    if not math.isfinite(value):
        _broken(name, "values", f"expected a finite number, got {value}.")
    return float(value)


def _broken(name: str, clause: str, message: str) -> NoReturn:
    raise ContractError(name, clause, message, contract="metrics")
