"""Comparison of runs: means over seeds, and differences tested over users and seeds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from baselines.evaluation.random_effects import (
    Gain,
    Needed,
    Runs,
    needed,
    paired_difference,
    summarize_runs,
)
from baselines.evaluation.significance import holm
from semid.arrays import FloatArray, IntArray
from semid.provenance import atomic_write, read_json
from semid.settings import from_json

_METHOD = {
    "interval": "t intervals with users and seeds as random effects, paired by user",
    "test": "two-sided, from the same t distribution",
    "correction": "Holm's correction over the arms compared with one reference, and over the pairs",
}

POWER = 0.8
"""Probability of finding a difference with the users or seeds that it is said to need."""

Role = Literal["reference", "teacher", "arm"]
"""The role of a row: a reference such as popularity, a teacher, or an arm."""

HEADLINES = ("R@10", "N@10")
"""Metrics shown on the console; the page has all metrics of the rows, the JSON everything."""


def headlines_of(metrics: Sequence[str]) -> tuple[str, ...]:
    """The headline metrics among these, or else the first two."""
    return tuple(name for name in HEADLINES if name in metrics) or tuple(metrics[:2])


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRecord:
    """The results of one trained model, which are all that a comparison needs.

    Attributes:
        arm: Label of the row; the seeds of one arm share it.
        role: Role of the row; the same for all seeds of an arm.
        seed: Seed of the run, ``None`` if nothing is random.
        per_user: Metric values by seen-item policy (``"removed"``, ``"kept"``) and metric name:
            finite float64 ``(user,)``, the same users in the same order in all records.
        parameters: Number of trained parameters.
        train_seconds: Wall time of the training.
        evaluation: Other results of the evaluation (beam, seconds, …), as JSON values.
        consistency: Share of users whose top item is the teacher's top item, in [0, 1];
            ``None`` without a teacher.
        is_pair: Whether the run combines the models of its seed and of the arm's next seed.
        top: The list of each user: int64 ``(user, place)``, rows of the best unseen items, best
            first, -1 where no more are left; ``None`` if it is not known.
    """

    arm: str
    role: Role
    seed: int | None
    per_user: Mapping[str, Mapping[str, FloatArray]]
    parameters: int
    train_seconds: float
    evaluation: dict[str, Any] = field(default_factory=dict)
    consistency: float | None = None
    is_pair: bool = False
    top: IntArray | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Mean over seeds, and their sample standard deviation (``None`` for a single run)."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Summarise one value per seed."""
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(mean=float(np.mean(values)), sd=sd)


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm: its results over seeds, by policy and metric, and the average cost per seed."""

    arm: str
    role: Role
    seeds: tuple[int | None, ...]
    metrics: dict[str, dict[str, Estimate]]
    parameters: int
    train_seconds: float
    consistency: Estimate | None
    evaluations: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm minus a reference, paired by user; users and seeds are random effects.

    Attributes:
        arm: The arm whose gain this is.
        reference: The row it is measured against.
        policy: Seen-item policy.
        metric: Name of the metric.
        mean: Mean over users and seeds of ``arm - reference``.
        relative: ``100 * mean / mean(reference)``; ``None`` if the reference is exactly zero.
        d_z: Cohen's d_z over users, each averaged over seeds.
        low: Lower end of the interval of ``mean``.
        high: Upper end.
        p: Two-sided p-value of "no difference".
        p_holm: ``p`` after Holm's correction over the arms compared with this reference or, if it
            is neither baseline nor teacher, over the pairs of arms.
        df: Degrees of freedom of the t distribution of interval and p-value.
        seed_sd: Standard deviation of the difference over seeds, one run each, on the same users;
            ``None`` if either side was trained on one seed, so that the interval holds for these
            trained models only.
        needed_users: Users that find a difference of this size with 80 % power and these seeds;
            ``None`` if no number does.
        needed_seeds: Seeds per side that find it with these users; ``None`` if no number does, or
            seed noise is unknown or absent.
    """

    arm: str
    reference: str
    policy: str
    metric: str
    mean: float
    relative: float | None
    d_z: float
    low: float
    high: float
    p: float
    p_holm: float
    df: float
    seed_sd: float | None
    needed_users: int | None
    needed_seeds: int | None


