"""The settings section of a comparison's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from baselines.data.dataset import Dataset
from baselines.data.left_out import data_notes
from baselines.evaluation.selection import Selection
from baselines.experiments.arms import parse_arms
from baselines.experiments.config import CompareConfig
from baselines.experiments.schemes import Scheme
from baselines.lm.config import LanguageModelConfig
from baselines.runtime.memory import peak_memory
from semid.distributed import distributed_state
from semid.ids import SemanticIds


def report_settings(
    config: CompareConfig, dataset: Dataset, ids: Mapping[Scheme, SemanticIds]
) -> dict[str, Any]:
    """The settings to report, by name, given these data and IDs.

    Peak memory is that of this process so far: call it when all rows are there.
    """
    evaluation = config.evaluation
    sources = [
        (f"{scheme.name}: " if scheme.name else "")
        + f"{its.scheme}, sizes {'x'.join(map(str, its.sizes))}"
        for scheme, its in ids.items()
    ]
    return {
        "data": dataset.name,
        "split": dataset.splits.protocol,
        **dataset.statistics,
        **data_notes(dataset),
        "ids": "; ".join(sources),
        "seeds": list(config.seeds),
        "maximum epochs": config.training.epochs,
        "precision": _precision(config),
        "valid-token mask in training": config.masked,
        "teacher temperature": config.temperature,
        "candidates": "the whole catalogue",
        "beam": evaluation.beam,
        "renormalize": evaluation.renormalize,
        "ties": evaluation.ties,
        **({"training prior divided out": evaluation.prior} if evaluation.prior else {}),
        **({"places reserved for content": evaluation.slots} if evaluation.slots else {}),
        **_fusion_setting(config),
        **_language_setting(config),
        "checkpoint chosen by": f"validation {Selection.of(evaluation.selected_by).label}, "
        f"beam {evaluation.validation_beam}, "
        f"{min(evaluation.validation_targets, dataset.splits.valid.num_targets)} targets",
        "processes": distributed_state().num_processes,
        "threads": torch.get_num_threads(),
        **peak_memory(),
    }


def _precision(config: CompareConfig) -> str:
    arms, teacher = config.training.precision, config.teacher_training.precision
    return arms if arms == teacher else f"{arms}, teacher {teacher}"


def _fusion_setting(config: CompareConfig) -> dict[str, str]:
    fusion, beam = config.fusion, config.evaluation.beam
    if not fusion.arms:
        return {}
    weights = ", ".join(f"{weight:g}" for weight in fusion.weights)
    metric = Selection.of(config.evaluation.selected_by).label
    how = f" by validation {metric}, beam {beam}" if len(fusion.weights) > 1 else ""
    return {"generator's weight, teacher in the beam": weights + how}


def _language_setting(config: CompareConfig) -> dict[str, str]:
    arms = parse_arms(config)
    if not any(arm.backbone_class.config_class is LanguageModelConfig for arm in arms):
        return {}
    shape = config.backbones.lm
    shown = {"language model": f"{shape.model}, writes {shape.items}"}
    if on_prompts := [arm.label for arm in arms if arm.prompt_loss]:
        shown["loss on prompt tokens"] = ", ".join(on_prompts)
    if any(arm.backbone == "yesno" for arm in arms):
        shown["yes/no candidates"] = f"the teacher's {config.backbones.yesno.candidates} best items"
    return shown
