"""How much a prior, a partner and an item head count in a beam, changed without training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from baselines.contracts.scorer import ItemScorer
from baselines.models.trained import Partner, TrainedModel

MOST_PRIOR = 10.0
"""Largest prior that may be asked for."""


@dataclass(frozen=True, kw_only=True)
class BeamWeights:
    """Weights in a beam of what is not the model's own paths; None is as in the model.

    Attributes:
        prior: How much of the training prior is divided out, from 0, which is off; as in
            ``EvaluationConfig``.
        partner_weight: Weight of the second model, a teacher or generator, in [0, 1]; 0 is without.
        item_weight: Weight of the backbone's own item head or second IDs, in [0, 1]; likewise.

    Raises:
        ValueError: If a number is out of range.
    """

    prior: float | None = None
    partner_weight: float | None = None
    item_weight: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("prior", MOST_PRIOR), ("partner_weight", 1), ("item_weight", 1)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise ValueError(f"{name} must be in [0, {most:g}], got {value}")


def beam_weights(model: TrainedModel) -> BeamWeights:
    """The weights in a model's beam; None for what it does not have."""
    if isinstance(model.backbone, ItemScorer):
        return BeamWeights()
    evaluation, partner = model.spec.evaluation, model.partner
    head = model.backbone.item_scorer() is not None and evaluation.item_weight != "auto"
    return BeamWeights(
        prior=float(evaluation.prior),
        partner_weight=None if partner is None else 1 - partner.weight,
        item_weight=float(evaluation.item_weight) if head else None,
    )


def partner_label(model: TrainedModel) -> str | None:
    """The label of the second model in a model's beam; None if there is none."""
    if model.partner is None:
        return None
    other = model.partner.model
    return (other.backbone if isinstance(other, TrainedModel) else other.model).label


def with_beam_weights(model: TrainedModel, weights: BeamWeights) -> TrainedModel:
    """The model with other weights in its beam.

    Raises:
        ValueError: If it does not have what is weighted.
    """
    has = beam_weights(model)
    for name, what in (
        ("prior", "a beam"),
        ("partner_weight", "a second model in its beam"),
        ("item_weight", "an item head or second IDs in its beam"),
    ):
        if getattr(weights, name) is not None and getattr(has, name) is None:
            raise ValueError(
                f"{name} needs a model with {what}, got a {model.backbone.label} without: leave it "
                "out"
            )
    own = model.spec.evaluation
    evaluation = dataclasses.replace(
        own,
        prior=own.prior if weights.prior is None else weights.prior,
        item_weight=own.item_weight if weights.item_weight is None else weights.item_weight,
    )
    return dataclasses.replace(
        model,
        spec=dataclasses.replace(model.spec, evaluation=evaluation),
        partner=_weighted(model.partner, weights.partner_weight),
    )


def _weighted(partner: Partner | None, weight: float | None) -> Partner | None:
    if partner is None or weight is None:
        return partner
    return None if weight == 0 else dataclasses.replace(partner, weight=1 - weight)
