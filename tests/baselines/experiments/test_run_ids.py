"""The semantic ids of a comparison: what they may have seen, and ids that cannot be made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_comparison import TINY
from torch import Tensor

from baselines.data.loading import load_dataset
from baselines.experiments.run import run_comparison
from semid.config import IdsConfig
from semid.embed import Embeddings
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError
from semid.tokenizers import SemanticIdTokenizer


def test_a_folder_is_free_again_after_ids_that_could_not_be_made(
    shop: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        TINY, data=str(shop), out=str(tmp_path / "out"), arms=("causal:ntp",), seeds=(0,)
    )
    with pytest.raises(ValueError, match="at least as many distinct items"):
        run_comparison(dataclasses.replace(config, ids=IdsConfig(codebook_sizes=(4096,))))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings"]
    run_comparison(config)


@dataclasses.dataclass(kw_only=True, eq=False)
class CollaborativeSigns(SemanticIdTokenizer):
    codebook_sizes: tuple[int, ...] = (2,)
    uses_cf = True

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        assert cf_embeddings is not None
        return {"map": embeddings.T @ cf_embeddings}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings @ learned["map"][:, : len(self.codebook_sizes)] > 0).long()


def test_ids_that_have_seen_more_than_the_training_part_are_refused(
    shop: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(str(shop))
    vectors = np.random.default_rng(0).normal(size=(len(dataset.catalog), 3))
    cf = Embeddings.of(vectors, dataset.catalog)
    ids = IdsConfig(
        scheme=f"{__name__}:CollaborativeSigns",
        codebook_sizes=(2, 2),
        cf_embeddings=str(tmp_path / "cf"),
    )
    config = dataclasses.replace(
        TINY, data=str(shop), out=str(tmp_path / "out"), ids=ids, arms=("causal:ntp",), seeds=(0,)
    )
    for seen in ("all interactions", dataset.splits.train_hash):
        provenance = dataclasses.replace(cf.provenance, seen=seen)
        dataclasses.replace(cf, provenance=provenance).save(tmp_path / "cf")
        if seen == "all interactions":
            with pytest.raises(ProvenanceError, match="semantic ids have seen"):
                run_comparison(config)
        else:
            run_comparison(config)
            assert SemanticIds.load(tmp_path / "out" / "ids").provenance.seen == seen
