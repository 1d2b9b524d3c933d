"""A finished model as a teacher: what it says together with its partner, taught back.

A model with counts in its beam ranks better than by itself, but needs the counts for serving. A
student of both together needs neither (distillation of an ensemble, arXiv:1503.02531). In a
comparison: ``--teacher.model baselines.models.fused_teacher:FusedTeacher`` and, in
``--teacher.settings``, the ``path`` of the model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from baselines.contracts.scorer import ItemScorer, LeavesOwnOut, checked_scores
from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.models.trained import Partner, TrainedModel
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.labels import WithoutOwn
from baselines.teachers.model import TeacherModel
from semid.checks import require_real
from semid.provenance import Provenance, require_same
from semid.scoring import item_log_probs


class FusedTeacher(TeacherModel):
    """A trained generator, and the teacher in its beam if it has one.

    The score of an item is ``weight log P(item) + (1 - weight) log P_partner(item)``, that of the
    fused row, for every item of the catalogue and not only for those of a beam. Items with equal
    codes share the probability of their path equally. An item head, second IDs, a prior, or seen
    items that the model's search leaves out play no part.

    Without a user's own events (``mass.labels leave_own_out``) the partner's counts are those of
    the other users. The generator stays as it is: it has learned from the targets that it labels.

    Args:
        dataset: The data; the model and its partner must have learned from the same training part.
        seed: Not used: nothing is trained.
        path: Folder of the model, as ``semid pick`` writes it.
        weight: Weight of the generator in [0, 1]; None for that of the model, which validation
            chose, or 1 without a partner.

    Raises:
        FileNotFoundError: If the folder is not a model's.
        ProvenanceError: If the model has other items, or learned from other interactions.
        ValueError: If the model is not decoded by a beam search, its partner is another generator,
            a weight below 1 is asked of a model without a partner, or a weight lies outside [0, 1].
    """

    def __init__(
        self, dataset: Dataset, seed: int, *, path: str, weight: float | None = None
    ) -> None:
        super().__init__()
        model = TrainedModel.load(Path(path))
        if isinstance(model.backbone, ItemScorer):
            raise ValueError(
                f"expected a model in {path} that is decoded by a beam search, got "
                f"{model.backbone.label}, which scores items. Name its own teacher instead."
            )
        _require_same_data(dataset, Provenance.read(model.folder), path)
        partner = _teacher_in_the_beam(model.partner, path)
        if partner is not None:
            _require_same_data(dataset, partner.lineage, path)
        own = 1.0 if model.partner is None else model.partner.weight
        weight = own if weight is None else weight
        require_real("weight", weight, low=0, high=1)
        if partner is None and weight != 1:
            raise ValueError(
                f"expected weight 1 of a model without a partner, got {weight}. Leave it out, or "
                "pick the model with its teacher in the beam."
            )
        self.backbone, self.renormalize = model.backbone, model.spec.evaluation.renormalize
        self.partner = None if partner is None else partner.model
        self.label = f"{model.backbone.label} + {partner.model.label}" if partner else "Generator"
        histories = [part.max_history for part in (self.backbone, self.partner) if part is not None]
        self.max_history = max(histories)
        temperature = 1.0 if partner is None else partner.temperature
        self.weight = nn.Parameter(torch.tensor(float(weight)))
        self.temperature = nn.Parameter(torch.tensor(float(temperature)))
        self.requires_grad_(False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Mixed log-probabilities of all items; float32 ``(batch, item)``."""
        return self._mixed(histories, self.partner)

    @torch.inference_mode()
    def score_without_own(self, histories: Histories, train: SequenceSet) -> Tensor:
        """The same with a partner that has not counted the events of each row's user.

        Raises:
            ValueError: If there is no partner that can leave them out.
        """
        if not isinstance(self.partner, LeavesOwnOut):
            what = "none" if self.partner is None else self.partner.label
            raise ValueError(
                "labels leave_own_out of a finished model need a counted partner in its beam, got "
                f"{what}. Pick one with rules, content or rules+content, or take in_sample."
            )
        return self._mixed(histories, WithoutOwn(self.partner, train))

    def _mixed(self, histories: Histories, partner: ItemScorer | None) -> Tensor:
        trie = self.backbone.trie
        past = histories.to(trie.device)
        scores = torch.zeros(len(past.items), len(trie.node_of_item), device=trie.device)
        if self.weight > 0:
            first = item_log_probs(self.backbone.start(past), trie, renormalize=self.renormalize)
            scores += self.weight * first
        if partner is not None and self.weight < 1:
            second = checked_scores(partner, past).to(trie.device) / self.temperature
            scores += (1 - self.weight) * second.log_softmax(dim=1)
        return scores


def _teacher_in_the_beam(partner: Partner | None, path: str) -> FittedTeacher | None:
    if partner is None:
        return None
    if isinstance(partner.model, TrainedModel):
        raise ValueError(
            f"expected a model in {path} with a teacher in its beam, or nothing, got a second "
            "generator. Pick one of both alone."
        )
    return partner.model


def _require_same_data(dataset: Dataset, lineage: Provenance, path: str) -> None:
    """Raise unless something was trained on the training part of ``dataset``."""
    cure = "Name a model of a comparison on this data and this split."
    for what, expected, found in (
        ("item order", dataset.catalog.order_hash, lineage.items),
        ("training part", dataset.splits.train_hash, lineage.seen),
    ):
        require_same(f"{what} of the model in {path}", expected, found, what_to_do=cure)
