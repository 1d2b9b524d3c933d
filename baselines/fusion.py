"""Align in the beam: decode an arm with its teacher beside it, without training it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.arms import Arm
from baselines.backbones.backbone import Backbone
from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation import EvaluationConfig, FuseBatch, Ranks, rank_targets
from baselines.parallel import processes
from baselines.records import decoded
from baselines.teachers.mass import without_seen
from baselines.teachers.scorer import ItemScorer
from semid.fusion import Fusion, PrefixGuide
from semid.provenance import atomic_write
from semid.successors import Renormalize
from semid.trie import CodeTrie
from tca.guide import TeacherGuide

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Which arms of a comparison are decoded with their teacher as well, and how.

    Attributes:
        arms: Arms, written as the comparison's ``arms`` are, that get a second row in which the
            teacher counts in the beam; ``all`` for every arm.
        weights: Of the generator, in [0, 1]; validation N@10, seen items removed, chooses among
            them, for each arm and seed.
        controls: Whether rows are added that tell alignment from ensembling: the teachers of two
            seeds together, and the generators of two seeds, for each of ``arms``.

    Raises:
        ValueError: If there is no weight, one appears twice or lies outside of [0, 1], or there are
            controls of no arm.
    """

    arms: tuple[str, ...] = ()
    weights: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    controls: bool = False

    def __post_init__(self) -> None:
        tried = self.weights
        if not tried or len(set(tried)) < len(tried) or not all(0 <= w <= 1 for w in tried):
            raise ValueError(
                f"weights must be different numbers in [0, 1], at least one, got {list(tried)}"
            )
        if self.controls and not self.arms:
            raise ValueError(
                "controls stand beside arms with the teacher in the beam; name those, or 'all'"
            )

    def choose(
        self, arms: Sequence[Arm], seeds: Sequence[int], parse: Callable[[str], Arm]
    ) -> set[Arm]:
        """The arms of a comparison that are decoded with their teacher as well.

        Raises:
            ValueError: If one is none of them, or ranked without a beam, or there are controls of
                fewer than two seeds.
        """
        if self.controls and len(seeds) < 2:
            raise ValueError(f"controls need at least two seeds, got {list(seeds)}")
        everything = self.arms == (ALL,)
        chosen = (
            dict.fromkeys(arms, ALL) if everything else {parse(text): text for text in self.arms}
        )
        for arm, text in chosen.items():
            if arm not in arms:
                raise ValueError(
                    f"expected arms with the teacher in the beam out of the comparison's arms "
                    f"({', '.join(arm.label for arm in arms)}), got {text!r}"
                )
            if not arm.kind.is_searched:
                raise ValueError(
                    "expected arms with the teacher in the beam that a beam search ranks, got "
                    f"{arm.label}, which has no beam. Leave it out of fusion.arms."
                )
        return set(chosen)


def teacher_fusion(
    teacher: ItemScorer,
    trie: CodeTrie,
    *,
    weight: float,
    temperature: float = 1.0,
    mask_history: bool = False,
) -> FuseBatch:
    """A teacher's opinion on every step.

    Args:
        teacher: It scores each history anew.
        trie: That of the backbone that is decoded.
        weight: Of the backbone, in [0, 1].
        temperature: Divides the teacher's scores.
        mask_history: Whether the teacher gives nothing to the items of the history, which then
            come after all others.
    """

    def fuse(histories: Histories) -> Fusion:
        scores = teacher.score(histories).to(trie.device)
        if mask_history:
            scores = without_seen(scores, histories)
        guide = TeacherGuide(trie, scores, temperature=temperature)
        return Fusion(guide=guide, weight=weight)

    return fuse


def generator_fusion(
    other: Backbone, *, weight: float = 0.5, renormalize: Renormalize = "children"
) -> FuseBatch:
    """A second generator's opinion on every step: at weight .5 the mean of two log-probabilities.

    Args:
        other: A backbone with the paths and the tokens of the one that is decoded, in eval mode.
        weight: Of the one that is decoded, in [0, 1].
        renormalize: As of the search.
    """

    def fuse(histories: Histories) -> Fusion:
        guide = PrefixGuide(other.start(histories), other.trie, renormalize=renormalize)
        return Fusion(guide=guide, weight=weight)

    return fuse


