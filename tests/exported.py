"""Untrained models over random catalogues, with and without twins, and their exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from tiny_lm import write_model
from tiny_models import TRAINING
from torch import Tensor
from worlds import histories

from baselines.backbones.config import TigerConfig
from baselines.contracts.backbone import Backbone
from baselines.evaluation.config import EvaluationConfig
from baselines.exporting.view import ExportView
from baselines.lm.config import LanguageModelConfig, LoraSettings
from baselines.models.config import BackboneConfigs
from baselines.models.items import ModelItems
from baselines.models.search import best_items
from baselines.models.spec import ModelSpec
from baselines.models.trained import TrainedModel
from baselines.teachers.config import MassConfig
from baselines.training.checkpoint import TrainingState
from semid.catalog import Catalog
from semid.config import Renormalize
from semid.ids import SemanticIds
from semid.provenance import Provenance
from semid.trie import CodeTrie
from tca.config import ObjectiveConfig

Lists = list[list[tuple[Any, float]]]

WORDS = ["red", "pink", "dry", "set", "brush", "oil", "nude", "fine"]


def random_ids(rng: np.random.Generator, *, levels: int | None = None) -> SemanticIds:
    """Codes of up to 24 items, some of whom share theirs."""
    sizes = tuple(rng.integers(2, 5, size=levels or rng.integers(2, 5)).tolist())
    number = rng.integers(2, 25)
    codes = np.stack([rng.integers(size, size=number) for size in sizes], axis=1)
    twins = rng.random(len(codes)) < 0.3
    codes[twins] = codes[0]
    items = [f"i{row}" for row in range(len(codes))]
    return SemanticIds.of(items, torch.from_numpy(codes), sizes, scheme="random")


def random_titles(rng: np.random.Generator, number: int) -> list[str]:
    """Titles of different lengths, of which some are equal or begin with another."""
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 5))) for _ in range(number)]


def untrained(
    folder: Path,
    backbone: str,
    ids: SemanticIds,
    titles: list[str],
    configs: BackboneConfigs,
    *,
    beam: int,
    renormalize: Renormalize = "children",
) -> TrainedModel:
    """A model of random weights."""
    catalog = Catalog(item_ids=ids.item_ids, fields=pl.DataFrame({"title": titles}))
    spec = ModelSpec.of(
        backbone,
        configs,
        objective=ObjectiveConfig(name="ntp"),
        training=TRAINING,
        evaluation=EvaluationConfig(beam=beam, renormalize=renormalize),
        mass=MassConfig(),
        seed=0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    Provenance(kind="generator", content="").write(folder)
    made: Backbone = spec.build(ids, catalog).eval()
    items = ModelItems(
        catalog=catalog, ids=ids, counts=np.ones(len(titles), dtype=np.int64), folder=None
    )
    return TrainedModel(spec=spec, backbone=made, items=items, state=TrainingState(), folder=folder)


def random_model(
    folder: Path,
    seed: int,
    *,
    levels: int | None = None,
    dim: int = 16,
) -> TrainedModel:
    """TIGER for even seeds, else a language model that writes codes or titles."""
    rng = np.random.default_rng(seed)
    ids = random_ids(rng, levels=levels)
    titles = random_titles(rng, len(ids))
    beam = int(rng.integers(2, 12))
    renormalize: Renormalize = "none" if seed % 5 == 0 else "children"
    backbone = "lm" if seed % 2 else "tiger"
    if backbone == "tiger":
        shape = {"num_layers": 1, "dim": 16, "num_heads": 2, "head_dim": 8, "ff_dim": 16}
        tiger = TigerConfig(**shape, max_history=3, separator=bool(rng.integers(2)))
        configs = BackboneConfigs(tiger=tiger)
    else:
        base = write_model(folder / "base", titles, tied=bool(rng.integers(2)), std=0.5, dim=dim)
        configs = language_configs(base, items="codes" if seed % 4 == 1 else "titles")
    return untrained(folder, backbone, ids, titles, configs, beam=beam, renormalize=renormalize)


def wide_model(folder: Path) -> TrainedModel:
    """A language model that writes one of 1,300 first codes."""
    codes = torch.arange(1300).unsqueeze(1) * torch.tensor([1, 0]) + torch.tensor([0, 1])
    ids = SemanticIds.of([f"i{row}" for row in range(1300)], codes, (1300, 2), scheme="wide")
    titles = random_titles(np.random.default_rng(0), len(ids))
    configs = language_configs(write_model(folder / "base", titles, std=0.5, dim=64), items="codes")
    return untrained(folder, "lm", ids, titles, configs, beam=20)


def language_configs(base: Path, *, items: Literal["codes", "titles"]) -> BackboneConfigs:
    """Settings of a language model with short prompts."""
    lm = LanguageModelConfig(
        model=str(base),
        items=items,
        template="had {history}; next:",
        max_history=3,
        max_length=60,
        lora=LoraSettings(r=2),
    )
    return BackboneConfigs(lm=lm)


def random_view(
    seed: int,
    *,
    levels: int | None = None,
    ragged: bool = False,
    with_ends: bool = False,
    integers: bool = False,
) -> ExportView:
    """A catalogue for a server.

    Args:
        seed: Of the paths.
        levels: Number of codes; random by default.
        ragged: Whether paths have different lengths, with an end token and no codes.
        with_ends: Whether there are a start and an end token, as a model has.
        integers: Whether items are named by integers, not all of them small.
    """
    rng = np.random.default_rng(seed)
    view = ExportView.of_ids(random_ids(rng, levels=levels), "ids")
    if ragged:
        paths = _ragged(rng)
        view = replace(view, trie=CodeTrie.from_paths(paths, 9), vocab=None)
        view = replace(view, item_ids=[f"i{row}" for row in range(len(paths))])
    if integers:
        view = replace(view, item_ids=[2**62 - 5 * row for row in range(len(view.item_ids))])
    if with_ends:
        model: Any = SimpleNamespace(backbone=SimpleNamespace(label="LM"))
        view = replace(view, start=9, end=0, model=model)
    return view


def _ragged(rng: np.random.Generator) -> Tensor:
    rows = [[*rng.integers(1, 5, size=rng.integers(0, 4)).tolist(), 0] for _ in range(20)]
    return torch.tensor([row + [-1] * (4 - len(row)) for row in rows])


def own_lists(model: TrainedModel, pasts: list[list[int]], k: int) -> Lists:
    """What the model recommends by its own search."""
    found = best_items(model, histories(*pasts), k=k)
    ids = model.items.catalog.item_ids
    return [
        [(ids[item], score) for item, score in zip(items, scores, strict=True) if item >= 0]
        for items, scores in zip(found.items.tolist(), found.scores.tolist(), strict=True)
    ]


def assert_same_lists(found: Lists, expected: Lists, *, atol: float = 1e-4) -> None:
    """The same items in the same order, with the same scores."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert [item for item, _ in one] == [item for item, _ in other]
        np.testing.assert_allclose([s for _, s in one], [s for _, s in other], atol=atol)
