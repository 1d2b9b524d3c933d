"""The alarm names what is wrong and what is likely to help."""

import logging
import re
from typing import Any

import pytest
import torch

from semid.tokenizers import RQVAE, RVQ
from semid.tokenizers.collapse import (
    CollapseReport,
    collapse_warning,
    collapses,
    perplexity,
    utilisation,
)

USUAL: dict[str, Any] = {
    "items": 5000,
    "distinct": 5000,
    "restart_every": 5,
    "restarts": 20,
    "learning_rate": 1e-3,
    "standardised": True,
}
FEW = torch.tensor([90, 10, 0, 0, 0, 0, 0, 0])


def test_use_and_perplexity_are_the_definition() -> None:
    assert utilisation(torch.tensor([1, 0, 2, 0])) == 0.5
    assert perplexity(torch.tensor([7, 7, 7])) == pytest.approx(3)
    assert perplexity(torch.tensor([9, 0, 0])) == pytest.approx(1)
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log())
    assert perplexity(torch.tensor([3, 1])) == pytest.approx(float(entropy.exp()))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5, 5, 5, 5], False),
        ([5, 5, 0, 0], False),
        ([5, 0, 0, 0], True),
        ([9991] + [1] * 15, True),
        ([40], False),
    ],
)
def test_few_codes_or_one_crowded_code_is_a_collapse(counts: list[int], expected: bool) -> None:
    assert collapses(torch.tensor(counts)) is expected


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ({"distinct": 3}, "Only 3 of 5000 embeddings are distinct"),
        ({"items": 20, "distinct": 20}, "20 items are few for 8 codes; choose at most 2"),
        ({"restarts": 0, "restart_every": 900}, r"never restarted \(restart_every 900\)"),
        ({"learning_rate": 0.4}, "Lower the learning_rate of 0.4"),
        ({"standardised": False}, "to one scale"),
        ({"learning_rate": None}, "start='balanced'"),
    ],
)
def test_the_cure_fits_the_situation(change: dict[str, Any], cure: str) -> None:
    warning = collapse_warning(2, FEW, CollapseReport(**{**USUAL, **change}))
    assert warning.startswith("level 2 uses 25% of its 8 codes (perplexity 1.4)")
    assert re.search(cure, warning), warning
    assert "\n" not in warning


def test_a_collapse_is_told_once_a_level_while_most_of_the_training_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gen = torch.Generator().manual_seed(0)
    vectors = torch.randn(400, 6, generator=gen)
    tokenizer = RQVAE(
        codebook_sizes=(32, 32),
        hidden_dims=(8,),
        latent_dim=4,
        epochs=20,
        batch_size=50,
        learning_rate=0.5,
        restart_every=100,
    )
    told_after: list[int] = []
    tokenizer.on_epoch = lambda entry: told_after.append(len(caplog.records))
    with caplog.at_level(logging.WARNING):
        tokenizer.fit(vectors)
    messages = [record.getMessage() for record in caplog.records]
    levels = [message.split()[2] for message in messages]
    assert levels
    assert len(set(levels)) == len(levels)
    assert all("never restarted (restart_every 100)" in message for message in messages)
    assert told_after[2] == 0
    assert told_after[3] == told_after[-1] == len(messages)


def test_a_sound_training_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    vectors = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        RQVAE(codebook_sizes=(8, 8), hidden_dims=(8,), latent_dim=4, epochs=10).fit(vectors)
        RVQ(codebook_sizes=(8, 8), epochs=10).fit(vectors)
    assert not caplog.records
