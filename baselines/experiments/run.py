"""The main job: train and compare all arms on the same data, IDs, budget and seeds."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from baselines.data.dataset import Dataset
from baselines.evaluation.first_users import unshuffled_subsets
from baselines.evaluation.strata import strata_of, training_events
from baselines.experiments.arms import Arm
from baselines.experiments.claim import may_write
from baselines.experiments.cold_study import by_part
from baselines.experiments.comparison import Comparison, compare, write_per_user
from baselines.experiments.config import CompareConfig
from baselines.experiments.controls import control_records
from baselines.experiments.counted import counted_records
from baselines.experiments.folder import seeds_of_rows
from baselines.experiments.lists import EXAMPLES, LISTS, examples, write_lists
from baselines.experiments.opening import opened
from baselines.experiments.report import comparison_page
from baselines.experiments.rows import IN_THE_BEAM, ComparisonRun, popularity_row, rows_of_seed
from baselines.experiments.schemes import scheme_card
from baselines.experiments.settings import report_settings
from baselines.experiments.strata import stratified
from semid.atomic import atomic_write
from semid.distributed import distributed_state
from semid.provenance import ProvenanceError, write_json

logger = logging.getLogger(__name__)


def run_comparison(config: CompareConfig, dataset: Dataset | None = None) -> Comparison:
    """Run every unfinished stage, and write the comparison.

    Writes to ``config.out``: ``config.json``, ``data.json``, ``ids/`` and ``ids-<name>/``, a folder
    for each trained model, ``comparison.json``, ``comparison.md``, ``per_user.parquet``,
    ``lists.parquet`` and ``examples.json``. Several processes (``semid.distributed``) share
    training and ranking; only the main one writes.

    Args:
        config: The settings.
        dataset: The data, if already loaded; ``config.json`` then records their name as ``data``.
            None to read the data that ``config`` names.

    Raises:
        ValueError: If a setting does not fit the data, ``out`` holds results of other settings
            (``baselines.experiments.growth``) or other data, or another command is using it.
    """
    with opened(config, dataset) as run:
        return _compared(run)


def _compared(run: ComparisonRun) -> Comparison:
    config, out, splits = run.config, run.out, run.dataset.splits
    for warning in unshuffled_subsets(splits):
        logger.warning(warning)
    counted, missing = counted_records(run) if config.counted else ([], {})
    records = [popularity_row(run), *counted]
    for seed in config.seeds:
        records += rows_of_seed(run, seed)
    if config.fusion.controls:
        records += control_records(run, [arm for arm in run.arms if arm in run.fused])
    comparison = compare(
        records,
        baseline=run.arms[0].label,
        pairs=_pairs(run.arms, run.fused),
        settings={
            **report_settings(config, run.dataset, run.ids),
            **{f"no row {name}": reason for name, reason in missing.items()},
        },
        schemes=[scheme_card(scheme, ids, run.dataset) for scheme, ids in run.ids.items()],
    )
    events = training_events(splits.train, len(run.dataset.catalog))
    strata = strata_of(splits.test, events)
    comparison = replace(
        comparison,
        strata=stratified(records, strata, comparison.headlines),
        cold_start=by_part(records, run.dataset, baseline=comparison.baseline),
    )
    if distributed_state().is_main_process and may_write(out):
        _report_left_out(comparison, out)
        users = users_of_targets(run.dataset)
        write_per_user(records, out / "per_user.parquet", users=users)
        write_lists(records, run.dataset, users, out / LISTS)
        write_json(out / EXAMPLES, examples(records, run.dataset, users, run.ids))
        comparison.to_json(out / "comparison.json")
        atomic_write(out / "comparison.md", comparison_page(comparison))
    return comparison


def _report_left_out(comparison: Comparison, out: Path) -> None:
    """Name the finished rows and seeds of the table on disk that the new table lacks."""
    try:
        before = seeds_of_rows(out)
    except ProvenanceError:  # a damaged table is replaced
        return
    now = {row.arm: row.seeds for row in comparison.rows}
    rows = [label for label in before if label not in now]
    seeds = {
        seed
        for label in before.keys() & now
        for seed in before[label]
        if seed is not None and seed not in now[label]
    }
    left_out = [*rows, *(f"seed {seed}" for seed in sorted(seeds))]
    if left_out:
        logger.warning(
            "the table leaves out %s: finished, and kept in %s. Name them again to see them.",
            "; ".join(left_out),
            out,
        )


def _pairs(arms: Sequence[Arm], fused: Collection[Arm]) -> list[tuple[str, str]]:
    """Labels of each row with a teacher and of its counterparts.

    These are the row without a teacher, and those before it that differ in whose labels they learn.
    """
    found = []
    for number, arm in enumerate(arms):
        twins = [twin for twin in arms[:number] if arm == replace(twin, labelled=arm.labelled)]
        for other in filter(None, (arm.counterpart(arms), *twins)):
            found.append((arm.label, other.label))
            if arm in fused and other in fused:
                found.append((arm.label + IN_THE_BEAM, other.label + IN_THE_BEAM))
    return found


def users_of_targets(dataset: Dataset) -> list[str | int]:
    """The user ID of each test target, or the user's number if there are no IDs."""
    test = dataset.splits.test
    users = test.users[test.targets()[0]]
    if dataset.interactions is None:
        return [int(user) for user in users]
    return [dataset.interactions.user_ids[user] for user in users]
