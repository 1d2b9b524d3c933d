"""The rows that every generator has to beat: rules and content, counted without any training."""

from __future__ import annotations

import logging

from baselines.data.content_texts import NoTextError
from baselines.evaluation.ranking import rank_by_scores
from baselines.experiments.comparison import RunRecord
from baselines.experiments.records import record, teacher_notes
from baselines.experiments.rows import ComparisonRun, counted_teacher
from baselines.teachers.config import COUNTED

logger = logging.getLogger(__name__)


def counted_records(run: ComparisonRun) -> tuple[list[RunRecord], dict[str, str]]:
    """One record per counted scorer, except the one that already is the comparison's teacher.

    They are fitted once, whatever the seeds, with the settings of ``config.teacher``, and kept
    below the teachers, in ``counted``.

    Returns:
        The records; and why a row is missing, by its name: data without usable text have no rows
        that compare content.
    """
    records, missing = [], {}
    for name in COUNTED:
        if name == run.config.teacher.model:
            continue
        try:
            records.append(_record(run, name))
        except NoTextError as error:
            missing[name] = str(error)
            logger.warning("no row %s: %s", name, error)
    return records, missing


def _record(run: ComparisonRun, name: str) -> RunRecord:
    teacher = counted_teacher(run.config, run.dataset, name, run.teachers)
    model = teacher.model
    return record(
        model.label,
        "reference",
        rank_by_scores(model, run.dataset.splits.test, title=model.label),
        [model],
        seed=None,
        measures=run.measures,
        state=teacher.state,
        notes=teacher_notes(model),
    )
