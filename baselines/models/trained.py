"""A trained model as one unit: fitted in a folder, loaded, evaluated and saved elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from baselines.contracts.backbone import Backbone
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.ranking import FuseBatch
from baselines.evaluation.ranks import Ranks
from baselines.evaluation.slots import ReservedSlots
from baselines.lm.config import LanguageModelConfig
from baselines.models.evaluate import decoded
from baselines.models.files import (
    CONTENT,
    IDS,
    ITEMS,
    PARTNER,
    SECOND_IDS,
    TEACHER,
    known_parts,
    read_card,
    require_replaceable,
    write_card,
)
from baselines.models.fit import FitSettings, MoreLabels, fit_backbone
from baselines.models.fusion import (
    FuseModels,
    generator_fusion,
    rescoring,
    teacher_fusion,
    validation_value,
)
from baselines.models.item_weight import choose_item_weight, tried_weights
from baselines.models.items import ModelItems
from baselines.models.slots import load_content, reserved_slots
from baselines.models.spec import ModelSpec
from baselines.models.stages import is_fitted, read_fitted, stage_folders
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.supervision import Supervision
from baselines.training.checkpoint import TRAINED_FILES, TrainingState, identity, write_trained
from semid.atomic import atomic_dir, link_or_copy
from semid.provenance import Provenance, ProvenanceError, hash_file, require_same
from semid.settings import as_json

_AGAIN = "Copy the whole folder again, or pick the model anew with semid pick."


@dataclass(frozen=True, kw_only=True, eq=False)
class Partner:
    """A second model that is mixed into every step of the search.

    Attributes:
        model: A teacher, or another model on the same items and semantic IDs.
        weight: Weight of the searched model, in [0, 1]; the partner has the rest.
    """

    model: FittedTeacher | TrainedModel
    weight: float

    @property
    def max_history(self) -> int:
        """Largest number of history items that it reads."""
        other = self.model
        return (other.backbone if isinstance(other, TrainedModel) else other.model).max_history


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A backbone with its weights, its items, and any teacher or partner it needs.

    Attributes:
        spec: What was trained.
        backbone: In eval mode.
        items: Its items, with their semantic IDs and counts.
        state: Its training state.
        folder: Where its weights are stored.
        teacher: The teacher that its backbone reads or that trained it; None if there is none.
        partner: The second model in its search; None if there is none.
        content: The scorer that fills its reserved slots; None if there are none.
        removed: Rows of items that are never recommended, but remain known in histories.
        about: Contents for the model card, as JSON values.
    """

    spec: ModelSpec
    backbone: Backbone
    items: ModelItems
    state: TrainingState
    folder: Path
    teacher: FittedTeacher | None = None
    partner: Partner | None = None
    content: FittedTeacher | None = None
    removed: frozenset[int] = frozenset()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        spec: ModelSpec,
        dataset: Dataset,
        items: ModelItems,
        supervision: Supervision | None,
        *,
        folder: Path,
        title: str,
    ) -> TrainedModel:
        """Train a model, or load it if it is already trained.

        Args:
            spec: What to train.
            dataset: The model learns from its training part only; its validation targets select
                the epoch.
            items: The items of the dataset.
            supervision: A teacher and its token distributions; None if neither objective nor
                backbone needs one.
            folder: Where the weights are stored; interrupted training resumes there.
            title: Name shown beside the progress bar.

        Raises:
            ValueError: If the objective needs a teacher and none is given, or leaves nothing to
                learn.
            ProvenanceError: If the folder holds a model with other inputs, or is damaged.
        """
        teacher = None if supervision is None else supervision.teacher
        backbone = spec.build(items.ids, items.catalog, teacher, second=items.second)
        distributions = more_labels = None
        needed = spec.objective.needs_teacher and not is_fitted(backbone, folder)
        if needed and supervision is not None:
            rounded = "bfloat16" in spec.objective.reference
            distributions = supervision(backbone, rounded=rounded)
            second = items.second
            of_items = backbone.learns_items or spec.objective.on_policy > 0
            more_labels = MoreLabels(
                items=supervision.of_items if of_items else None,
                second=None if second is None else supervision.of_codes(second, rounded=rounded),
            )
        state = fit_backbone(
            backbone,
            FitSettings(
                objective=spec.objective,
                training=spec.training,
                evaluation=spec.evaluation,
                seed=spec.seed,
            ),
            distributions,
            dataset.splits,
            folder=folder,
            lineage=spec.lineage(backbone, dataset, items.ids, supervision),
            title=title,
            more_labels=more_labels,
        )
        model = cls(
            spec=spec, backbone=backbone, items=items, state=state, folder=folder, teacher=teacher
        )
        return model._with_chosen_item_weight(dataset.splits.valid, title=title)

    @classmethod
    def read(
        cls,
        spec: ModelSpec,
        items: ModelItems,
        folder: Path,
        *,
        teacher: FittedTeacher | None = None,
    ) -> TrainedModel:
        """Load the weights that ``fit`` wrote, without the training data.

        Raises:
            ProvenanceError: If they are not those that were trained, or were trained for other
                items, semantic IDs or prompts, or on another base.
        """
        lineage = Provenance.read(folder)
        backbone = spec.build(items.ids, items.catalog, teacher, second=items.second)
        expected = {
            "item order": (lineage.items, items.catalog.order_hash),
            "semantic ids": (lineage.inputs.get("semantic_ids"), items.ids.provenance.content),
        }
        for name, content in backbone.input_hashes.items():
            expected[name] = (lineage.inputs.get(name), content)
        for name, (trained_on, found) in expected.items():
            what = f"{name} of the model in {folder}"
            cure = _AGAIN if name != "base" else "Name the language model that it was trained on."
            require_same(what, trained_on, found, what_to_do=cure)
        state = read_fitted(backbone, folder)
        model = cls(
            spec=spec,
            backbone=backbone.eval(),
            items=items,
            state=state,
            folder=folder,
            teacher=teacher,
        )
        return model._with_chosen_item_weight()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        backbone: str | None = None,
        teacher: str | None = None,
        base: str | None = None,
    ) -> TrainedModel:
        """Load a complete model from a folder written by ``save`` or ``keep``.

        Args:
            folder: The model's folder; nothing else is needed.
            backbone: Class path of its backbone, if it is not built in.
            teacher: ``package.module:Name`` of the teacher that it needs, likewise.
            base: Path of its base language model, if it has moved.

        Raises:
            FileNotFoundError: If the folder is not a model's, or lacks a part.
            ProvenanceError: If a part is damaged or belongs to another model, or the folder has
                another format version.
            ValueError: If backbone or teacher is not built in and the caller does not name it, or
                a base is named for a model that has none.
        """
        card = read_card(folder)
        try:
            spec = ModelSpec.from_json(card["spec"], backbone=backbone)
            parts, removed = known_parts(card["parts"], folder), card["removed"]
        except (KeyError, TypeError) as error:
            raise ProvenanceError(
                f"expected spec, parts and removed items of a model in {folder}, got none of "
                f"{error}. {_AGAIN}"
            ) from error
        spec = spec.with_base(base, folder)
        items = ModelItems.read(folder, ids=parts["ids"])
        require_same(
            f"items and texts in {folder / ITEMS}",
            card.get("items"),
            hash_file(folder / ITEMS),
            what_to_do=_AGAIN,
        )
        require_same(
            f"the hash of the weights in {folder}",
            card["model"],
            identity(Provenance.read(folder)),
            what_to_do=_AGAIN,
        )
        fitted = None
        if (settings := parts["teacher"]) is not None:
            fitted = FittedTeacher.load(folder / TEACHER, items.catalog, model=teacher, **settings)
        model = cls.read(spec, items, folder, teacher=fitted)
        named = {"backbone": backbone, "teacher": teacher, "base": base}
        partners = [_load_partner(folder / PARTNER, items, one, named) for one in parts["partners"]]
        return dataclasses.replace(
            model,
            partner=partners[0] if partners else None,
            content=load_content(folder / CONTENT, items, parts.get("content")),
            removed=frozenset(items.catalog.rows(removed).tolist()),
            about=card["about"],
        )

    def keep(self) -> None:
        """Complete the model's own folder, unless its card, which is written last, is there."""
        try:
            card = read_card(self.folder)
            is_same = card["model"] == identity(Provenance.read(self.folder))
            if is_same and card["spec"]["evaluation"] == as_json(self.spec.evaluation):
                return
        except (FileNotFoundError, ProvenanceError):
            pass  # never written, or damaged
        self._write_parts(self.folder)

    def save(self, folder: Path) -> None:
        """Write a complete model to a folder, replacing any model there.

        Raises:
            FileExistsError: If the folder holds anything else.
        """
        require_replaceable(folder)
        with atomic_dir(folder) as filling:
            stages = self.backbone.stages
            folders = (stage_folders(stages, folder) for folder in (self.folder, filling))
            for source, target in zip(*folders, strict=True):
                target.mkdir(exist_ok=True)
                for name in TRAINED_FILES:
                    link_or_copy(source / name, target / name)
            lineage = Provenance.read(self.folder)
            changed = dataclasses.replace(
                lineage,
                items=self.items.catalog.order_hash,
                inputs={
                    **lineage.inputs,
                    "semantic_ids": self.items.ids.provenance.content,
                    **self.backbone.input_hashes,
                },
            )
            if changed != lineage:
                write_trained(filling, self.backbone, self.state, changed)
            self._write_parts(filling)

    def _write_parts(self, folder: Path) -> None:
        self.items.write(folder)
        teacher = self.teacher if self.spec.backbone_class.needs_teacher else None
        if teacher is not None:
            teacher.save(folder / TEACHER)
        if self.partner is not None:
            self.partner.model.save(folder / PARTNER)
        if self.content is not None:
            self.content.save(folder / CONTENT)
        spec, base = as_json(self.spec), None
        if isinstance(self.spec.config, LanguageModelConfig):
            path = Path(self.spec.config.model)
            name = str(path.resolve()) if path.exists() else str(path)
            spec["config"]["model"] = name
            base = {"name": name, "content": self.backbone.input_hashes["base"]}
        write_card(
            folder,
            {
                "model": identity(Provenance.read(folder)),
                "items": hash_file(folder / ITEMS),
                "spec": spec,
                "parts": {
                    "ids": [IDS] if self.items.second is None else [IDS, SECOND_IDS],
                    "heads": [],
                    "teacher": _described(teacher),
                    "partners": [] if self.partner is None else [_described(self.partner)],
                    "base": base,
                    **({} if self.content is None else {"content": _described(self.content)}),
                },
                "removed": [self.items.catalog.item_ids[row] for row in sorted(self.removed)],
                "about": dict(self.about),
            },
        )

    @property
    def modules(self) -> list[nn.Module]:
        """Every module needed at serving time; their parameters are counted."""
        if self.teacher is not None and self.spec.backbone_class.needs_teacher:
            return [self.backbone, self.teacher.model]
        return [self.backbone]

    @property
    def identity(self) -> dict[str, Any]:
        """What its ranks depend on, as JSON values: its weights and ranking settings."""
        return {"model": identity(Provenance.read(self.folder)), **self.spec.ranked_by()}

    @property
    def fuse(self) -> FuseBatch | None:
        """What changes the scores of its search; None if nothing does."""
        if self.partner is None:
            return self.rescored(None)
        other, weight = self.partner.model, self.partner.weight
        if isinstance(other, TrainedModel):
            renormalize = self.spec.evaluation.renormalize
            fuse = generator_fusion(other.backbone, weight=weight, renormalize=renormalize)
        else:
            fuse = teacher_fusion(
                other.model,
                self.backbone.trie,
                weight=weight,
                temperature=other.temperature,
                mask_history=other.mask_history,
            )
        return self.rescored(fuse)

    @property
    def slots(self) -> ReservedSlots | None:
        """What fills the last places of its lists; None if they are not reserved."""
        return reserved_slots(self.backbone, self.spec.evaluation, self.items, self.content)

    def rescored(self, fuse: FuseModels | None) -> FuseBatch | None:
        """Change the scores of the search as ``spec.evaluation`` says.

        The backbone's own item head is mixed in first, then a second model, and the training prior
        is divided out of the result.

        Args:
            fuse: Makes the second model's opinion; None for none. It is returned as it is where
                no beam is searched.
        """
        counts = torch.from_numpy(self.items.counts)
        return rescoring(self.backbone, self.spec.evaluation, counts, fuse)

    def _with_item_weight(self, weight: float | Literal["auto"]) -> TrainedModel:
        evaluation = dataclasses.replace(self.spec.evaluation, item_weight=weight)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, evaluation=evaluation))

    def _with_chosen_item_weight(
        self, valid: SequenceSet | None = None, *, title: str = ""
    ) -> TrainedModel:
        """The model with a number for ``item_weight``, if it has an item head and none is given.

        Args:
            valid: Validation targets that choose it; None to read the choice.
            title: Name shown beside the progress bar.
        """
        if self.backbone.item_scorer() is None or self.spec.evaluation.item_weight != "auto":
            return self

        def validated(weight: float) -> float:
            assert valid is not None
            fuse, name = self._with_item_weight(weight).fuse, f"{title}, item weight {weight:g}"
            evaluation = self.spec.evaluation
            return validation_value(self.backbone, valid, evaluation, fuse, title=name)

        able = None if valid is None else validated
        return self._with_item_weight(
            choose_item_weight(self.folder, able, made_from=self.identity)
        )

    def evaluate(
        self,
        dataset: Dataset,
        path: Path,
        title: str,
        *,
        fuse: FuseModels | None = None,
        made_from: dict[str, Any] | None = None,
    ) -> tuple[Ranks, dict[str, Any]]:
        """Rank the test targets, or read stored ranks.

        Args:
            dataset: The data with the test targets.
            path: Common prefix of the two result files.
            title: Name shown beside the progress bar.
            fuse: Makes the second opinion that is mixed into the search.
            made_from: The inputs of the ranks, if there are others besides this model.

        Returns:
            The ranks, and notes: the certificate of the search, or the backbone's extra results.
        """
        ranks, notes = decoded(
            self.backbone,
            dataset,
            self.spec.evaluation,
            path,
            title,
            self.rescored(fuse),
            slots=self.slots,
            made_from=made_from or self.identity,
        )
        if self.backbone.item_scorer() is not None:
            unsettled = self._with_item_weight("auto").identity
            tried = tried_weights(self.folder, made_from=unsettled)
            weight = self.spec.evaluation.item_weight
            notes["item_weight"] = {"weight": weight, "validation": tried}
        return ranks, notes


def _described(part: FittedTeacher | Partner | None) -> dict[str, Any] | None:
    """The description of a part in ``model.json``, from which it is loaded."""
    if isinstance(part, FittedTeacher):
        return {"temperature": part.temperature, "mask_history": part.mask_history}
    if part is None:
        return None
    if isinstance(part.model, FittedTeacher):
        return {"kind": "teacher", "weight": part.weight, **(_described(part.model) or {})}
    return {"kind": "model", "weight": part.weight}


def _load_partner(
    folder: Path, items: ModelItems, part: Mapping[str, Any], named: Mapping[str, str | None]
) -> Partner:
    settings = dict(part)
    kind, weight = settings.pop("kind"), settings.pop("weight")
    if kind == "teacher":
        teacher = FittedTeacher.load(folder, items.catalog, model=named["teacher"], **settings)
        return Partner(model=teacher, weight=weight)
    return Partner(model=TrainedModel.load(folder, **named), weight=weight)