@dataclass(frozen=True, kw_only=True)
class StratumResult:
    """The results of all rows within one stratum of the targets.

    Attributes:
        kind: What the targets are divided by.
        name: The part that these belong to.
        users: Their number.
        metrics: By label of the row, policy and metric, the mean of these users.
    """

    kind: str
    name: str
    users: int
    metrics: dict[str, dict[str, dict[str, Estimate]]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms and their references.

    Attributes:
        settings: Settings behind the numbers: split, candidates, beam, ties, seeds, ….
        schemes: Cards of the arms' semantic IDs (``baselines.experiments.schemes.scheme_card``).
        statistics: How intervals and p-values were computed, in words and numbers.
        baseline: Label of the row that gains are measured against.
        teachers: Labels of the teachers, which gains are measured against as well.
        rows: References, then teachers, then arms; never sorted by result, and never omitted.
        differences: Each arm against the baseline and each teacher, and pairs of arms, by policy
            and metric.
        strata: The headline metrics by stratum.
        cold_start: Of a split with cold items, the same rows on ``overall``, ``warm`` and ``cold``
            targets (``baselines.experiments.cold_study.by_part``); else empty.
    """

    settings: dict[str, Any]
    schemes: tuple[dict[str, Any], ...]
    statistics: dict[str, Any]
    baseline: str
    teachers: tuple[str, ...]
    rows: tuple[ArmRow, ...]
    differences: tuple[Difference, ...]
    strata: tuple[StratumResult, ...] = ()
    cold_start: dict[str, Comparison] = field(default_factory=dict)

    @property
    def policies(self) -> tuple[str, ...]:
        """Seen-item policies, in the order of the records."""
        return tuple(self.rows[0].metrics)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Metrics, in the order of the records."""
        return tuple(self.rows[0].metrics[self.policies[0]])

    @property
    def headlines(self) -> tuple[str, ...]:
        """The headline metrics that the records have, or else their first two metrics."""
        return headlines_of(self.metric_names)

    @property
    def references(self) -> tuple[str, ...]:
        """Labels of the rows that arms are measured against: the baseline, then the teachers."""
        return tuple(dict.fromkeys((self.baseline, *self.teachers)))

    def difference(self, arm: str, reference: str, *, policy: str, metric: str) -> Difference:
        """Look up one difference; ``KeyError`` if this pair is not measured."""
        wanted = (arm, reference, policy, metric)
        for found in self.differences:
            if (found.arm, found.reference, found.policy, found.metric) == wanted:
                return found
        raise KeyError(f"no difference of {arm!r} to {reference!r} on {metric} ({policy})")

    @classmethod
    def read(cls, path: str | Path) -> Comparison:
        """What `to_json` has written.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds anything else.
        """
        found = read_json(Path(path), take_unsealed=True)
        if found is None:
            raise FileNotFoundError(f"no file {path}")
        return from_json(cls, found)

    def to_json(self, path: str | Path) -> None:
        """Write everything to ``path`` atomically: a reader sees the old file or the new one."""
        atomic_write(Path(path), json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")


def compare(
    records: Sequence[RunRecord],
    *,
    baseline: str,
    pairs: Sequence[tuple[str, str]] = (),
    settings: Mapping[str, Any] | None = None,
    schemes: Sequence[Mapping[str, Any]] = (),
    confidence: float = 0.95,
) -> Comparison:
    """Compare runs, testing every arm against the baseline and the teachers.

    Intervals and p-values describe variation over users and over seeds
    (``baselines.evaluation.random_effects``). The noise of a row trained on one seed is unknown:
    its intervals hold for that model only. Holm's correction runs over the arms compared with one
    reference, and over the pairs, separately for each policy and metric.

    Args:
        records: All runs in any order.
        baseline: Label of the arm that gains are measured against.
        pairs: Labels of an arm and of a counterpart that it is measured against as well, unless
            that is the baseline.
        settings: Other settings behind the numbers, recorded unchanged (JSON values).
        schemes: Cards of the arms' semantic IDs (``baselines.experiments.schemes.scheme_card``).
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The comparison, with a row for every label in ``records``.

    Raises:
        ValueError: If there is no such baseline, a run appears twice, an arm changes its role,
            records differ in users, policies or metrics, there are fewer than two users, or a
            value is not finite.
    """
    arms = runs_by_arm(records)
    if baseline not in arms:
        raise ValueError(f"baseline must be one of {', '.join(arms)}, got {baseline!r}")
    rows = tuple(_row(runs) for runs in arms.values())
    teachers = tuple(row.arm for row in rows if row.role == "teacher")
    columns = [(policy, metric) for policy in rows[0].metrics for metric in rows[0].metrics[policy]]
    runs_of_arm = {arm: _summary(runs, columns) for arm, runs in arms.items()}
    return Comparison(
        settings=dict(settings or {}),
        schemes=tuple(dict(card) for card in schemes),
        statistics={
            "users": _num_users(records[0]),
            "confidence": confidence,
            "power": POWER,
            **_METHOD,
        },
        baseline=baseline,
        teachers=teachers,
        rows=rows,
        differences=tuple(
            found
            for family in _families(rows, baseline, teachers, pairs)
            if family
            for found in _differences(family, runs_of_arm, columns, confidence)
        ),
    )


def _families(
    rows: Sequence[ArmRow],
    baseline: str,
    teachers: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> list[list[tuple[str, str]]]:
    """Arms against the baseline, against each teacher, and pairs; families of Holm's correction."""
    arms = [row.arm for row in rows if row.role == "arm"]
    families = [
        [(arm, reference) for arm in arms if arm != reference]
        for reference in dict.fromkeys((baseline, *teachers))
    ]
    return [*families, [pair for pair in pairs if pair[1] != baseline]]


def _differences(
    family: Sequence[tuple[str, str]],
    runs_of_arm: Mapping[str, Runs],
    columns: Sequence[tuple[str, str]],
    confidence: float,
) -> Iterator[Difference]:
    """The differences of one family of arms and references, Holm-corrected column by column.

    Args:
        family: Pairs of an arm and its reference.
        runs_of_arm: Runs by label, with the same columns.
        columns: Policy and metric of each column.
        confidence: Coverage of the intervals.
    """
    gains = [
        paired_difference(runs_of_arm[arm], runs_of_arm[reference], confidence=confidence)
        for arm, reference in family
    ]
    p_holm = holm(np.stack([gain.p for gain in gains]))
    for (arm, reference), gain, adjusted in zip(family, gains, p_holm, strict=True):
        level = runs_of_arm[reference].users.mean(axis=0)
        sizes = _needed(gain, runs_of_arm[arm], runs_of_arm[reference], confidence)
        for c, (policy, metric) in enumerate(columns):
            yield Difference(
                arm=arm,
                reference=reference,
                policy=policy,
                metric=metric,
                mean=float(gain.mean[c]),
                relative=float(100 * gain.mean[c] / level[c]) if level[c] else None,
                d_z=float(gain.d_z[c]),
                low=float(gain.low[c]),
                high=float(gain.high[c]),
                p=float(gain.p[c]),
                p_holm=float(adjusted[c]),
                df=float(gain.df[c]),
                seed_sd=None
                if gain.variances.seed_is_unknown
                else float(np.sqrt(gain.variances.seed[c])),
                needed_users=_count(sizes.users[c]),
                needed_seeds=_count(sizes.seeds[c]),
            )


def _needed(gain: Gain, arm: Runs, reference: Runs, confidence: float) -> Needed:
    repeated = [runs.seeds for runs in (arm, reference) if runs.seeds > 1]
    return needed(
        gain.mean,
        gain.variances,
        users=len(arm.users),
        seeds=min(repeated, default=1),
        power=POWER,
        alpha=1 - confidence,
    )


def _count(number: float) -> int | None:
    return int(number) if np.isfinite(number) else None


def write_per_user(
    records: Sequence[RunRecord], path: str | Path, *, users: Sequence[str | int] | None = None
) -> None:
    """Write every user's metric values as one parquet table, atomically.

    Columns: ``user``, ``arm``, ``seed`` (null if nothing is random), ``policy``, then one
    float64 column for each metric.

    Args:
        records: Runs over the same users.
        path: The file to write.
        users: The users' IDs in the order of the records; by default ``0 .. users - 1``.

    Raises:
        ValueError: If the records do not fit together, or ``users`` has another length.
    """
    import polars as pl

    runs_by_arm(records)
    num_users = _num_users(records[0])
    names = list(range(num_users)) if users is None else list(users)
    if len(names) != num_users:
        raise ValueError(f"users must name the {num_users} users of the records, got {len(names)}")
    metrics = next(iter(records[0].per_user.values()))
    frames = [
        pl.DataFrame({"user": names, **values})
        .with_columns(
            arm=pl.lit(record.arm),
            seed=pl.lit(record.seed, dtype=pl.Int64),
            policy=pl.lit(policy),
        )
        .select("user", "arm", "seed", "policy", *metrics)
        for record in records
        for policy, values in record.per_user.items()
    ]
    buffer = io.BytesIO()
    pl.concat(frames).write_parquet(buffer)
    atomic_write(Path(path), buffer.getvalue())


def runs_by_arm(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs by arm, ordered by role, then first appearance; refuses runs that cannot be compared."""
    if not records:
        raise ValueError("a comparison needs at least one run record, got none")
    arms: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: get_args(Role).index(record.role)):
        _require_comparable(record, records[0])
        runs = arms.setdefault(record.arm, [])
        if any(run.role != record.role for run in runs):
            raise ValueError(
                f"arm {record.arm!r} must keep one role, got two: give one a new label"
            )
        if any(run.seed == record.seed for run in runs):
            raise ValueError(f"arm {record.arm!r} has seed {record.seed} twice: pass each run once")
        runs.append(record)
    return arms


def _require_comparable(record: RunRecord, first: RunRecord) -> None:
    metrics, expected = (
        {policy: sorted(values) for policy, values in run.per_user.items()}
        for run in (record, first)
    )
    if metrics != expected:
        raise ValueError(
            f"all runs must hold the same policies and metrics: {first.arm!r} has {expected}, "
            f"{record.arm!r} has {metrics}. Evaluate them with the same options"
        )
    if any(names != next(iter(metrics.values())) for names in metrics.values()):
        raise ValueError(f"every policy must hold the same metrics, got {metrics}")
    if _num_users(record) != _num_users(first):
        raise ValueError(
            f"all runs must cover the same users: {first.arm!r} has {_num_users(first)}, "
            f"{record.arm!r} has {_num_users(record)}. Were they evaluated on the same split?"
        )


def _num_users(record: RunRecord) -> int:
    """The number of users of one record; refuses values without a finite mean."""
    arrays = [of_user for values in record.per_user.values() for of_user in values.values()]
    counts = {len(of_user) for of_user in arrays}
    if len(counts) != 1 or 0 in counts or not all(np.isfinite(of_user).all() for of_user in arrays):
        raise ValueError(
            f"{record.arm!r} must hold a finite value of every metric for each of its users, "
            f"got {sorted(counts)} values. Did its evaluation finish?"
        )
    return counts.pop()


def _summary(runs: Sequence[RunRecord], columns: Sequence[tuple[str, str]]) -> Runs:
    values = np.empty((len(runs), _num_users(runs[0]), len(columns)))
    for of_seed, run in zip(values, runs, strict=True):
        for c, (policy, metric) in enumerate(columns):
            of_seed[:, c] = run.per_user[policy][metric]
    first = runs[0]
    return summarize_runs(values, is_random=first.seed is not None, cyclic_pairs=first.is_pair)


def _row(runs: Sequence[RunRecord]) -> ArmRow:
    agreement = [run.consistency for run in runs if run.consistency is not None]
    return ArmRow(
        arm=runs[0].arm,
        role=runs[0].role,
        seeds=tuple(run.seed for run in runs),
        metrics={
            policy: {
                metric: Estimate.of([float(run.per_user[policy][metric].mean()) for run in runs])
                for metric in values
            }
            for policy, values in runs[0].per_user.items()
        },
        parameters=runs[0].parameters,
        train_seconds=float(np.mean([run.train_seconds for run in runs])),
        consistency=Estimate.of(agreement) if agreement else None,
        evaluations=tuple(run.evaluation for run in runs),
    )
