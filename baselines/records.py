"""What the evaluation of one trained model leaves for the comparison."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baselines.backbones.backbone import Backbone
from baselines.certificate import Certificate, certify
from baselines.comparison import Role, RunRecord
from baselines.data.dataset import Dataset
from baselines.evaluation import POLICIES, TOP, EvaluationConfig, FuseBatch, Ranks, rank_targets
from baselines.metrics import TieRule
from baselines.parallel import processes
from baselines.teachers.scorer import ItemScorer
from baselines.training import TrainingState
from semid.provenance import atomic_write
from tca.consistency import (
    collaborative_consistency,
    hit_disagreement,
    overlap_at_k,
    rank_correlation,
)


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


def agreement(ranks: Ranks, teacher: Ranks, ties: TieRule) -> dict[str, Any]:
    """How far the lists of unseen items are the teacher's, as a note for the record.

    Returns:
        ``agreement``: ``top-1``, ``overlap@10``, ``kendall``, ``spearman`` (None where no user has
        two items in common) and ``hits@10``, see ``tca.consistency``.
    """
    ours, theirs = torch.from_numpy(ranks.top), torch.from_numpy(teacher.top)
    hits = [
        torch.from_numpy(found.metrics("removed", ties)[f"R@{TOP}"]) for found in (ranks, teacher)
    ]
    measures = {
        "top-1": collaborative_consistency(ours[:, 0], theirs[:, 0]),
        f"overlap@{TOP}": overlap_at_k(ours, theirs),
        "kendall": rank_correlation(ours, theirs, method="kendall"),
        "spearman": rank_correlation(ours, theirs, method="spearman"),
        f"hits@{TOP}": dataclasses.asdict(hit_disagreement(*hits)),
    }
    return {"agreement": measures}


def record(
    label: str,
    role: Role,
    ranks: Ranks,
    models: Sequence[nn.Module] = (),
    *,
    seed: int | None,
    evaluation: EvaluationConfig,
    state: TrainingState | None = None,
    notes: Mapping[str, Any] | None = None,
) -> RunRecord:
    """The record of one run.

    Args:
        label: The row.
        role: What the row is there for.
        ranks: Of the test targets.
        models: All that is needed to serve it, for the number of parameters.
        seed: Of the run.
        evaluation: How it was ranked.
        state: Its training.
        notes: What else there is to tell, as JSON values.
    """
    told: dict[str, Any] = {"test_seconds": round(ranks.seconds, 1)}
    if state is not None:
        told |= {
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "validation_N@10": state.best,
            "validation_seconds": round(state.validation_seconds, 1),
        }
    told |= notes or {}
    return RunRecord(
        arm=label,
        role=role,
        seed=seed,
        per_user={policy: ranks.metrics(policy, evaluation.ties) for policy in POLICIES},
        parameters=sum(_num_trained(model) for model in models),
        train_seconds=state.seconds if state is not None else 0.0,
        evaluation=told,
        consistency=told["agreement"]["top-1"] if "agreement" in told else None,
    )


def _num_trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
