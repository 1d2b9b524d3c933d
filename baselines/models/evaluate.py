"""Evaluation of one trained model, with stored results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from baselines.contracts.backbone import Backbone
from baselines.contracts.scorer import ItemScorer
from baselines.data.dataset import Dataset
from baselines.evaluation.beam_survival import beam_survival
from baselines.evaluation.certificate import certify
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch, rank_targets
from baselines.evaluation.ranks import Ranks
from baselines.evaluation.slots import ReservedSlots
from semid.distributed import broadcast_from_main, once
from semid.provenance import read_json, write_json


def decoded(
    backbone: Backbone,
    dataset: Dataset,
    evaluation: EvaluationConfig,
    path: Path,
    title: str,
    fuse: FuseBatch | None = None,
    *,
    slots: ReservedSlots | None = None,
    made_from: Mapping[str, Any],
) -> tuple[Ranks, dict[str, Any]]:
    """Rank the test targets and certify the search, if any, or read the stored results.

    Args:
        backbone: In eval mode.
        dataset: The data with the test targets.
        evaluation: How they are ranked.
        path: Common prefix of the result files.
        title: Name shown beside the progress bar.
        fuse: Makes the second opinion that is mixed into the search.
        slots: Fills the last places of the lists of ten.
        made_from: JSON values that identify the model, its settings and the second opinion. The
            files are bound to them and to the targets.

    Returns:
        The ranks, and notes for the record: the certificate and, of a split with cold items,
        ``cold_survival`` of its cold targets; or the backbone's own extra results.

    Raises:
        ProvenanceError: If an existing file is damaged; one with other inputs is recomputed.
    """
    test, is_scorer = dataset.splits.test, isinstance(backbone, ItemScorer)
    kept, proof, survival = (
        path.with_name(f"{path.name}{end}") for end in (".safetensors", ".json", "-survival.json")
    )
    made_from = {**made_from, "targets": test.content_hash()}

    def note() -> dict[str, Any]:
        if is_scorer:
            return backbone.notes(test)
        return dataclasses.asdict(certify(backbone, test, evaluation, fuse=fuse))

    rank = partial(rank_targets, backbone, test, evaluation, beam=evaluation.beam)
    ranks = once(
        lambda: Ranks.load(kept, made_from=made_from),
        lambda: rank(fuse=fuse, slots=slots, title=f"{title}, test"),
        lambda ranks: ranks.save(kept, made_from=made_from),
    )
    notes = _noted(proof, lambda: broadcast_from_main(note), made_from)
    if is_scorer:
        return ranks, notes
    cold = np.flatnonzero(np.isin(test.items[test.targets()[1]], dataset.cold_items))
    if not len(cold):
        return ranks, {"certificate": notes}
    survived = partial(beam_survival, backbone, test, evaluation, fuse=fuse, subset=cold)
    shares = _noted(survival, lambda: {"cold_survival": survived()}, made_from)
    return ranks, {"certificate": notes, **shares}


def _noted(
    path: Path, make: Callable[[], dict[str, Any]], made_from: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``make`` has returned for these inputs, kept in ``path``."""
    return once(
        lambda: read_json(path, made_from=made_from),
        make,
        lambda found: write_json(path, found, made_from=made_from),
    )
