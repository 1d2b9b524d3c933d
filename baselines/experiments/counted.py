"""The rows that every generator has to beat: rules and content, counted without any training."""

from __future__ import annotations

import dataclasses
import logging

from baselines.evaluation.ranking import rank_by_scores
from baselines.experiments.comparison import RunRecord
from baselines.experiments.records import record
from baselines.experiments.rows import ComparisonRun
from baselines.teachers.config import COUNTED, OF_CONTENT
from baselines.teachers.fit import fit_teacher

logger = logging.getLogger(__name__)


def counted_records(run: ComparisonRun) -> list[RunRecord]:
    """One record per counted scorer, except the one that already is the comparison's teacher.

    They are fitted once, whatever the seeds, with the settings of ``config.teacher``, and kept
    below the teachers. Those that compare content are left out of data without usable text, which
    is logged.
    """
    names = [name for name in COUNTED if name != run.config.teacher.model]
    records = []
    for name in names:
        try:
            records.append(_record(run, name))
        except ValueError as error:
            if name not in OF_CONTENT:
                raise
            logger.warning("no row %s: %s", name, error)
    return records


def _record(run: ComparisonRun, name: str) -> RunRecord:
    config, test = run.config, run.dataset.splits.test
    model, state, _ = fit_teacher(
        run.dataset,
        dataclasses.replace(config.teacher, model=name),
        config.teacher_training,
        seed=0,
        folder=run.teachers / "counted",
        selected_by=config.evaluation.selected_by,
    )
    ranks = rank_by_scores(model, test, title=model.label)
    return record(
        model.label, "reference", ranks, [model], seed=None, measures=run.measures, state=state
    )
