"""LLaRA's curriculum: which batches have vectors, and what is learned from the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_lm import TITLES, write_model
from tiny_recommenders import loss_of, recommender, some_batch
from torch import Tensor

from baselines.recommenders.config import LlaraConfig
from baselines.recommenders.llara import has_vectors


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_of_batches_with_vectors_is_the_share_of_the_training_done(seed: int) -> None:
    steps = 4000
    drawn = np.array([has_vectors(seed, step / steps) for step in range(steps)])
    shares = drawn.reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(shares, [0.125, 0.375, 0.625, 0.875], atol=0.05)
    assert not drawn[0], "the first batch is text alone"
    assert not np.array_equal(drawn, [has_vectors(seed + 7, s / steps) for s in range(steps)])
    assert np.array_equal(drawn, [has_vectors(seed, s / steps) for s in range(steps)])


def test_a_batch_of_text_alone_is_that_of_the_plain_language_model(
    llama: Path, tiny_codes: Tensor
) -> None:
    made = recommender("llara", llama, tiny_codes)
    plain = recommender("lm", llama, tiny_codes)
    early, late = (dataclasses.replace(some_batch(), progress=p) for p in (0.0, 1.0))
    made.train()
    made.base.eval()  # dropout of the adapters would differ
    plain.eval()
    text = loss_of(made, early)
    assert text.item() == pytest.approx(loss_of(plain, early).item())
    text.backward()
    got = {name for name, value in made.named_parameters() if value.grad is not None}
    assert got
    assert not any("projector" in name for name in got)
    both = loss_of(made, late)
    assert both.item() != pytest.approx(text.item(), rel=1e-3)
    both.backward()
    got = {name for name, value in made.named_parameters() if value.grad is not None}
    assert got == set(made.learned())


def test_decoding_reads_vectors_whatever_the_progress(llama: Path, tiny_codes: Tensor) -> None:
    made = recommender("llara", llama, tiny_codes).eval()
    batches = [dataclasses.replace(some_batch(), progress=p) for p in (0.0, 1.0)]
    assert loss_of(made, batches[0]).item() == loss_of(made, batches[1]).item()
    assert made.prompts_of(None) is made.prompts


def test_an_item_without_a_place_for_its_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"item must hold \{vector\} once, got"):
        LlaraConfig(item="{item}")
