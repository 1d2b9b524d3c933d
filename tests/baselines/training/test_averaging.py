"""Weights averaged over the ends of the last epochs: what is validated, kept and resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from worlds import random_sequences

from baselines.data.batches import TrainBatch, Windows
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from baselines.training.averaging import WeightAverage
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.provenance import Provenance
from tca.objective import ObjectiveOutput

NUM_ITEMS = 12
WINDOWS = Windows.per_sequence(random_sequences(NUM_ITEMS, 30), 6)
CONFIG = TrainingConfig(epochs=6, patience=9, batch_events=40, lr=0.01, schedule="cosine")
NUM_BATCHES = WINDOWS.num_batches(CONFIG.batch_events)
LINEAGE = Provenance(kind="model", content="", seen="train", config={"layers": 1})

Weights = dict[str, Tensor]


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


class Scale(nn.Module):
    """An objective with a learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))


def weights(*modules: nn.Module) -> Weights:
    named = (pair for module in modules for pair in module.named_parameters())
    return {name: value.detach().clone() for name, value in named}


def run(
    folder: Path,
    values: Iterable[float],
    *,
    seed: int = 0,
    kill_after: int | None = None,
    **settings: object,
) -> tuple[TrainingState, list[Weights], Weights]:
    """Train with these validation values.

    Returns:
        The state, the weights that were validated each time, and those in the end.
    """
    encoder = EncoderConfig(dim=8, num_layers=1, ff_dim=16, dropout=0.3)
    made = SASRec(SASRecConfig(max_history=6, encoder=encoder), NUM_ITEMS, seed)
    objective, validated, results = Scale(), [], iter(values)
    steps = iter(range(10**6))

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        if next(steps) == kill_after:
            raise Killed
        scaled = made.loss(batch) * objective.log.exp() - objective.log
        return ObjectiveOutput(loss=scaled, parts={}, count=torch.tensor(1))

    def validate() -> float:
        validated.append(weights(made, objective))
        return next(results)

    task = TrainingTask(windows=WINDOWS, loss=loss, validate=validate, objective=objective)
    state = train(
        made,
        task,
        config=dataclasses.replace(CONFIG, **settings),  # type: ignore[arg-type]
        seed=0,
        folder=folder,
        lineage=LINEAGE,
        title="test",
    )
    return state, validated, weights(made, objective)


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def assert_same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def mean(ends: list[Weights]) -> Weights:
    return {name: sum(end[name].double() for end in ends).float() / len(ends) for name in ends[0]}  # type: ignore[union-attr]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("number", [2, 3, 9])
def test_validated_are_means_over_the_last_epochs_and_training_does_not_see_them(
    tmp_path: Path, number: int, precision: str
) -> None:
    rising = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    _, ends, _ = run(tmp_path / "plain", rising, precision=precision)
    state, validated, last = run(
        tmp_path / "averaged", rising, precision=precision, average_last=number
    )
    assert len(validated) == state.best_epoch == 6
    for epoch, found in enumerate(validated, start=1):
        assert_close(found, mean(ends[max(epoch - number, 0) : epoch]))
    assert_same(last, validated[-1])


def test_the_mean_of_the_best_epoch_is_kept(tmp_path: Path) -> None:
    state, validated, last = run(tmp_path, [1.0, 2.0, 4.0, 3.0, 4.0, 2.0], average_last=2)
    assert (state.best, state.best_epoch) == (4.0, 3)
    assert_same(last, validated[2])
    kept = load_file(tmp_path / "model.safetensors")
    assert torch.equal(kept["item_embedding.weight"], validated[2]["item_embedding.weight"])
    assert torch.equal(kept["objective.log"], validated[2]["log"]), "the objective's is one of them"
    assert kept["objective.log"] != 0


def test_epochs_that_are_not_validated_count_too(tmp_path: Path) -> None:
    _, ends, _ = run(tmp_path / "plain", [1.0] * 6)
    _, validated, _ = run(tmp_path / "averaged", [1.0, 2.0, 3.0], average_last=3, eval_every=2)
    for found, stop in zip(validated, (2, 4, 6), strict=True):
        assert_close(found, mean(ends[max(stop - 3, 0) : stop]))


@pytest.mark.parametrize(
    "kills", [[NUM_BATCHES + 2], [2 * NUM_BATCHES + 1, 2], [4 * NUM_BATCHES + 2, NUM_BATCHES]]
)
def test_killed_anywhere_it_ends_with_the_same_means(tmp_path: Path, kills: list[int]) -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    state, validated, expected = run(tmp_path / "undisturbed", values, average_last=3)
    folder, left = tmp_path / "killed", iter(values)
    for turn, kill_after in enumerate(kills):
        with pytest.raises(Killed):
            run(folder, left, seed=turn, kill_after=kill_after, average_last=3)
    resumed, again, found = run(folder, left, seed=7, average_last=3)
    assert (resumed.epoch, resumed.best_epoch) == (state.epoch, state.best_epoch)
    assert 0 < len(again) <= 6
    assert_same(found, expected)
    for mine, theirs in zip(reversed(again), reversed(validated), strict=False):
        assert_same(mine, theirs)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "state.json",
        "provenance.json",
    }


def test_no_copies_are_kept_without_averaging(tmp_path: Path) -> None:
    for number, copies in ((1, 0), (3, 2)):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            run(folder, [1.0] * 6, kill_after=4 * NUM_BATCHES, average_last=number)
        names = load_file(folder / "checkpoint.safetensors")
        assert len({name.split("/")[1] for name in names if name.startswith("end/")}) == copies


def test_weights_return_after_an_error_and_half_precision_is_averaged_in_full() -> None:
    value = torch.tensor([256.0, 1.0], dtype=torch.bfloat16)
    average = WeightAverage([value], 3)
    for present in ([256.0, 2.0], [1.0, 3.0]):
        value.copy_(torch.tensor(present))
        average.record()
    value.copy_(torch.tensor([1.0, 4.0]))

    def look() -> None:
        with average.applied():
            assert value.tolist() == [86.0, 3.0], "258 / 3; in bfloat16, 256 + 1 is 256"
            raise Killed

    with pytest.raises(Killed):
        look()
    assert value.tolist() == [1.0, 4.0]


@pytest.mark.parametrize("wrong", [0, -1, 2**10 + 1, True, 1.5])
def test_a_number_of_epochs_out_of_range_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="average_last"):
        dataclasses.replace(CONFIG, average_last=wrong)  # type: ignore[arg-type]
