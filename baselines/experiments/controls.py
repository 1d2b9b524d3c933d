"""What two seeds reach together: the part of a fusion's gain that is ordinary ensembling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from baselines.data.dataset import Dataset
from baselines.evaluation.agreement import agreement
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import rank_by_scores
from baselines.evaluation.ranks import Ranks
from baselines.experiments.arms import Arm
from baselines.experiments.comparison import RunRecord
from baselines.experiments.records import record
from baselines.models.config import BackboneConfigs
from baselines.models.evaluate import decoded
from baselines.models.fusion import MeanScorer, generator_fusion
from baselines.models.stages import read_fitted
from baselines.runtime.distributed import processes
from baselines.teachers.model import TeacherModel
from baselines.training.checkpoint import TrainingState, identity
from semid.ids import SemanticIds
from semid.provenance import Provenance


def control_records(
    arms: Sequence[Arm],
    dataset: Dataset,
    ids: Mapping[str | None, SemanticIds],
    *,
    backbones: BackboneConfigs,
    evaluation: EvaluationConfig,
    seeds: Sequence[int],
    teacher_of: Callable[[int], tuple[TeacherModel, TrainingState, float]],
    out: Path,
) -> list[RunRecord]:
    """Rank by the mean of two models' log-probabilities, trained with two seeds.

    All of them are trained by then. Teachers are ranked exactly; generators by a beam in which each
    counts half.

    Args:
        arms: Arms that have a fusion to be held against.
        dataset: Whose test targets are ranked.
        ids: Semantic ids by the name of their scheme.
        backbones: Shapes of the backbones.
        evaluation: How generators are ranked.
        seeds: At least two.
        teacher_of: From a seed to its teacher, its training, and what divides its scores.
        out: Folder of the comparison.

    Returns:
        First the teachers, then each arm, one record for each of ``pairs_of_seeds``.
    """
    found: dict[Arm | None, list[RunRecord]] = {None: [], **{arm: [] for arm in arms}}
    test = dataset.splits.test
    for seeds_of_pair in pairs_of_seeds(seeds):
        a, b = seeds_of_pair
        title = f"seeds {a} and {b}"
        taught = [teacher_of(seed) for seed in seeds_of_pair]
        teachers, states = [teacher for teacher, _, _ in taught], [state for _, state, _ in taught]
        teacher_label = teachers[0].label
        of_first = rank_by_scores(teachers[0], test, title=f"{teacher_label}, seed {a}, test")
        mean = MeanScorer(teachers, [temperature for _, _, temperature in taught])
        ranks = rank_by_scores(mean, test, title=f"{teacher_label}, {title}, test")
        notes = agreement(ranks, of_first, evaluation.ties)
        found[None].append(
            _of_pair(teacher_label, seeds_of_pair, ranks, teachers, states, notes, evaluation)
        )
        for arm in arms:
            its, folders = ids[arm.scheme], [out / f"{arm.folder}-{seed}" for seed in (a, b)]
            pair = [
                arm.kind.build(
                    backbones,
                    its.codes,
                    its.sizes,
                    seed,
                    catalog=dataset.catalog,
                    teacher=teacher,
                )
                for seed, teacher in zip((a, b), teachers, strict=True)
            ]
            states = [read_fitted(*model) for model in zip(pair, folders, strict=True)]
            pair = [model.to(processes().device) for model in pair]
            lineages = [Provenance.read(folder) for folder in folders]
            ranks, notes = decoded(
                pair[0],
                dataset,
                evaluation,
                folders[0] / f"beside{arm.mark}-{b}-{lineages[1].content[:8]}",
                f"{arm.label}, {title}",
                generator_fusion(pair[1], renormalize=evaluation.renormalize),
                made_from={
                    "models": [identity(lineage) for lineage in lineages],
                    **arm.ranked_by(backbones),
                },
            )
            notes |= agreement(ranks, of_first, evaluation.ties)
            models = [*pair, *teachers] if arm.kind.taught else pair
            found[arm].append(
                _of_pair(arm.label, seeds_of_pair, ranks, models, states, notes, evaluation)
            )
    return [run for runs in found.values() for run in runs]


def pairs_of_seeds(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Each seed with the next, the last with the first; two seeds are one pair."""
    pairs = list(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
    return pairs[:1] if len(seeds) == 2 else pairs


def _of_pair(
    label: str,
    seeds: tuple[int, int],
    ranks: Ranks,
    models: Sequence[nn.Module],
    states: Sequence[TrainingState],
    notes: Mapping[str, Any],
    evaluation: EvaluationConfig,
) -> RunRecord:
    alone = record(
        f"{label}, two seeds (control)",
        "arm",
        ranks,
        models,
        seed=seeds[0],
        evaluation=evaluation,
        notes={"seeds": list(seeds), **notes},
    )
    return dataclasses.replace(alone, train_seconds=sum(state.seconds for state in states))
