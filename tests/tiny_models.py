"""Models of a tiny shop, trained in a second: with and without a teacher in the beam."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.models.config import BackboneConfigs
from baselines.models.items import ModelItems
from baselines.models.spec import ModelSpec
from baselines.models.trained import Partner, TrainedModel
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import MassConfig, SASRecConfig, TeacherConfig
from baselines.teachers.fitted import FittedTeacher
from baselines.training.config import TrainingConfig
from semid.build import fit_text_encoder, ids_from_config
from semid.config import IdsConfig
from tca.config import ObjectiveConfig

ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=1, ff_dim=8)
CONFIGS = BackboneConfigs(
    causal=CausalConfig(encoder=ENCODER, max_history=9),
    tiger=TigerConfig(dim=8, num_layers=1, num_heads=1, head_dim=8, ff_dim=8, max_history=4),
)
TRAINING = TrainingConfig(epochs=1, precision="fp32")


def shop() -> Dataset:
    """60 users and 48 items with titles."""
    return synthetic_dataset(num_users=60, num_items=48)


def histories(number: int = 20) -> pl.DataFrame:
    """``user_id`` and ``history``, one to five items of the shop."""
    ids = shop().catalog.item_ids
    lists = [[ids[(n * step) % len(ids)] for step in range(1, 2 + n % 5)] for n in range(number)]
    return pl.DataFrame({"user_id": [f"user {n:02}" for n in range(number)], "history": lists})


def spec(backbone: str = "causal", beam: int = 48, configs: BackboneConfigs = CONFIGS) -> ModelSpec:
    return ModelSpec.of(
        backbone,
        configs,
        objective=ObjectiveConfig(name="ntp"),
        training=TRAINING,
        evaluation=EvaluationConfig(beam=beam, validation_beam=5, validation_targets=20),
        mass=MassConfig(),
        seed=0,
    )


def fit_model(
    folder: Path,
    backbone: str = "causal",
    beam: int = 48,
    configs: BackboneConfigs = CONFIGS,
    dataset: Dataset | None = None,
) -> TrainedModel:
    """A trained model, kept whole in ``folder / "model"``."""
    dataset = dataset or shop()
    config = IdsConfig(codebook_sizes=(4, 4))
    ids = ids_from_config(config, dataset.catalog)
    encoder = fit_text_encoder(ids, config, dataset.catalog)
    replace(ids, text_encoder=encoder).save(folder / "ids")
    items = ModelItems.of(dataset, ids, folder / "ids")
    model = TrainedModel.fit(
        spec(backbone, beam, configs), dataset, items, None, folder=folder / "model", title="tiny"
    )
    model.keep()
    return model


def with_teacher(model: TrainedModel, folder: Path, name: str = "sasrec") -> TrainedModel:
    """The model with a teacher in the beam, at weight .4 of its own."""
    config = TeacherConfig(model=name, sasrec=SASRecConfig(max_history=9, encoder=ENCODER))  # type: ignore[arg-type]
    teacher = FittedTeacher.fit(
        shop(), config, TRAINING, seed=0, folder=folder / "teachers", temperature=0.7
    )
    return replace(model, partner=Partner(model=teacher, weight=0.4))
