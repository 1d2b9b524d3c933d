"""Ensembles of two seeds: the part of a fusion's gain that is ordinary ensembling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from baselines.evaluation.agreement import agreement
from baselines.evaluation.measures import Measures
from baselines.evaluation.ranking import rank_by_scores
from baselines.evaluation.ranks import Ranks
from baselines.experiments.arms import Arm
from baselines.experiments.comparison import RunRecord
from baselines.experiments.records import record
from baselines.experiments.rows import ComparisonRun
from baselines.models.fusion import MeanScorer, generator_fusion
from baselines.training.checkpoint import TrainingState
from semid.provenance import Provenance

TWO_SEEDS = ", two seeds (control)"
"""Suffix of the label of a row that combines two seeds."""


def control_records(run: ComparisonRun, arms: Sequence[Arm]) -> list[RunRecord]:
    """Rank by the mean log-probability of two models trained with different seeds.

    All models must be trained already. Teachers are ranked exactly; generators by a beam search
    with equal weights.

    Args:
        run: The run, with at least two seeds.
        arms: Arms with a fused row to compare with.

    Returns:
        First the teachers, then each arm: one record per pair in ``pairs_of_seeds``.
    """
    found: dict[Arm | None, list[RunRecord]] = {None: [], **{arm: [] for arm in arms}}
    test, evaluation = run.dataset.splits.test, run.config.evaluation
    for pair in pairs_of_seeds(run.config.seeds):
        a, b = pair
        title, (first, second) = f"seeds {a} and {b}", (run.teacher(seed) for seed in pair)
        label, teachers = first.model.label, [first.model, second.model]
        of_first = rank_by_scores(first.model, test, title=f"{label}, seed {a}, test")
        mean = MeanScorer(teachers, [first.temperature, second.temperature])
        ranks = rank_by_scores(mean, test, title=f"{label}, {title}, test")
        notes = agreement(ranks, of_first, evaluation.ties)
        states = [first.state, second.state]
        found[None].append(_of_pair(label, pair, ranks, teachers, states, notes, run.measures))
        for arm in arms:
            one, other = run.read(arm, a, first), run.read(arm, b, second)
            content = Provenance.read(other.folder).content
            ranks, notes = one.evaluate(
                run.dataset,
                one.folder / f"beside{arm.result_suffix}-{b}-{content[:8]}",
                f"{arm.label}, {title}",
                fuse=generator_fusion(other.backbone, renormalize=evaluation.renormalize),
                made_from={
                    "models": [one.identity["model"], other.identity["model"]],
                    **one.spec.ranked_by(),
                },
            )
            notes |= agreement(ranks, of_first, evaluation.ties)
            models, states = [*one.modules, *other.modules], [one.state, other.state]
            found[arm].append(_of_pair(arm.label, pair, ranks, models, states, notes, run.measures))
    return [row for rows in found.values() for row in rows]


def pairs_of_seeds(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Each seed with the next, and the last with the first; two seeds give one pair."""
    pairs = list(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
    return pairs[:1] if len(seeds) == 2 else pairs


def _of_pair(
    label: str,
    seeds: tuple[int, int],
    ranks: Ranks,
    models: Sequence[nn.Module],
    states: Sequence[TrainingState],
    notes: Mapping[str, Any],
    measures: Measures,
) -> RunRecord:
    alone = record(
        label + TWO_SEEDS,
        "arm",
        ranks,
        models,
        seed=seeds[0],
        measures=measures,
        notes={"seeds": list(seeds), **notes},
    )
    seconds = sum(state.seconds for state in states)
    return dataclasses.replace(alone, train_seconds=seconds, is_pair=True)
