from pathlib import Path

import numpy as np
import pytest
import torch

from semid.tokenizers import RQKMeans


def test_seeds_differ_and_equal_seeds_agree() -> None:
    vectors = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    codes = [
        RQKMeans(codebook_sizes=(16, 16), seed=seed).fit(vectors).encode(vectors)
        for seed in (0, 0, 1)
    ]
    assert codes[0].equal(codes[1])
    assert not codes[0].equal(codes[2])


def test_a_common_offset_does_not_change_the_codes() -> None:
    vectors = torch.randint(-8, 9, (200, 5), generator=torch.Generator().manual_seed(0)).float()
    near, far = (
        RQKMeans(codebook_sizes=(8,), iterations=5).fit(shifted).encode(shifted)
        for shifted in (vectors, vectors + 4096)
    )
    assert near.equal(far)


def test_an_item_that_came_later_gets_codes() -> None:
    vectors = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    tokenizer = RQKMeans(codebook_sizes=(8, 8)).fit(vectors[:40])
    assert tokenizer.encode(vectors[40:]).shape == (10, 2)


@pytest.mark.shared_data
def test_beauty_uses_all_codes(shared_data: Path) -> None:
    stored = np.load(shared_data / "beauty" / "item_embeddings.lsa128.npy")
    vectors = torch.from_numpy(stored.astype(np.float32))
    codes = RQKMeans(iterations=10).fit(vectors).encode(vectors)
    assert all(len(torch.unique(codes[:, level])) >= 0.95 * 256 for level in range(3))


def clustered(items: int = 300) -> torch.Tensor:
    vectors = torch.randn(items, 5, generator=torch.Generator().manual_seed(0))
    vectors[: items // 6] *= 10
    return vectors + 100


def test_a_beam_leaves_less_over_with_the_same_codebooks() -> None:
    vectors = clustered()
    errors = []
    for beam in (1, 8):
        tokenizer = RQKMeans(codebook_sizes=(8, 8, 8), beam=beam).fit(vectors)
        codes = tokenizer.encode(vectors)
        last = tokenizer.costs(vectors, codes[:, :2]).gather(1, codes[:, 2:])
        errors.append(float(last.sum()))
    assert errors[1] < errors[0]
    assert tokenizer.learned["codebook.2"].equal(
        RQKMeans(codebook_sizes=(8, 8, 8)).fit(vectors).learned["codebook.2"]
    )


def test_balanced_levels_are_near_equal_and_survive_saving(tmp_path: Path) -> None:
    vectors = clustered()
    tokenizer = RQKMeans(codebook_sizes=(6, 6), balanced=True, iterations=5).fit(vectors)
    codes = tokenizer.encode(vectors)
    assert all(int(codes[:, level].bincount().max()) <= 60 for level in range(2))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    loaded = RQKMeans.from_pretrained(tmp_path / "tokenizer")
    assert loaded.encode(vectors[7:9]).equal(codes[7:9])


def test_one_item_has_one_code() -> None:
    item = torch.tensor([[1.0, 2.0]])
    for balanced in (False, True):
        tokenizer = RQKMeans(codebook_sizes=(1, 1), balanced=balanced).fit(item)
        assert tokenizer.encode(item).tolist() == [[0, 0]]


@pytest.mark.parametrize("size", [10, 2**30])
def test_more_codes_than_distinct_items_are_refused(size: int) -> None:
    vectors = torch.ones(20, 3)
    vectors[:4, 0] = torch.arange(4)
    with pytest.raises(ValueError, match=r"got 4 distinct embeddings of 20 items.*at most 4"):
        RQKMeans(codebook_sizes=(4, size)).fit(vectors)
