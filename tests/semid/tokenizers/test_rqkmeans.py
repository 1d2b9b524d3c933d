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