class MeanScorer:
    """Several teachers as one: the mean of their log-probabilities.

    Args:
        scorers: At least one, over the same catalogue.
        temperatures: What divides the scores of each.
    """

    def __init__(self, scorers: Sequence[ItemScorer], temperatures: Sequence[float]) -> None:
        self._scorers, self._temperatures = scorers, temperatures

    @property
    def max_history(self) -> int:
        """Most items of a history that the scores depend on."""
        return max(scorer.max_history for scorer in self._scorers)

    def score(self, histories: Histories) -> Tensor:
        """Mean log-probability of every catalogue row; float32 ``(batch, item)``."""
        pairs = zip(self._scorers, self._temperatures, strict=True)
        scores = [scorer.score(histories) / temperature for scorer, temperature in pairs]
        return torch.stack([each.log_softmax(dim=-1) for each in scores]).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class ChosenWeight:
    """What validation said.

    Attributes:
        weight: The generator's weight.
        validation: By weight: N@10 of the validation targets, seen items removed.
    """

    weight: float
    validation: dict[str, float]


def choose_weight(
    backbone: Backbone,
    fuse_at: Callable[[float], FuseBatch],
    valid: SequenceSet,
    evaluation: EvaluationConfig,
    weights: Sequence[float],
    *,
    folder: Path,
    title: str,
) -> ChosenWeight:
    """Take the weight with the best N@10 on validation targets; of equal ones the first.

    The targets are those that choose the epoch, the beam is that of the test.

    Args:
        backbone: The generator, in eval mode.
        fuse_at: From a weight to what is mixed in.
        valid: Sequences with validation targets.
        evaluation: How they are decoded.
        weights: The grid; of a single weight nothing is tried.
        folder: ``weights.json`` there keeps what each weight reached, so that none is tried twice.
        title: Name shown beside the progress bar.
    """
    path = folder / "weights.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if len(weights) == 1:
        return ChosenWeight(weight=weights[0], validation={})
    here = processes()
    for weight in weights:
        if f"{weight:g}" in known:
            continue
        ranks = rank_targets(
            backbone,
            valid,
            evaluation,
            beam=evaluation.beam,
            fuse=fuse_at(weight),
            subset=evaluation.chosen_for_validation(valid),
            title=f"{title}, weight {weight:g}",
        )
        known[f"{weight:g}"] = float(ranks.metrics("removed", evaluation.ties)["N@10"].mean())
        if here.is_main_process:
            atomic_write(path, json.dumps(known, indent=2) + "\n")
    here.wait_for_everyone()
    validation = {f"{weight:g}": known[f"{weight:g}"] for weight in weights}
    best = max(weights, key=lambda weight: validation[f"{weight:g}"])
    return ChosenWeight(weight=best, validation=validation)


def decoded_with_teacher(
    backbone: Backbone,
    teacher: ItemScorer,
    dataset: Dataset,
    evaluation: EvaluationConfig,
    weights: Sequence[float],
    *,
    temperature: float,
    mask_history: bool,
    folder: Path,
    title: str,
) -> tuple[Ranks, dict[str, Any]]:
    """Rank the test targets with the teacher in the beam, at the weight that validation chooses.

    Args:
        backbone: The generator, in eval mode.
        teacher: What is mixed in.
        dataset: Whose validation targets choose, and whose test targets are ranked.
        evaluation: How.
        weights: Of the generator, the grid.
        temperature: Divides the teacher's scores.
        mask_history: As of ``teacher_fusion``.
        folder: Keeps what comes out, for this backbone, teacher and these two.
        title: Name shown beside the progress bar.

    Returns:
        The ranks; ``fusion``, the chosen weight and what validation said, and ``certificate``, as
        notes for the record.
    """

    def fuse_at(weight: float) -> FuseBatch:
        return teacher_fusion(
            teacher,
            backbone.trie,
            weight=weight,
            temperature=temperature,
            mask_history=mask_history,
        )

    chosen = choose_weight(
        backbone, fuse_at, dataset.splits.valid, evaluation, weights, folder=folder, title=title
    )
    path, fuse = folder / f"weight-{chosen.weight:g}", fuse_at(chosen.weight)
    ranks, notes = decoded(backbone, dataset, evaluation, path, title, fuse)
    return ranks, {"fusion": dataclasses.asdict(chosen), **notes}
