"""Recommenders that read vectors of a teacher, over the dozen items of ``tiny_codes``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from building import build
from tiny_lm import TITLES
from torch import Tensor
from worlds import histories, random_sequences

from baselines.data.batches import TrainBatch, Windows
from baselines.data.splits import Splits
from baselines.lm.config import LanguageModelConfig
from baselines.models.config import BackboneConfigs
from baselines.nn.config import EncoderConfig
from baselines.recommenders.config import AllmrecConfig, CollmConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.model import TeacherModel
from baselines.teachers.sasrec import SASRec
from semid.catalog import Catalog
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

SIZES = (3, 3, 2)
CATALOG = Catalog(item_ids=list(range(12)), fields=pl.DataFrame({"title": TITLES}))
TEMPLATE = "had {history}; next "
WITH_USER = "{user} had {history}; next "


def teacher(seed: int = 0) -> SASRec:
    """A teacher that nothing was learned by."""
    config = SASRecConfig(encoder=EncoderConfig(dim=8, num_heads=2, ff_dim=16))
    return SASRec(config, len(TITLES), seed).eval()


def recommender(
    name: str,
    model: Path,
    codes: Tensor,
    *,
    seed: int = 0,
    taught_by: TeacherModel | None = None,
    own: Any = None,
    **options: Any,
) -> Any:
    """The backbone that arms call ``name``; ``options`` are those of its language model."""
    options = {"template": TEMPLATE, "max_history": 4, **options}
    configs = BackboneConfigs(
        lm=LanguageModelConfig(model=str(model), **options),
        collm=CollmConfig(template=WITH_USER),
        allmrec=AllmrecConfig(template=WITH_USER),
    )
    if own is not None:
        configs = dataclasses.replace(configs, **{name: own})
    taught_by = taught_by or teacher()
    return build(name, configs, codes, SIZES, seed, catalog=CATALOG, teacher=taught_by)


def some_batch() -> TrainBatch:
    """Every target of a few random sequences."""
    windows = Windows.per_target(random_sequences(12, 4, longest=6), 4)
    return windows.batch(np.arange(len(windows)))


def some_splits() -> Splits:
    """Random sequences to train, to validate and to test by."""
    train, valid, test = (random_sequences(12, 9, seed=seed) for seed in range(3))
    return Splits(train=train, valid=valid, test=test, protocol="given", dropped={})


def loss_of(made: Any, batch: TrainBatch) -> Tensor:
    """Plain next tokens."""
    loss = Objective(ObjectiveConfig(masked=False))
    at = loss.positions(made.trie, batch.target_items, pad_to=made.pad_positions_to)
    output: ObjectiveOutput = loss(made(batch, at), candidates(made.trie, batch.target_items, at))
    return output.loss


def state_of(past: list[int], taught_by: SASRec) -> Tensor:
    """The teacher's state after a history, as it stands; float ``(dim,)``."""
    with torch.no_grad():
        return taught_by.user_vectors(histories(past))[0].clone()
