"""Differences that the table of a comparison does not hold, from the metrics of its users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from baselines.experiments.comparison import Comparison, Difference, RunRecord, compare
from baselines.experiments.controls import TWO_SEEDS


def differences_of(
    folder: Path,
    comparison: Comparison,
    *,
    arms: Sequence[str],
    reference: str | None,
    pairs: Sequence[tuple[str, str]],
) -> tuple[Difference, ...]:
    """Differences in the headline metrics, under the first seen-item policy.

    Statistics are those of `compare`; Holm's correction runs over the arms against the reference,
    and over the pairs.

    Args:
        folder: The comparison's folder, with ``per_user.parquet``.
        comparison: Its table.
        arms: The rows to measure.
        reference: The row that all of them are measured against; None for none.
        pairs: Rows of ``arms`` and what each of them is measured against besides.
    """
    able = [arm for arm in arms if not arm.endswith(TWO_SEEDS)]
    wanted = [*able, *([] if reference is None else [reference])]
    if not able or (reference is None and not pairs):
        return ()
    table = pl.read_parquet(
        folder / "per_user.parquet", columns=["arm", "seed", "policy", *comparison.headlines]
    ).filter(pl.col("policy") == comparison.policies[0], pl.col("arm").is_in(wanted))
    records = list(_records(table, comparison, able))
    known = {record.arm for record in records}
    pairs = [pair for pair in pairs if known.issuperset(pair)]
    return compare(records, baseline=reference or able[0], pairs=pairs).differences


def _records(
    table: pl.DataFrame, comparison: Comparison, arms: Sequence[str]
) -> Iterator[RunRecord]:
    policy = comparison.policies[0]
    for (arm, seed), of_run in table.group_by("arm", "seed", maintain_order=True):
        values = {name: of_run[name].to_numpy() for name in comparison.headlines}
        yield RunRecord(
            arm=str(arm),
            role="arm" if arm in arms else "reference",
            seed=None if seed is None else int(str(seed)),
            per_user={policy: values},
            parameters=0,
            train_seconds=0.0,
        )
