"""A trained model as one unit: fitted into a folder, read from it, evaluated, saved elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from baselines.contracts.backbone import Backbone
from baselines.data.dataset import Dataset
from baselines.evaluation.ranking import FuseBatch
from baselines.evaluation.ranks import Ranks
from baselines.lm.config import LanguageModelConfig
from baselines.models.evaluate import decoded
from baselines.models.files import (
    IDS,
    ITEMS,
    PARTNER,
    TEACHER,
    read_card,
    require_replaceable,
    write_card,
)
from baselines.models.fit import FitSettings, fit_backbone
from baselines.models.fusion import generator_fusion, teacher_fusion
from baselines.models.items import ModelItems
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
    """A second model whose opinion on every step of the search is mixed in.

    Attributes:
        model: A teacher, or another model on the same items and ids.
        weight: Of the model that is searched, in [0, 1]; the partner has the rest.
    """

    model: FittedTeacher | TrainedModel
    weight: float

    @property
    def max_history(self) -> int:
        """Most items of a history that it looks at."""
        other = self.model
        return (other.backbone if isinstance(other, TrainedModel) else other.model).max_history


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A backbone with its weights, the items that it writes, and what it needs beside.

    Attributes:
        spec: What was trained.
        backbone: In eval mode.
        items: What it knows of items.
        state: Its training.
        folder: Where its weights are kept.
        teacher: What its backbone reads, or taught it; None where nothing did.
        partner: What is mixed into its search; None for nothing.
        removed: Rows of items that are never recommended; they stay known in histories.
        about: What the model card tells of it, as JSON values.
    """

    spec: ModelSpec
    backbone: Backbone
    items: ModelItems
    state: TrainingState
    folder: Path
    teacher: FittedTeacher | None = None
    partner: Partner | None = None
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
        """Train it, or read it where it is trained already.

        Args:
            spec: What to train.
            dataset: Only its training part is learned from; validation targets choose the epoch.
            items: Those of the data set.
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
        backbone = spec.build(items.ids, items.catalog, teacher)
        distributions = None
        needed = spec.objective.needs_teacher and not is_fitted(backbone, folder)
        if needed and supervision is not None:
            rounded = "bfloat16" in spec.objective.reference
            distributions = supervision(backbone, rounded=rounded)
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
            lineage=spec.lineage(backbone, dataset, items.ids, teacher),
            title=title,
        )
        return cls(
            spec=spec, backbone=backbone, items=items, state=state, folder=folder, teacher=teacher
        )

    @classmethod
    def read(
        cls,
        spec: ModelSpec,
        items: ModelItems,
        folder: Path,
        *,
        teacher: FittedTeacher | None = None,
    ) -> TrainedModel:
        """Read the weights that ``fit`` has left in a folder, without the data they learned from.

        Raises:
            ProvenanceError: If they are not those that were trained, or were trained for other
                items, ids, prompts or another base.
        """
        lineage = Provenance.read(folder)
        backbone = spec.build(items.ids, items.catalog, teacher)
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
        return cls(
            spec=spec,
            backbone=backbone.eval(),
            items=items,
            state=state,
            folder=folder,
            teacher=teacher,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        backbone: str | None = None,
        teacher: str | None = None,
        base: str | None = None,
    ) -> TrainedModel:
        """Read a folder that ``save`` or ``keep`` has made a whole model: nothing else is needed.

        Args:
            folder: The model's.
            backbone: Class path of its backbone, where that is from outside.
            teacher: Likewise ``package.module:Name`` of the teacher that it needs.
            base: Where its language model is now; None for where it was.

        Raises:
            FileNotFoundError: If the folder is none of a model, or lacks a part.
            ProvenanceError: If a part was damaged or is of another model, or the folder has
                another version of the format.
            ValueError: If backbone or teacher are from outside and the caller does not name them,
                or a base is named of a model that has none.
        """
        card = read_card(folder)
        try:
            spec = ModelSpec.from_json(card["spec"], backbone=backbone)
            parts, removed = _known_parts(card["parts"], folder), card["removed"]
        except (KeyError, TypeError) as error:
            raise ProvenanceError(
                f"expected spec, parts and removed items of a model in {folder}, got none of "
                f"{error}. {_AGAIN}"
            ) from error
        spec = _with_base(spec, base, folder)
        items = ModelItems.read(folder)
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
        read = None
        if (said := parts["teacher"]) is not None:
            read = FittedTeacher.load(folder / TEACHER, items.catalog, model=teacher, **said)
        model = cls.read(spec, items, folder, teacher=read)
        named = {"backbone": backbone, "teacher": teacher, "base": base}
        found = [_load_partner(folder / PARTNER, items, said, named) for said in parts["partners"]]
        return dataclasses.replace(
            model,
            partner=found[0] if found else None,
            removed=frozenset(items.catalog.rows(removed).tolist()),
            about=card["about"],
        )

    def keep(self) -> None:
        """Make its folder a whole model, where it is none yet."""
        try:
            if read_card(self.folder)["model"] == identity(Provenance.read(self.folder)):
                return
        except (FileNotFoundError, ProvenanceError):
            pass  # it was never written, or is damaged
        self._write_parts(self.folder)

    def save(self, folder: Path) -> None:
        """Write a whole model into a folder of its own, in place of another model there.

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
                    "ids": [IDS],
                    "heads": [],
                    "teacher": _described(teacher),
                    "partners": [] if self.partner is None else [_described(self.partner)],
                    "base": base,
                },
                "removed": [self.items.catalog.item_ids[row] for row in sorted(self.removed)],
                "about": dict(self.about),
            },
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

    @property
    def fuse(self) -> FuseBatch | None:
        """What its partner mixes into the search."""
        if self.partner is None:
            return None
        other, weight = self.partner.model, self.partner.weight
        if isinstance(other, TrainedModel):
            renormalize = self.spec.evaluation.renormalize
            return generator_fusion(other.backbone, weight=weight, renormalize=renormalize)
        return teacher_fusion(
            other.model,
            self.backbone.trie,
            weight=weight,
            temperature=other.temperature,
            mask_history=other.mask_history,
        )

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


