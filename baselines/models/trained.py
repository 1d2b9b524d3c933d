"""A trained model as one unit: fitted into a folder, read from it, evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from baselines.contracts.backbone import Backbone
from baselines.data.dataset import Dataset
from baselines.evaluation.ranking import FuseBatch
from baselines.evaluation.ranks import Ranks
from baselines.models.evaluate import decoded
from baselines.models.fit import fit_backbone
from baselines.models.spec import ModelSpec
from baselines.models.stages import is_fitted, read_fitted
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.supervision import Supervision
from baselines.training.checkpoint import TrainingState, identity
from semid.catalog import Catalog
from semid.ids import SemanticIds
from semid.provenance import Provenance


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A backbone with its weights, the items and ids that it writes, and what it needs beside.

    Attributes:
        spec: What was trained.
        backbone: In eval mode.
        ids: The semantic IDs.
        catalog: The items.
        state: Its training.
        folder: Where its weights are kept.
        teacher: What its backbone reads, or taught it; None where nothing did.
    """

    spec: ModelSpec
    backbone: Backbone
    ids: SemanticIds
    catalog: Catalog
    state: TrainingState
    folder: Path
    teacher: FittedTeacher | None = None

    @classmethod
    def fit(
        cls,
        spec: ModelSpec,
        dataset: Dataset,
        ids: SemanticIds,
        supervision: Supervision | None,
        *,
        folder: Path,
        title: str,
    ) -> TrainedModel:
        """Train it, or read it where it is trained already.

        Args:
            spec: What to train.
            dataset: Only its training part is learned from; validation targets choose the epoch.
            ids: In catalogue order.
            supervision: A teacher and what it says; None where neither objective nor backbone
                needs one.
            folder: Where the weights are kept; an interrupted training goes on there.
            title: Name shown beside the progress bar.

        Raises:
            ValueError: If the objective needs a teacher and there is none, or leaves nothing to
                learn.
            ProvenanceError: If the folder holds a model made from something else, or was damaged.
        """
        teacher = None if supervision is None else supervision.teacher
        backbone = spec.build(ids, dataset.catalog, teacher)
        distributions = None
        needed = spec.objective.needs_teacher and not is_fitted(backbone, folder)
        if needed and supervision is not None:
            rounded = "bfloat16" in spec.objective.reference
            distributions = supervision(backbone, rounded=rounded)
        state = fit_backbone(
            backbone,
            spec.objective,
            distributions,
            dataset.splits,
            spec.training,
            spec.evaluation,
            seed=spec.seed,
            folder=folder,
            lineage=spec.lineage(backbone, dataset, ids, teacher),
            title=title,
        )
        return cls(
            spec=spec,
            backbone=backbone,
            ids=ids,
            catalog=dataset.catalog,
            state=state,
            folder=folder,
            teacher=teacher,
        )

    @classmethod
    def read(
        cls,
        spec: ModelSpec,
        ids: SemanticIds,
        catalog: Catalog,
        folder: Path,
        *,
        teacher: FittedTeacher | None = None,
    ) -> TrainedModel:
        """Read the weights that ``fit`` has left in a folder, without the data they learned from.

        Raises:
            ProvenanceError: If they are not those that were trained.
        """
        backbone = spec.build(ids, catalog, teacher)
        state = read_fitted(backbone, folder)
        return cls(
            spec=spec,
            backbone=backbone.eval(),
            ids=ids,
            catalog=catalog,
            state=state,
            folder=folder,
            teacher=teacher,
        )

    @property
    def modules(self) -> list[nn.Module]:
        """Every module needed at serving time; their parameters are counted."""
        needs = self.teacher is not None and self.spec.backbone_class.needs_teacher
        return [self.backbone, self.teacher.model] if needs and self.teacher else [self.backbone]

    @property
    def identity(self) -> dict[str, Any]:
        """What its ranks depend on, as JSON values: its weights, and how it ranks by them."""
        return {"model": identity(Provenance.read(self.folder)), **self.spec.ranked_by()}

    def evaluate(
        self,
        dataset: Dataset,
        path: Path,
        title: str,
        *,
        fuse: FuseBatch | None = None,
        made_from: dict[str, Any] | None = None,
    ) -> tuple[Ranks, dict[str, Any]]:
        """Rank the test targets, or read the ranks where they are kept.

        Args:
            dataset: Whose test targets are ranked.
            path: Beginning of the names of the two files that keep the result.
            title: Name shown beside the progress bar.
            fuse: What is mixed into the scores of the search.
            made_from: What the ranks depend on, where that is more than this model.

        Returns:
            The ranks, and as notes the certificate of the search, or what else the backbone tells.
        """
        return decoded(
            self.backbone,
            dataset,
            self.spec.evaluation,
            path,
            title,
            fuse,
            made_from=made_from or self.identity,
        )
