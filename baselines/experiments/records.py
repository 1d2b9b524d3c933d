"""What the evaluation of one trained model leaves for the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranks import POLICIES, Ranks
from baselines.experiments.comparison import Role, RunRecord
from baselines.training.checkpoint import TrainingState


def record(
    label: str,
    role: Role,
    ranks: Ranks,
    models: Sequence[nn.Module] = (),
    *,
    seed: int | None,
    evaluation: EvaluationConfig,
    state: TrainingState | None = None,
    notes: Mapping[str, Any] | None = None,
) -> RunRecord:
    """The record of one run.

    Args:
        label: The row.
        role: What the row is there for.
        ranks: Of the test targets.
        models: All that is needed to serve it, for the number of parameters.
        seed: Of the run.
        evaluation: How it was ranked.
        state: Its training.
        notes: What else there is to tell, as JSON values.
    """
    told: dict[str, Any] = {"test_seconds": round(ranks.seconds, 1)}
    if state is not None:
        told |= {
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "validation_N@10": state.best,
            "validation_seconds": round(state.validation_seconds, 1),
        }
    told |= notes or {}
    return RunRecord(
        arm=label,
        role=role,
        seed=seed,
        per_user={policy: ranks.metrics(policy, evaluation.ties) for policy in POLICIES},
        parameters=sum(_num_trained(model) for model in models),
        train_seconds=state.seconds if state is not None else 0.0,
        evaluation=told,
        consistency=told["agreement"]["top-1"] if "agreement" in told else None,
    )


def _num_trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