def _described(part: FittedTeacher | Partner | None) -> dict[str, Any] | None:
    """What the card says of a part, by which it is loaded."""
    if isinstance(part, FittedTeacher):
        return {"temperature": part.temperature, "mask_history": part.mask_history}
    if part is None:
        return None
    if isinstance(part.model, FittedTeacher):
        return {"kind": "teacher", "weight": part.weight, **(_described(part.model) or {})}
    return {"kind": "model", "weight": part.weight}


def _known_parts(parts: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The parts of a model, if this version can use all of them.

    Raises:
        ProvenanceError: If one is unknown here, or there are more of them than can be used.
    """
    known = {"ids", "heads", "teacher", "partners", "base"}
    more = sorted(parts.keys() - known)
    usable = parts["ids"] == [IDS] and not parts["heads"] and len(parts["partners"]) <= 1
    if more or not usable:
        raise ProvenanceError(
            f"expected a model of one set of ids, no further heads and at most one partner in "
            f"{folder}, got {', '.join(more) or 'more'}. Read it with the version of semid that "
            "wrote it."
        )
    return parts


def _load_partner(
    folder: Path, items: ModelItems, said: Mapping[str, Any], named: Mapping[str, str | None]
) -> Partner:
    settings = dict(said)
    kind, weight = settings.pop("kind"), settings.pop("weight")
    if kind == "teacher":
        teacher = FittedTeacher.load(folder, items.catalog, model=named["teacher"], **settings)
        return Partner(model=teacher, weight=weight)
    return Partner(model=TrainedModel.load(folder, **named), weight=weight)


def _with_base(spec: ModelSpec, base: str | None, folder: Path) -> ModelSpec:
    """The spec with its language model where that is now."""
    if not isinstance(spec.config, LanguageModelConfig):
        if base is not None:
            raise ValueError(
                f"expected no base of the model in {folder}, which has no language model, got "
                f"{base!r}. Leave it out."
            )
        return spec
    place = Path(spec.config.model if base is None else base)
    if place.is_absolute() and not place.exists():
        raise FileNotFoundError(
            f"expected the language model of the model in {folder} at {place}, got no such folder. "
            "Say where it is now: base, or --base."
        )
    return dataclasses.replace(spec, config=dataclasses.replace(spec.config, model=str(place)))
