"""Records: the results of one trained model, as input of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from baselines.evaluation.measures import Measures
from baselines.evaluation.ranks import Ranks
from baselines.evaluation.selection import Selection
from baselines.experiments.comparison import Role, RunRecord
from baselines.teachers.model import TeacherModel
from baselines.training.checkpoint import TrainingState


def record(
    label: str,
    role: Role,
    ranks: Ranks,
    models: Sequence[nn.Module] = (),
    *,
    seed: int | None,
    measures: Measures,
    state: TrainingState | None = None,
    notes: Mapping[str, Any] | None = None,
) -> RunRecord:
    """The record of one run.

    Args:
        label: Label of the row.
        role: Role of the row.
        ranks: Ranks of the test targets.
        models: Every model needed at serving time; their parameters are counted.
        seed: Seed of the run.
        measures: The metrics to report.
        state: Its training state.
        notes: Extra results, as JSON values.
    """
    evaluation: dict[str, Any] = {"test_seconds": round(ranks.seconds, 1)}
    if state is not None:
        selection = Selection.of(measures.evaluation.selected_by)
        evaluation |= {
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            f"validation_{selection.label}": state.best,
            "validation_seconds": round(state.validation_seconds, 1),
        }
        if state.stopped_by_time:
            evaluation["stopped_by_time"] = True
    if lists := measures.of_lists(ranks):
        evaluation["lists"] = lists
    if by_id := measures.by_id(ranks):
        evaluation["by_id"] = by_id
    if (share := measures.cold_share(ranks)) is not None:
        evaluation["cold_share"] = share
    evaluation |= notes or {}
    return RunRecord(
        arm=label,
        role=role,
        seed=seed,
        per_user=measures.per_user(ranks),
        parameters=sum(_num_trained(model) for model in models),
        train_seconds=state.seconds if state is not None else 0.0,
        evaluation=evaluation,
        consistency=evaluation["agreement"]["top-1"] if "agreement" in evaluation else None,
        top=ranks.top,
    )


def teacher_notes(teacher: TeacherModel) -> dict[str, Any]:
    """What a teacher has chosen on validation, as a note of its record."""
    chosen = teacher.chosen()
    return {"chosen": chosen} if chosen else {}


def _num_trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
