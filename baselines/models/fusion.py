"""Align in the beam: decode an arm with its teacher beside it, without training it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone
from baselines.contracts.scorer import ItemScorer, without_seen
from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch, rank_targets, validation_subset
from baselines.evaluation.ranks import Ranks
from baselines.evaluation.selection import Selection
from baselines.models.evaluate import decoded
from semid.config import Renormalize
from semid.distributed import once
from semid.fusion import Fusion, PrefixGuide
from semid.provenance import read_json, write_json
from semid.trie import CodeTrie
from tca.guide import TeacherGuide


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
            are not listed.
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
        validation: By weight: what ``evaluation.selected_by`` says of the validation targets.
    """

    weight: float
    validation: dict[str, float]


def choose_weight(
    backbone: Backbone,
    fuse_at: Callable[..., FuseBatch],
    valid: SequenceSet,
    evaluation: EvaluationConfig,
    weights: Sequence[float],
    *,
    folder: Path,
    title: str,
    made_from: Mapping[str, Any],
) -> ChosenWeight:
    """Take the weight that ``evaluation.selected_by`` finds best; of equal ones the first.

    The targets are those that choose the epoch, the beam is that of the test.

    Args:
        backbone: The generator, in eval mode.
        fuse_at: From ``weight``, by that name, to what is mixed in.
        valid: Sequences with validation targets.
        evaluation: How they are decoded.
        weights: The grid; of a single weight nothing is tried.
        folder: ``weights.json`` there keeps what each weight reached, so that none is tried twice.
        title: Name shown beside the progress bar.
        made_from: JSON values that say which model and teacher are weighed, and how;
            ``weights.json`` is bound to them and to the targets.

    Raises:
        ProvenanceError: If ``weights.json`` was damaged.
    """
    path = folder / "weights.json"
    if len(weights) == 1:
        return ChosenWeight(weight=weights[0], validation={})
    made_from = {**made_from, "targets": valid.content_hash()}

    def known() -> dict[str, float]:
        return read_json(path, made_from=made_from) or {}

    def reached(weight: float) -> float:
        ranks = rank_targets(
            backbone,
            valid,
            evaluation,
            beam=evaluation.beam,
            fuse=fuse_at(weight=weight),
            subset=validation_subset(evaluation, valid),
            title=f"{title}, weight {weight:g}",
        )
        return Selection.of(evaluation.selected_by).value(ranks, evaluation.ties)

    def kept(weight: float) -> float:
        name = f"{weight:g}"
        return once(
            lambda: known().get(name),
            lambda: reached(weight),
            lambda value: write_json(path, {**known(), name: value}, made_from=made_from),
        )

    validation = {f"{weight:g}": kept(weight) for weight in weights}
    best = max(weights, key=lambda weight: validation[f"{weight:g}"])
    return ChosenWeight(weight=best, validation=validation)


def decoded_with_teacher(
    backbone: Backbone,
    fuse_at: Callable[..., FuseBatch],
    dataset: Dataset,
    evaluation: EvaluationConfig,
    weights: Sequence[float],
    *,
    folder: Path,
    title: str,
    made_from: Mapping[str, Any],
) -> tuple[Ranks, dict[str, Any]]:
    """Rank the test targets with the teacher in the beam, at the weight that validation chooses.

    Args:
        backbone: The generator, in eval mode.
        fuse_at: From ``weight``, by that name, to what is mixed in, as of ``teacher_fusion``.
        dataset: Whose validation targets choose, and whose test targets are ranked.
        evaluation: How.
        weights: Of the generator, the grid.
        folder: Keeps what comes out.
        title: Name shown beside the progress bar.
        made_from: JSON values that say which model and teacher these are.

    Returns:
        The ranks; ``fusion``, the chosen weight and what validation said, and ``certificate``, as
        notes for the record.

    Raises:
        ProvenanceError: If a file found in ``folder`` was damaged.
    """
    chosen = choose_weight(
        backbone,
        fuse_at,
        dataset.splits.valid,
        evaluation,
        weights,
        folder=folder,
        title=title,
        made_from=made_from,
    )
    path, fuse = folder / f"weight-{chosen.weight:g}", fuse_at(weight=chosen.weight)
    made_from = {**made_from, "weight": chosen.weight}
    ranks, notes = decoded(backbone, dataset, evaluation, path, title, fuse, made_from=made_from)
    return ranks, {"fusion": dataclasses.asdict(chosen), **notes}
