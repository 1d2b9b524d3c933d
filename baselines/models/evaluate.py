"""The evaluation of one trained model, kept beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from baselines.contracts.backbone import Backbone
from baselines.contracts.scorer import ItemScorer
from baselines.data.dataset import Dataset
from baselines.evaluation.certificate import Certificate, certify
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch, rank_targets
from baselines.evaluation.ranks import Ranks
from baselines.runtime.distributed import processes
from semid.provenance import atomic_write


def decoded(
    backbone: Backbone,
    dataset: Dataset,
    evaluation: EvaluationConfig,
    path: Path,
    title: str,
    fuse: FuseBatch | None = None,
) -> tuple[Ranks, dict[str, Any]]:
    """Rank the test targets and certify the search if there is one, unless that is done already.

    Args:
        backbone: In eval mode.
        dataset: Whose test targets are ranked.
        evaluation: How.
        path: Beginning of the names of the two files that keep what comes out.
        title: Name shown beside the progress bar.
        fuse: What is mixed into the scores of the search.

    Returns:
        The ranks, and as notes for the record the certificate, or what else the backbone tells.
    """
    test = dataset.splits.test
    kept, proof = path.with_name(f"{path.name}.safetensors"), path.with_name(f"{path.name}.json")
    here = processes()
    if not kept.exists():
        ranks = rank_targets(
            backbone, test, evaluation, beam=evaluation.beam, fuse=fuse, title=f"{title}, test"
        )
        if here.is_main_process:
            ranks.save(kept)
        here.wait_for_everyone()
    with here.main_process_first():
        if isinstance(backbone, ItemScorer):
            if not proof.exists():
                atomic_write(proof, json.dumps(backbone.notes(test), indent=2) + "\n")
            return Ranks.load(kept), json.loads(proof.read_text())
        if not proof.exists():
            certify(backbone, test, evaluation, fuse=fuse).save(proof)
    return Ranks.load(kept), {"certificate": dataclasses.asdict(Certificate.load(proof))}
