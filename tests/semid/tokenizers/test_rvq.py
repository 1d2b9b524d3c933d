"""R-VQ: codebooks trained on the embeddings themselves."""

from typing import Any

import pytest
import torch
from torch import Tensor

from semid.tokenizers import RVQ
from semid.tokenizers.residual import codebooks_of, reconstruct
from semid.tokenizers.training import CODEBOOK_UPDATES

SMALL: dict[str, Any] = {"codebook_sizes": (16, 8), "epochs": 30, "batch_size": 100}


def vectors(items: int = 600) -> Tensor:
    gen = torch.Generator().manual_seed(0)
    topics = 2 * torch.randn(16, 6, generator=gen)
    spread = torch.randn(items, 6, generator=gen)
    return 5 + topics[torch.randint(16, (items,), generator=gen)] + spread


def error(tokenizer: RVQ) -> float:
    """Mean squared error of what the codes say about the embeddings."""
    learned, codes = tokenizer.learned, tokenizer.encode(vectors())
    said = reconstruct(codes, codebooks_of(learned)) + learned["mean"]
    return float((vectors() - said).square().mean())


@pytest.mark.parametrize("update", CODEBOOK_UPDATES)
def test_what_is_learned_are_codebooks_that_leave_no_more_over_than_their_start(
    update: str,
) -> None:
    start = RVQ(**{**SMALL, "epochs": 0}, codebook_update=update).fit(vectors())
    trained = RVQ(**SMALL, codebook_update=update).fit(vectors())
    assert set(trained.learned) == {"mean", "codebook.0", "codebook.1"}
    assert error(trained) < 1.02 * error(start)
    assert not any(value.requires_grad for value in trained.learned.values())


@pytest.mark.parametrize("update", CODEBOOK_UPDATES)
def test_a_poor_start_is_made_good_by_training(update: str) -> None:
    settings = {**SMALL, "kmeans_iterations": 0, "codebook_update": update, "learning_rate": 0.02}
    start = RVQ(**{**settings, "epochs": 0}, start="kmeans++").fit(vectors())
    trained = RVQ(**settings, start="kmeans++").fit(vectors())
    assert error(trained) < 0.9 * error(start)


def test_the_reconstruction_that_is_told_is_that_of_the_codes() -> None:
    tokenizer = RVQ(**{**SMALL, "epochs": 1}, codebook_update="ema", ema_decay=0.0)
    tokenizer.batch_size = len(vectors())
    told = tokenizer.fit(vectors()).history_[0]["reconstruction"]
    start = RVQ(**{**SMALL, "epochs": 0}).fit(vectors())
    assert told == pytest.approx(error(start), rel=1e-4)


def test_costs_are_squared_distances_to_what_is_left_of_the_embedding() -> None:
    tokenizer = RVQ(**SMALL).fit(vectors())
    codes = tokenizer.encode(vectors())
    first, second = codebooks_of(tokenizer.learned)
    left = vectors() - tokenizer.learned["mean"] - first[codes[:, 0]]
    expected = (left[:, None] - second).square().sum(dim=2)
    torch.testing.assert_close(
        tokenizer.costs(vectors(), codes[:, :1]), expected, atol=1e-4, rtol=1e-4
    )
