"""Judges a log of requests by what its users did later, and compares its arms."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from baselines.data.config import source_kind
from baselines.data.dates import units_per_second
from baselines.data.plain_layout import only_table, read_table
from baselines.evaluation.config import DEFAULT_CUTOFFS, RANK_METRICS
from baselines.evaluation.metrics import MISS, load_rank_metric, metric_values
from baselines.evaluation.significance import UserSums, holm, unpaired_bootstrap
from baselines.serving.log_reading import MICROSECONDS, read_log
from semid.arrays import FloatArray
from semid.atomic import atomic_write
from semid.columns import as_ids, as_times
from semid.provenance import write_json

LATER = "share with a later event"
"""Label of the share of requests after which their user had an event."""
_PERCENTILES = (50, 95, 99)
_HOUR = 3600 * MICROSECONDS


class Estimate(NamedTuple):
    """A mean over requests, with its 95 % interval from a bootstrap over users."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """What became of the requests that one model of one arm answered.

    Attributes:
        arm: Name of the arm.
        model: Hash of the model.
        requests: Number of answered requests.
        refused: Number of requests that it did not answer, such as those past the deadline.
        users: Number of users who sent the answered ones; requests without a user have none.
        later_events: Number of requests of these users that one of their events followed.
        measures: ``LATER``, a share of the requests with a user; and the metrics, means over the
            requests with a later event. Empty if there are none.
        latency_ms: Percentiles over the answered requests, by ``p50``, ``p95`` and ``p99``.
    """

    arm: str
    model: str
    requests: int
    refused: int
    users: int
    later_events: int
    measures: dict[str, Estimate]
    latency_ms: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A measure of one arm, all its models together, minus that of another.

    Attributes:
        arm: The arm.
        reference: The other one.
        measure: ``LATER`` or a metric.
        difference: The difference, with its 95 % interval.
        p: Two-sided p-value of an unpaired bootstrap over users.
        holm: The same, adjusted for the number of pairs of arms.
    """

    arm: str
    reference: str
    measure: str
    difference: Estimate
    p: float
    holm: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedEvaluation:
    """The requests of a log, and the next event of each one's user.

    Attributes:
        requests: As ``read_log``, with ``target``, the ID of the user's next event after the
            request, null if there is none; and ``rank``, its place in the list from 0, ``MISS``
            if it is not listed.
        within_hours: Hours after a request in which the next event counts; None for any time.
        metrics: Names of metrics of the target's rank.
        cutoffs: List lengths to report them at; a list that is shorter is taken as it is.
    """

    requests: pl.DataFrame
    within_hours: float | None
    metrics: tuple[str, ...]
    cutoffs: tuple[int, ...]

    @classmethod
    def of(
        cls,
        log: str | Path,
        data: str | Path,
        *,
        within_hours: float | None = None,
        metrics: Sequence[str] | None = None,
        cutoffs: Sequence[int] | None = None,
        time_format: str | None = None,
    ) -> LoggedEvaluation:
        """Find the next event of the user of each request.

        It is the user's first event with a later time than the request, whether or not the user
        has asked again before it; IDs are compared as text.

        Args:
            log: A file written by ``semid serve --log``.
            data: The events: a file, or a folder with ``interactions``, with ``user_id``,
                ``item_id`` and ``timestamp``.
            within_hours: Hours after a request in which the event must lie; None for any time.
            metrics: Names of metrics of the target's rank; None for all that are built in.
            cutoffs: List lengths; None for 5, 10 and 20 up to the longest list of the log.
            time_format: Format of dates given as text; None to detect it.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a line of the log, the events or a setting is invalid, or no request
                names its user.
        """
        for name in metrics or ():
            load_rank_metric(name)
        requests = read_log(log)
        if requests["user_id"].null_count() == len(requests):
            raise ValueError(
                f"{log}: expected requests that name their user, got none of {len(requests)}: send "
                "user along with the history"
            )
        longest = int(requests["items"].list.len().fill_null(0).to_numpy().max())
        usual = [cutoff for cutoff in DEFAULT_CUTOFFS if cutoff <= longest]
        return cls(
            requests=_with_ranks(requests, read_events(data, time_format), within_hours),
            within_hours=within_hours,
            metrics=tuple(metrics or RANK_METRICS),
            cutoffs=tuple(cutoffs or usual or DEFAULT_CUTOFFS[:1]),
        )

    @cached_property
    def _answered(self) -> pl.DataFrame:
        """Answered requests, with the values of ``measures`` in columns of these names."""
        answered = self.requests.filter(pl.col("status") == 200)
        followed = answered["target"].is_not_null()
        better = answered.filter(followed)["rank"].to_numpy()
        values = metric_values(
            better, np.zeros_like(better), metrics=self.metrics, cutoffs=self.cutoffs
        )
        columns = [pl.when(pl.col("user_id").is_not_null()).then(followed).alias(LATER)]
        answered = answered.with_columns(column.cast(pl.Float64) for column in columns)
        places = np.flatnonzero(followed.to_numpy())
        for label, found in values.items():
            column = np.full(len(answered), np.nan)
            column[places] = found
            answered = answered.with_columns(pl.Series(label, column).fill_nan(None))
        return answered

    @property
    def measures(self) -> list[str]:
        """``LATER``, and the labels of the metrics."""
        return self._answered.columns[self.requests.width :]

    @cached_property
    def arms(self) -> list[ArmResult]:
        """The results of each arm and model, by arm and first request."""
        names = (
            self.requests.select("arm", "model")
            .unique(maintain_order=True)
            .sort("arm", maintain_order=True)
        )
        return [self._result(arm, model) for arm, model in names.iter_rows()]

    def _result(self, arm: str, model: str) -> ArmResult:
        own = (pl.col("arm") == arm) & (pl.col("model") == model)
        asked, answered = self.requests.filter(own), self._answered.filter(own)
        latency = answered["latency_ms"].to_numpy()
        points = np.percentile(latency, _PERCENTILES) if len(latency) else []
        measures: dict[str, Estimate] = {}
        for labels, sums in self._sums(answered):
            found = unpaired_bootstrap(sums)
            ends = zip(sums.means.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
            measures |= {
                label: Estimate(*values) for label, values in zip(labels, ends, strict=True)
            }
        return ArmResult(
            arm=arm,
            model=model,
            requests=len(answered),
            refused=len(asked) - len(answered),
            users=answered["user_id"].drop_nulls().n_unique(),
            later_events=len(answered["target"].drop_nulls()),
            measures=measures,
            latency_ms={
                f"p{percent}": float(point)
                for percent, point in zip(_PERCENTILES, points, strict=False)
            },
        )

    def _sums(self, answered: pl.DataFrame) -> Iterator[tuple[list[str], UserSums]]:
        """The sums by user of the measures, of each set of those with the same requests."""
        for labels in (self.measures[:1], self.measures[1:]):
            by_user = (
                answered.filter(pl.col(labels[0]).is_not_null())
                .group_by("user_id")
                .agg(pl.col(labels).sum(), pl.len().cast(pl.Float64).alias("len"))
                .sort("user_id")
            )
            if len(by_user):
                sums: FloatArray = by_user.select(labels).to_numpy()
                yield labels, UserSums(sums, by_user["len"].to_numpy())

    @property
    def users_of_several_arms(self) -> list[str]:
        """Users whom more than one arm answered; differences leave them out."""
        by_user = self._answered.drop_nulls("user_id").group_by("user_id")
        several = by_user.agg(pl.col("arm").n_unique()).filter(pl.col("arm") > 1)
        return sorted(several["user_id"])

    @cached_property
    def differences(self) -> list[Difference]:
        """Differences of all pairs of arms in all measures, over users of one arm only."""
        alone = self._answered.filter(~pl.col("user_id").is_in(self.users_of_several_arms))
        sums = {
            str(arm): dict(
                (tuple(labels), found) for labels, found in self._sums(alone.filter(arm=arm))
            )
            for arm in sorted(self._answered["arm"].unique())
        }
        found: list[Difference] = []
        for labels in (tuple(self.measures[:1]), tuple(self.measures[1:])):
            of_arms = {arm: parts[labels] for arm, parts in sums.items() if labels in parts}
            found += _differences(of_arms, labels)
        return sorted(found, key=lambda each: (each.reference, each.arm))

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of requests and users, by what they are."""
        return {
            "requests": len(self.requests),
            "requests without a user": self._answered["user_id"].null_count(),
            "users of several arms, left out of differences": len(self.users_of_several_arms),
        }

    def write(self, folder: Path) -> None:
        """Write ``metrics.json``, and ``ranks.parquet`` with one row per answered request.

        Its columns: ``request``, ``user_id``, ``arm``, ``model``; ``item_id``, the next event's;
        and ``better``, its place in the list from 0. The last two are null where there is none.
        """
        listed = pl.col("rank") != MISS
        ranks = self._answered.select(
            *("request", "user_id", "arm", "model"),
            pl.col("target").alias("item_id"),
            pl.when(listed).then("rank").alias("better"),
        )
        buffer = io.BytesIO()
        ranks.write_parquet(buffer)
        atomic_write(folder / "ranks.parquet", buffer.getvalue())
        write_json(folder / "metrics.json", self._summary())

    def _summary(self) -> dict[str, Any]:
        return {
            "protocol": {
                "target": "the user's next event after the request",
                "within_hours": self.within_hours,
            },
            "counts": self.counts,
            "arms": [{**asdict(arm), "measures": _as_json(arm.measures)} for arm in self.arms],
            "differences": [
                {**asdict(one), "difference": one.difference._asdict()} for one in self.differences
            ],
        }


def read_events(data: str | Path, time_format: str | None = None) -> pl.DataFrame:
    """Read events as ``user_id`` and ``item_id``, text, and ``time``, microseconds since 1970.

    Args:
        data: A file, or a folder with ``interactions``, with ``user_id``, ``item_id`` and
            ``timestamp``: dates, or numbers since 1970 whose size tells their unit.
        time_format: Format of dates given as text; None to detect it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no file of events with times, or no event is whole.
    """
    if (kind := source_kind(data)) not in ("file", "folder"):
        raise ValueError(f"expected a file or folder of the log's later events, got {kind} {data}")
    path = only_table(Path(data), "interactions") if kind == "folder" else Path(data)
    table = read_table(path, ids=("user_id", "item_id"), required=("timestamp",))
    try:
        times = as_times(table["timestamp"], time_format)
        events = pl.DataFrame(
            {name: as_ids(table[name]).cast(pl.String) for name in ("user_id", "item_id")}
        ).with_columns(_in_microseconds(times).alias("time"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    whole = events.drop_nulls()
    if not len(whole):
        raise ValueError(f"{path}: expected events, got none without a missing value")
    return whole


def _in_microseconds(times: pl.Series) -> pl.Series:
    latest = times.drop_nulls().cast(pl.Float64).abs().to_numpy().max(initial=0.0)
    per_second = units_per_second(latest)
    if times.dtype == pl.Int64 and per_second <= MICROSECONDS:
        return times * (MICROSECONDS // per_second)
    if times.dtype == pl.Int64:
        return times // (per_second // MICROSECONDS)
    return (times * (MICROSECONDS / per_second)).round().cast(pl.Int64, strict=False)


def _with_ranks(
    requests: pl.DataFrame, events: pl.DataFrame, within_hours: float | None
) -> pl.DataFrame:
    """The requests with ``target`` and ``rank``."""
    requests = requests.with_row_index("row")
    events = events.sort("time", maintain_order=True).unique(
        ["user_id", "time"], keep="first", maintain_order=True
    )
    targets = (
        requests.select("row", "user_id", "time")
        .drop_nulls()
        .sort("time")
        .join_asof(
            events.rename({"item_id": "target"}),
            on="time",
            by="user_id",
            strategy="forward",
            allow_exact_matches=False,
            tolerance=None if within_hours is None else round(within_hours * _HOUR),
            check_sortedness=False,  # both are sorted, which polars cannot see within users
        )
        .select("row", "target")
    )
    listed = requests.join(targets, on="row", how="left", maintain_order="left")
    rank = (
        listed.select(
            "row", "target", "items", pl.int_ranges(pl.col("items").list.len()).alias("rank")
        )
        .filter(pl.col("target").is_not_null() & (pl.col("items").list.len() > 0))
        .explode("items", "rank")
        .filter(pl.col("items") == pl.col("target"))
        .group_by("row")
        .agg(pl.col("rank").min())
    )
    return (
        listed.join(rank, on="row", how="left", maintain_order="left")
        .with_columns(pl.when(pl.col("target").is_not_null()).then(pl.col("rank").fill_null(MISS)))
        .drop("row")
    )


def _differences(sums: dict[str, UserSums], labels: Sequence[str]) -> list[Difference]:
    """The differences of all pairs of arms, whose measures have the same requests."""
    pairs = list(combinations(sums, 2))
    if not pairs:
        return []
    tests = [unpaired_bootstrap(sums[arm], sums[reference]) for reference, arm in pairs]
    adjusted = holm(np.stack([test.p for test in tests]))
    return [
        Difference(
            arm=arm,
            reference=reference,
            measure=label,
            difference=Estimate(
                float(sums[arm].means[column] - sums[reference].means[column]),
                float(test.low[column]),
                float(test.high[column]),
            ),
            p=float(test.p[column]),
            holm=float(adjusted[number, column]),
        )
        for number, ((reference, arm), test) in enumerate(zip(pairs, tests, strict=True))
        for column, label in enumerate(labels)
    ]


def _as_json(measures: dict[str, Estimate]) -> dict[str, dict[str, float]]:
    return {label: estimate._asdict() for label, estimate in measures.items()}
