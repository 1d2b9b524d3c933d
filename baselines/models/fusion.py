"""Alignment in the beam: decode a model together with its teacher, without retraining."""

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
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch, rank_targets, validation_subset
from baselines.evaluation.selection import Selection
from semid.config import Renormalize
from semid.distributed import once
from semid.fusion import Fusion, PrefixGuide
from semid.prior import PriorCorrection
from semid.provenance import read_json, write_json
from semid.trie import CodeTrie
from tca.guide import TeacherGuide

FuseModels = Callable[[Histories], Fusion]
"""A ``FuseBatch`` that mixes in a second opinion."""


def teacher_fusion(
    teacher: ItemScorer,
    trie: CodeTrie,
    *,
    weight: float,
    temperature: float = 1.0,
    mask_history: bool = False,
) -> FuseModels:
    """A teacher's second opinion on every decoding step.

    Args:
        teacher: Scores each history when it is decoded.
        trie: The trie of the backbone that is decoded.
        weight: Weight of the backbone, in [0, 1].
        temperature: Divides the teacher's scores.
        mask_history: Whether the teacher gives items of the history zero probability, so that
            they are not listed.
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
) -> FuseModels:
    """A second generator's opinion on every step; at weight .5, the mean log-probability of both.

    Args:
        other: A backbone with the same paths and tokens as the decoded one, in eval mode.
        weight: Weight of the decoded backbone, in [0, 1].
        renormalize: As in the search.
    """

    def fuse(histories: Histories) -> Fusion:
        guide = PrefixGuide(other.start(histories), other.trie, renormalize=renormalize)
        return Fusion(guide=guide, weight=weight)

    return fuse


def item_head_fusion(backbone: Backbone, weight: float) -> FuseModels | None:
    """A backbone's own item head as a second opinion; None without a head or at weight 0.

    Args:
        backbone: The decoded backbone, in eval mode.
        weight: Weight of the head, in [0, 1]; the tokens have the rest.
    """
    head = backbone.item_scorer()
    if head is None or weight == 0:
        return None
    return teacher_fusion(head, backbone.trie, weight=1 - weight)


def rescoring(
    backbone: Backbone, evaluation: EvaluationConfig, counts: Tensor, fuse: FuseModels | None
) -> FuseBatch | None:
    """What changes the scores of a search, in turn: item head, second model, training prior.

    Args:
        backbone: The searched model, in eval mode.
        evaluation: Its ``item_weight`` and ``prior`` say how much of the backbone's item head is
            mixed in and of the training prior divided out; neither is where no beam is searched.
        counts: int64 ``(item,)``, training events of each catalogue row.
        fuse: Makes the second model's opinion; None for none.
    """
    if isinstance(backbone, ItemScorer):
        return fuse
    weight = evaluation.item_weight
    own = None if weight == "auto" else item_head_fusion(backbone, weight)
    if own is not None:
        fuse = own if fuse is None else _in_turn(own, fuse)
    if evaluation.prior == 0:
        return fuse
    corrected = PriorCorrection.from_counts(backbone.trie, counts, strength=evaluation.prior)

    def corrected_of(histories: Histories) -> PriorCorrection:
        after = None if fuse is None else fuse(histories)
        return dataclasses.replace(corrected, after=after)

    return corrected_of


def _in_turn(first: FuseModels, then: FuseModels) -> FuseModels:
    def fuse(histories: Histories) -> Fusion:
        return dataclasses.replace(then(histories), after=first(histories))

    return fuse


class MeanScorer:
    """Several teachers combined by the mean of their log-probabilities.

    Args:
        scorers: At least one, over the same catalogue.
        temperatures: Divisor of each teacher's scores.
    """

    def __init__(self, scorers: Sequence[ItemScorer], temperatures: Sequence[float]) -> None:
        self._scorers, self._temperatures = scorers, temperatures

    @property
    def max_history(self) -> int:
        """Largest number of history items that the scores depend on."""
        return max(scorer.max_history for scorer in self._scorers)

    def score(self, histories: Histories) -> Tensor:
        """Mean log-probability of every catalogue row; float32 ``(batch, item)``."""
        pairs = zip(self._scorers, self._temperatures, strict=True)
        scores = [scorer.score(histories) / temperature for scorer, temperature in pairs]
        return torch.stack([each.log_softmax(dim=-1) for each in scores]).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class ChosenWeight:
    """The weight selected on validation.

    Attributes:
        weight: The generator's weight.
        validation: For each weight, the validation value of ``evaluation.selected_by``.
    """

    weight: float
    validation: dict[str, float]


def validation_value(
    backbone: Backbone,
    valid: SequenceSet,
    evaluation: EvaluationConfig,
    fuse: FuseBatch | None,
    *,
    title: str,
) -> float:
    """``evaluation.selected_by`` of a rescored search, with the test beam.

    Uses the validation targets that select the epoch.

    Args:
        backbone: The generator, in eval mode.
        valid: Sequences with validation targets.
        evaluation: How they are decoded.
        fuse: Changes the scores of the search.
        title: Name shown beside the progress bar.
    """
    ranks = rank_targets(
        backbone,
        valid,
        evaluation,
        beam=evaluation.beam,
        fuse=fuse,
        subset=validation_subset(evaluation, valid),
        title=title,
    )
    return Selection.of(evaluation.selected_by).value(ranks, evaluation.ties)


def choose_weight(
    backbone: Backbone,
    fuse_at: Callable[..., FuseBatch | None],
    valid: SequenceSet,
    evaluation: EvaluationConfig,
    weights: Sequence[float],
    *,
    folder: Path,
    title: str,
    made_from: Mapping[str, Any],
) -> ChosenWeight:
    """Choose the weight with the best ``evaluation.selected_by``; the first of equal ones.

    Uses the validation targets that select the epoch, with the test beam.

    Args:
        backbone: The generator, in eval mode.
        fuse_at: Makes the second opinion for a given ``weight`` (keyword argument).
        valid: Sequences with validation targets.
        evaluation: How they are decoded.
        weights: The grid; a single weight is returned without evaluation.
        folder: Its ``weights.json`` stores the value that each weight reached.
        title: Name shown beside the progress bar.
        made_from: JSON values that identify the model, the teacher and the settings;
            ``weights.json`` is bound to them and to the targets.

    Raises:
        ProvenanceError: If ``weights.json`` is damaged.
    """
    path = folder / "weights.json"
    if len(weights) == 1:
        return ChosenWeight(weight=weights[0], validation={})
    made_from = {**made_from, "targets": valid.content_hash()}

    def known() -> dict[str, float]:
        return read_json(path, made_from=made_from) or {}

    def reached(weight: float) -> float:
        fuse, name = fuse_at(weight=weight), f"{title}, weight {weight:g}"
        return validation_value(backbone, valid, evaluation, fuse, title=name)

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
