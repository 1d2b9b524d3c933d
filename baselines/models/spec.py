"""The specification of one model: backbone, objective, training, decoding and seed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.contracts.backbone import Backbone, BuildContext
from baselines.data.dataset import Dataset
from baselines.evaluation.config import EvaluationConfig, ranking_settings
from baselines.lm.config import LanguageModelConfig
from baselines.models.config import BackboneConfigs
from baselines.models.registry import backbone_class, backbone_settings, build_backbone
from baselines.teachers.config import MassConfig
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.supervision import Supervision
from baselines.training.checkpoint import without_memory_settings
from baselines.training.config import TrainingConfig
from semid.catalog import Catalog
from semid.distributed import distributed_state
from semid.ids import SemanticIds
from semid.provenance import Provenance
from semid.registry import refuse_unnamed_code
from semid.settings import as_json, from_json
from tca.config import ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that determines a model except its data, semantic IDs and teacher.

    Attributes:
        backbone: A short name of ``BACKBONES``, or ``package.module:Class``.
        config: An instance of the backbone's ``config_class``.
        extra_config: An instance of its ``extra_config_class``; None if it has none.
        objective: Its loss.
        training: How it is trained.
        evaluation: How it is decoded and ranked.
        mass: How the teacher's token distributions are computed.
        seed: Seed of initial weights, data order and dropout.
    """

    backbone: str
    config: Any
    extra_config: Any = None
    objective: ObjectiveConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    mass: MassConfig
    seed: int

    @classmethod
    def of(cls, backbone: str, configs: BackboneConfigs, **others: Any) -> ModelSpec:
        """The spec of a backbone, with its settings taken from ``configs``.

        Args:
            backbone: Its name.
            configs: Settings of all backbones.
            others: The other attributes.
        """
        config, extra = backbone_settings(backbone_class(backbone), configs)
        return cls(backbone=backbone, config=config, extra_config=extra, **others)

    @property
    def backbone_class(self) -> type[Backbone]:
        """Class of its backbone."""
        return backbone_class(self.backbone)

    def build(
        self,
        ids: SemanticIds,
        catalog: Catalog,
        teacher: FittedTeacher | None = None,
        *,
        second: SemanticIds | None = None,
    ) -> Backbone:
        """The untrained backbone, on this process's device.

        Args:
            ids: The semantic IDs that it writes.
            catalog: The items.
            teacher: The teacher that it reads, if it needs one.
            second: A second set of semantic IDs; None for one set alone.

        Raises:
            ValueError: If there is a second set, and it takes one alone.
        """
        context = BuildContext(
            codes=ids.codes,
            sizes=ids.sizes,
            seed=self.seed,
            catalog=catalog,
            teacher=None if teacher is None else teacher.model,
            second=second,
        )
        made = build_backbone(self.backbone_class, self.config, self.extra_config, context)
        return made.to(distributed_state().device)

    def lineage(
        self,
        backbone: Backbone,
        dataset: Dataset,
        ids: SemanticIds,
        supervision: Supervision | None,
    ) -> Provenance:
        """Provenance of a model with this spec.

        Args:
            backbone: The backbone that ``build`` returned.
            dataset: The data it is trained on.
            ids: The semantic IDs it writes.
            supervision: Its teacher and labels, if its objective or backbone needs one.
        """
        cls, objective = self.backbone_class, self.objective
        inputs = {
            "semantic_ids": ids.provenance.content,
            "valid": dataset.splits.valid.content_hash(),
            **backbone.input_hashes,
        }
        settings = {
            "backbone": cls.shares_weights_with or self.backbone,
            "shape": without_memory_settings(cls.training_settings(self.config, self.extra_config)),
            "objective": as_json(objective),
            "training": without_memory_settings(self.training),
            "evaluation": ranking_settings(self.evaluation),
            "seed": self.seed,
        }
        if supervision is not None and (objective.needs_teacher or cls.needs_teacher):
            inputs["teacher"] = supervision.teacher.scores_hash
        if supervision is not None and objective.needs_teacher:
            labels = supervision.labels
            if labels.scores_hash != supervision.teacher.scores_hash:
                inputs["labels"] = labels.scores_hash
            settings["temperature"] = labels.temperature
            settings["mass"] = as_json(supervision.config)
        return Provenance(
            kind="generator",
            content="",
            items=dataset.catalog.order_hash,
            seen=dataset.splits.train_hash,
            inputs=inputs,
            config=json.loads(json.dumps(settings)),
        )

    def ranked_by(self) -> dict[str, Any]:
        """The settings that affect its ranks but not its weights, as JSON values."""
        shares = self.backbone_class.shares_weights_with is not None
        own = as_json(self.extra_config) if shares and self.extra_config is not None else {}
        how = self.evaluation
        prior = {"prior": float(how.prior)} if how.prior else {}
        item = {} if how.item_weight in ("auto", 0) else {"item_weight": float(how.item_weight)}
        slots = {"slots": how.slots} if how.slots else {}
        return {"backbone": self.backbone, "settings": own, **prior, **item, **slots}

    def with_base(self, base: str | None, folder: Path) -> ModelSpec:
        """The spec with the current path of its language model.

        Args:
            base: The path; None for the one in the spec.
            folder: The model's folder, named in errors.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a base is given and there is no language model.
        """
        if not isinstance(self.config, LanguageModelConfig):
            if base is not None:
                raise ValueError(
                    f"expected no base of the model in {folder}, which has no language model, got "
                    f"{base!r}. Leave it out."
                )
            return self
        place = Path(self.config.model if base is None else base)
        if place.is_absolute() and not place.exists():
            raise FileNotFoundError(
                f"expected the language model of the model in {folder} at {place}, got no such "
                "folder. Say where it is now: base, or --base."
            )
        return dataclasses.replace(self, config=dataclasses.replace(self.config, model=str(place)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, backbone: str | None = None) -> ModelSpec:
        """The spec that `semid.settings.as_json` wrote.

        Args:
            values: The JSON values.
            backbone: Class path of an external backbone, which the caller must name: a file never
                decides which code is run.

        Raises:
            ValueError: If a value is missing, unknown or out of range, or the backbone is external
                and the caller does not name it.
        """
        name = values["backbone"]
        if ":" in name and name != backbone:
            cure = f"Name it: backbone={name!r}, or --backbone {name}."
            refuse_unnamed_code("backbone", name, where="the folder of the model", cure=cure)
        made_by = backbone_class(name)
        extra = values.get("extra_config")
        if extra is not None and made_by.extra_config_class is not None:
            extra = from_json(made_by.extra_config_class, extra)
        return cls(
            backbone=name,
            config=from_json(made_by.config_class, values["config"]),
            extra_config=extra,
            objective=from_json(ObjectiveConfig, values["objective"]),
            training=from_json(TrainingConfig, values["training"]),
            evaluation=from_json(EvaluationConfig, values["evaluation"]),
            mass=from_json(MassConfig, values["mass"]),
            seed=values["seed"],
        )
