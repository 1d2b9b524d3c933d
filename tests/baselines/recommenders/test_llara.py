"""LLaRA's curriculum: which batches have vectors, and what is learned from the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_lm import TITLES, write_model
from tiny_recommenders import loss_of, recommender, some_batch
from torch import Tensor, nn
from worlds import random_sequences

from baselines.data.batches import TrainBatch, Windows
from baselines.recommenders.config import LlaraConfig
from baselines.recommenders.llara import has_vectors
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.provenance import Provenance
from tca.objective import ObjectiveOutput


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_of_batches_with_vectors_is_the_share_of_the_training_done(seed: int) -> None:
    steps = 4000
    batches = [dataclasses.replace(some_batch(), progress=step / steps) for step in range(steps)]
    drawn = np.array([has_vectors(seed, batch) for batch in batches])
    shares = drawn.reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(shares, [0.125, 0.375, 0.625, 0.875], atol=0.05)
    assert not drawn[0], "the first batch is text alone"
    assert not np.array_equal(drawn, [has_vectors(seed + 7, batch) for batch in batches])
    assert np.array_equal(drawn, [has_vectors(seed, batch) for batch in batches])


def test_the_released_curriculum_restarts_with_each_epoch_and_is_drawn_for_each_part() -> None:
    epochs, steps, parts = 5, 800, 4
    total = epochs * steps
    drawn = np.array(
        [
            has_vectors(
                0,
                dataclasses.replace(
                    some_batch(),
                    progress=(epoch * steps + step) / total,
                    since_epoch=step / total,
                    part=part,
                ),
                "released",
            )
            for epoch in range(epochs)
            for step in range(steps)
            for part in range(parts)
        ]
    ).reshape(epochs, 4, -1, parts)  # of each epoch four quarters
    shares = drawn.mean(axis=(2, 3))
    expected = np.array([0.125, 0.375, 0.625, 0.875]) / epochs  # the code: step / steps of all
    np.testing.assert_allclose(shares, np.tile(expected, (epochs, 1)), atol=0.05)
    some, every = drawn.any(axis=-1), drawn.all(axis=-1)
    assert some.sum() > 3 * every.sum(), "parts of one batch are drawn apart"


def test_without_a_curriculum_every_batch_has_vectors(llama: Path, tiny_codes: Tensor) -> None:
    made = recommender("llara", llama, tiny_codes, own=LlaraConfig(curriculum="none")).train()
    loss_of(made, dataclasses.replace(some_batch(), progress=0.0)).backward()
    got = {name for name, value in made.named_parameters() if value.grad is not None}
    assert got == set(made.trainable_names()), "projector and adapters are learned together"


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
    assert got == set(made.trainable_names())


def test_decoding_reads_vectors_whatever_the_progress(llama: Path, tiny_codes: Tensor) -> None:
    made = recommender("llara", llama, tiny_codes).eval()
    batches = [dataclasses.replace(some_batch(), progress=p) for p in (0.0, 1.0)]
    assert loss_of(made, batches[0]).item() == loss_of(made, batches[1]).item()
    assert made.prompts_of(None) is made.prompts


def test_a_training_says_how_far_its_epoch_is(tmp_path: Path) -> None:
    seen: list[tuple[float, float, int]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def loss(self, batch: TrainBatch) -> ObjectiveOutput:
            seen.append((batch.progress, batch.since_epoch, batch.part))
            return ObjectiveOutput(loss=self.weight.sum(), parts={}, count=torch.tensor(1))

    model = Watched()
    windows = Windows.per_target(random_sequences(12, 8), 4)
    train(
        model,
        config=TrainingConfig(epochs=3, patience=3, batch_events=10, accumulate=2),
        seed=0,
        task=TrainingTask(
            windows=windows,
            loss=model.loss,
            validate=lambda: 0.0,
        ),
        folder=tmp_path,
        lineage=Provenance(kind="test", content=""),
        title="watched",
    )
    steps = windows.num_batches(10)
    total = 3 * steps
    whole = [(done / total, done % steps / total) for done in range(total)]
    assert sorted({(progress, since) for progress, since, _ in seen}) == whole
    assert {part for _, _, part in seen} == {0, 1}


def test_an_item_without_a_place_for_its_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"item must contain \{vector\} exactly once, got"):
        LlaraConfig(item="{item}")


def test_a_curriculum_that_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match="curriculum must be one of paper, released, none, got"):
        LlaraConfig(curriculum="linear")  # type: ignore[arg-type]
