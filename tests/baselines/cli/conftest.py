"""A working directory with a small shop, what is broken about it, and settings that fit it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset

TINY = """
data: shop
out: runs/tiny
ids: {codebook_sizes: [4, 4]}
arms: ["tiger:ntp", "tiger:soft_ce:0.5"]
seeds: [0]
teacher: {sasrec: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}}
teacher_training: {epochs: 1}
backbones:
  tiger: {num_layers: 1, dim: 8, num_heads: 1, head_dim: 8, ff_dim: 8, max_history: 4}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
resamples: 20
"""

SCHEMES = """
from dataclasses import dataclass

from semid import SemanticIdTokenizer


@dataclass(kw_only=True, eq=False)
class Float(SemanticIdTokenizer):
    codebook_sizes: tuple[int, ...] = (2,)

    def _fit(self, embeddings, cf_embeddings):
        return {}

    def _encode(self, embeddings, learned):
        return embeddings[:, :1]


class Cf(Float):
    uses_cf = True
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small shop, and settings that fit it."""
    folder = tmp_path_factory.mktemp("world")
    dataset = synthetic_dataset(num_users=40, num_items=32, num_categories=2)
    write_plain_layout(dataset, folder / "shop")
    (folder / "tiny.yaml").write_text(TINY)
    codes = {str(item): [f"<a_{item}>"] for item in dataset.catalog.item_ids}
    (folder / "codes.json").write_text(json.dumps(codes))
    (folder / "codes_of_others.json").write_text(json.dumps({"a": ["<a_1>"]}))
    broken = {"items": b"PAR1 no table PAR1", "interactions": b"nothing like parquet"}
    for name, data in broken.items():
        shutil.copytree(folder / "shop", folder / f"broken_{name}")
        (folder / f"broken_{name}" / f"{name}.parquet").write_bytes(data)
    for name in broken:
        file = Path(shutil.copytree(folder / "shop", folder / f"unnamed_{name}"))
        file /= f"{name}.parquet"
        pl.read_parquet(file).drop("item_id").write_parquet(file)
    vectors = np.random.default_rng(0).normal(size=(33, 4))
    np.save(folder / "padded.npy", vectors)
    np.save(folder / "same.npy", np.ones((32, 4)))
    vectors[3, 0] = np.nan
    np.save(folder / "nan.npy", vectors[:32])
    (folder / "schemes.py").write_text(SCHEMES)
    (folder / "unreadable.py").write_text("class Scheme:")
    shutil.copytree(folder / "shop", folder / "one")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    items[:1].write_parquet(folder / "one" / "items.parquet")
    (folder / "broken.yaml").write_text("data: [")
    (folder / "codes.parquet").write_bytes(b"PAR1 no table PAR1")
    return folder


@pytest.fixture
def folder(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of one's own that shows the same files."""
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
