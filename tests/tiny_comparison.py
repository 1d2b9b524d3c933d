"""The settings of a tiny comparison, and what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_models import CONFIGS, ENCODER

from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.training.config import TrainingConfig
from semid.config import IdsConfig

TINY = CompareConfig(
    ids=IdsConfig(codebook_sizes=(4, 4)),
    arms=("causal:ntp", "causal:soft_ce:0.5"),
    seeds=(0, 1),
    teacher=TeacherConfig(sasrec=SASRecConfig(max_history=9, encoder=ENCODER)),
    teacher_training=TrainingConfig(epochs=2, precision="fp32"),
    backbones=CONFIGS,
    training=TrainingConfig(epochs=2, precision="fp32"),
    evaluation=EvaluationConfig(beam=10, validation_beam=5, validation_targets=20),
    resamples=20,
)


def results(out: str | Path) -> dict[str, Any]:
    """All that ``comparison.json`` says except how long things took, and how much memory."""
    found: dict[str, Any] = json.loads((Path(out) / "comparison.json").read_text())
    found["settings"].pop("peak memory", None)
    for row in found["rows"]:
        del row["train_seconds"]
        for evaluation in row["evaluations"]:
            for name in [name for name in evaluation if name.endswith("seconds")]:
                del evaluation[name]
    return found


def trained(out: str | Path) -> dict[Path, int]:
    """When each model below a folder was written."""
    return {path: path.stat().st_mtime_ns for path in Path(out).rglob("model.safetensors")}
