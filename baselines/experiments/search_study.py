"""A study's table of a search: every trial with its validation value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from baselines.experiments.tables import markdown_table

if TYPE_CHECKING:
    from baselines.experiments.study import StudyPlan


def search_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: the searched options and the validation value of every trial, the best first.

    Args:
        plan: The study.
        finished: ``Study.finished``.

    Raises:
        ValueError: If the study has no search.
    """
    search = plan.search
    if search is None:
        raise ValueError("table search needs a search in the study's file, got none")
    trials = [
        (search.value_of(record["result"]), name, search.params_of(record["options"]) or {})
        for name, record in finished.items()
        if name in search.names
    ]
    trials.sort(key=lambda trial: (-trial[0], trial[1]))
    lines = [
        (name, *(_cell(params[option]) for option in search.space), f"{value:.4f}")
        for value, name, params in trials
    ]
    table = markdown_table(("trial", *search.space, "validation"), lines)
    return f"# {plan.title}\n\n{table}\n"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
