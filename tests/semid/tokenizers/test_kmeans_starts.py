"""Where k-means begins, what it makes of few distinct vectors, and scales it cannot work on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semid.tokenizers import OPQ, PQ, RQVAE, RVQ, HierarchicalKMeans, RQKMeans, SemanticIdTokenizer
from semid.tokenizers.kmeans import KMEANS_STARTS, kmeans, kmeans_plus_plus, squared_distances
from semid.tokenizers.residual import codebooks_of, reconstruct


def randn(items: int, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(seed))


def schemes() -> list[SemanticIdTokenizer]:
    sizes: dict[str, Any] = {"codebook_sizes": (4, 4)}
    return [
        RQKMeans(**sizes),
        RQKMeans(**sizes, balanced=True),
        HierarchicalKMeans(**sizes),
        PQ(**sizes),
        OPQ(**sizes),
        RVQ(**sizes, epochs=2),
        RQVAE(**sizes, epochs=1, hidden_dims=(8,), latent_dim=4),
    ]


@pytest.mark.parametrize("made_by", [RQKMeans, HierarchicalKMeans, PQ])
@pytest.mark.parametrize("seed", range(8))
def test_as_many_codes_as_distinct_vectors_give_each_its_own(
    made_by: type[SemanticIdTokenizer], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kinds = int(rng.integers(2, 12))
    points = randn(kinds, int(rng.integers(1, 6)), seed)
    vectors = points.repeat_interleave(torch.from_numpy(rng.integers(1, 40, size=kinds)), dim=0)
    tokenizers = [made_by(codebook_sizes=(kinds,))]  # type: ignore[call-arg]
    if made_by is RQKMeans:
        tokenizers += [RQKMeans(codebook_sizes=(kinds,), start=start) for start in KMEANS_STARTS]
        tokenizers += [RQKMeans(codebook_sizes=(kinds,), balanced=True)]
    for tokenizer in tokenizers:
        codes = tokenizer.fit(vectors).encode(vectors)
        assert codes.unique().numel() == kinds
        assert tokenizer.encode(points).unique().numel() == kinds


def test_more_codes_than_are_left_to_tell_apart_repeat_what_there_is() -> None:
    vectors = randn(3).repeat_interleave(5, dim=0)
    tokenizer = RQKMeans(codebook_sizes=(3, 3)).fit(vectors)
    assert tokenizer.encode(vectors)[:, 0].unique().numel() == 3
    assert tokenizer.costs(vectors, tokenizer.encode(vectors)[:, :1]).amax() < 1e-6


def test_the_greedy_start_is_the_best_of_its_draws() -> None:
    vectors, tries = randn(60, 3), 4
    found = kmeans_plus_plus(vectors, 5, torch.Generator().manual_seed(1), tries=tries)
    generator = torch.Generator().manual_seed(1)
    centres = vectors[torch.randint(60, (1,), generator=generator)]
    for draws in torch.rand(4, tries, generator=generator, dtype=torch.float64):
        nearest = squared_distances(vectors, centres).amin(dim=1).double()
        drawn = [int((nearest.cumsum(0) <= nearest.sum() * draw).sum()) for draw in draws]
        left = [
            float(
                squared_distances(vectors, torch.cat([centres, vectors[row][None]])).amin(1).sum()
            )
            for row in drawn
        ]
        centres = torch.cat([centres, vectors[drawn[left.index(min(left))]][None]])
    torch.testing.assert_close(found, centres)


def error(vectors: Tensor, start: str) -> float:
    tokenizer = RQKMeans(codebook_sizes=(32, 32), start=start).fit(vectors)
    said = reconstruct(tokenizer.encode(vectors), codebooks_of(tokenizer.learned))
    return float((vectors - tokenizer.learned["mean"] - said).square().sum())


def test_the_default_start_leaves_less_error_than_items_drawn_evenly() -> None:
    topics = 3 * randn(40, seed=1)
    vectors = topics[torch.arange(1200) % 40] + 0.3 * randn(1200)
    assert RQKMeans().start == "greedy_kmeans++"
    assert error(vectors, "greedy_kmeans++") < 0.9 * error(vectors, "random")


@pytest.mark.parametrize("start", KMEANS_STARTS)
def test_a_start_is_the_same_bits_for_a_seed_and_other_ones_for_another(start: str) -> None:
    vectors = randn(200)
    books = [
        kmeans(vectors, 16, iterations=3, seed=seed, start=start) for seed in (0, 0, 2**32 - 1)
    ]
    assert books[0].equal(books[1])
    assert not books[0].equal(books[2])


def test_ids_from_before_there_were_starts_are_read_with_the_one_they_had(tmp_path: Path) -> None:
    vectors = randn(60)
    made = RQKMeans(codebook_sizes=(8, 8), start="random").fit(vectors)
    made.save_pretrained(tmp_path / "tokenizer")
    config = json.loads((tmp_path / "tokenizer" / "config.json").read_text())
    assert "start" not in config["settings"], "as it was written before"
    loaded = RQKMeans.from_pretrained(tmp_path / "tokenizer")
    assert loaded.start == "random"
    assert loaded.provenance == made.provenance
    assert loaded.encode(vectors).equal(made.encode(vectors))


@pytest.mark.parametrize("place", range(len(schemes())))
@pytest.mark.parametrize(("scale", "cure"), [(2e19, "Divide all"), (1e-23, "Multiply all")])
def test_scales_that_cannot_be_squared_are_refused_by_name(
    place: int, scale: float, cure: str
) -> None:
    vectors = randn(60) * scale
    with pytest.raises(ValueError, match=rf"^expected embeddings .*, got .*{cure} of them by one"):
        schemes()[place].fit(vectors)
    fitted = schemes()[place].fit(randn(60))
    if scale > 1:
        with pytest.raises(ValueError, match="expected embeddings of at most 1e"):
            fitted.encode(vectors)


@pytest.mark.parametrize("scale", [1e-8, 1e12])
def test_codes_are_those_of_any_other_scale(scale: float) -> None:
    vectors = randn(300)
    power = 2.0 ** round(np.log2(scale))  # exact
    for tokenizer in (RQKMeans(codebook_sizes=(8, 8)), HierarchicalKMeans(codebook_sizes=(8, 8))):
        expected = tokenizer.fit(vectors).encode(vectors)
        assert tokenizer.fit(vectors * power).encode(vectors * power).equal(expected)


def test_a_part_that_cannot_be_squared_is_named() -> None:
    vectors = randn(60)
    vectors[:, 4:] *= 1e-23
    with pytest.raises(ValueError, match="expected values at level 1's part of embeddings"):
        PQ(codebook_sizes=(4, 4)).fit(vectors)


@pytest.mark.parametrize("place", range(len(schemes())))
def test_an_outlier_that_buries_the_others_is_named(place: int) -> None:
    vectors = randn(60)
    vectors[17] = 1e12
    with pytest.raises(
        ValueError, match=r"1 of 60 embeddings are outliers: row 17 lies .* nothing"
    ):
        schemes()[place].fit(vectors)


def test_one_that_is_too_large_alone_is_said_to_be_an_outlier() -> None:
    vectors = randn(60)
    vectors[17] = 1e30
    with pytest.raises(ValueError, match=r"in row 17, the first of 1.* remove the outliers"):
        RQKMeans(codebook_sizes=(4, 4)).fit(vectors)


def test_an_outlier_that_leaves_room_for_the_others_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vectors = randn(60)
    vectors[17] = 1e4
    with caplog.at_level(logging.WARNING):
        RQKMeans(codebook_sizes=(4, 4)).fit(vectors)
    assert "1 of 60 embeddings are outliers: row 17" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        RQKMeans(codebook_sizes=(4, 4)).fit(torch.cat([randn(40), 1e4 * randn(20)]))
    assert not caplog.text, "a third of all rows are another kind, not outliers"
