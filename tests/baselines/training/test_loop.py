"""The training loop: what a kill, a second call, a plateau and a wrong input lead to."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from worlds import random_sequences

from baselines.data.batches import TrainBatch, Windows
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from baselines.training.checkpoint import TrainingState, is_trained, without_memory_settings
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.provenance import Provenance, ProvenanceError
from semid.settings import as_json
from tca.objective import ObjectiveOutput

NUM_ITEMS = 12
WINDOWS = Windows.per_sequence(random_sequences(NUM_ITEMS, 30), 6)
CONFIG = TrainingConfig(epochs=5, patience=9, batch_events=40, lr=0.01, schedule="cosine")
LINEAGE = Provenance(kind="model", content="", seen="train", config={"layers": 1})
NUM_BATCHES = WINDOWS.num_batches(CONFIG.batch_events)


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


def model(seed: int = 0) -> SASRec:
    encoder = EncoderConfig(dim=8, num_layers=1, ff_dim=16, dropout=0.3)
    return SASRec(SASRecConfig(max_history=6, encoder=encoder), NUM_ITEMS, seed)


def rising() -> Callable[[], float]:
    values = iter(range(1, 100))
    return lambda: float(next(values))


def output(loss: Tensor, **parts: Tensor) -> ObjectiveOutput:
    return ObjectiveOutput(loss=loss, parts=parts, count=torch.tensor(1))


def run(
    made: SASRec,
    folder: Path,
    *,
    config: TrainingConfig = CONFIG,
    seed: int = 0,
    validate: Callable[[], float] | None = None,
    loss: Callable[[TrainBatch], ObjectiveOutput] | None = None,
    kill_after: int | None = None,
    lineage: Provenance = LINEAGE,
) -> TrainingState:
    """Train; the step after ``kill_after`` steps of this run raises ``Killed``."""
    steps = iter(range(config.epochs * NUM_BATCHES))
    fixed_batch = next(WINDOWS.epoch(config.batch_events, np.random.default_rng(0)))

    def loss_or_kill(batch: TrainBatch) -> ObjectiveOutput:
        if next(steps) == kill_after:
            raise Killed
        return loss(batch) if loss is not None else output(made.loss(batch))

    return train(
        made,
        config=config,
        seed=seed,
        task=TrainingTask(
            windows=WINDOWS,
            loss=loss_or_kill,
            validate=validate or (lambda: -float(made.loss(fixed_batch).detach())),
        ),
        folder=folder,
        lineage=lineage,
        title="test",
    )


def weights(made: SASRec) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in made.named_parameters()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def without_times(state: TrainingState) -> TrainingState:
    return dataclasses.replace(state, seconds=0.0, validation_seconds=0.0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_in_the_middle_of_an_epoch_it_ends_like_an_undisturbed_training(
    tmp_path: Path, precision: str
) -> None:
    config = dataclasses.replace(CONFIG, precision=precision)
    undisturbed, killed, resumed = model(), model(), model(seed=5)
    state = run(undisturbed, tmp_path / "undisturbed", config=config)

    folder = tmp_path / "killed"
    assert NUM_BATCHES > 3
    with pytest.raises(Killed):
        run(killed, folder, config=config, kill_after=2 * NUM_BATCHES + 2)
    assert not is_trained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(99)  # what else happened in the process is of no consequence
        state_resumed = run(resumed, folder, config=config)

    assert_same(weights(undisturbed), weights(resumed))
    assert without_times(state_resumed) == without_times(state)
    assert state_resumed.epoch == len(state_resumed.history) == 5
    contents = {Provenance.read(tmp_path / name).content for name in ("undisturbed", "killed")}
    assert len(contents) == 1


def test_killed_twice_and_after_the_last_epoch_it_still_ends_the_same(tmp_path: Path) -> None:
    undisturbed = model()
    state = run(undisturbed, tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    for kill_after in (1, NUM_BATCHES, 3 * NUM_BATCHES + 3):  # in epochs 1, 2 and 5
        with pytest.raises(Killed):
            run(model(), folder, kill_after=kill_after)
    resumed = model()
    assert without_times(run(resumed, folder)) == without_times(state)
    assert_same(weights(undisturbed), weights(resumed))


def test_training_lowers_the_loss_and_leaves_the_model_ready_to_use(tmp_path: Path) -> None:
    made = model()
    before = torch.get_rng_state()
    state = run(made, tmp_path)
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert not made.training
    assert torch.equal(torch.get_rng_state(), before)
    assert state.seconds > 0
    assert state.validation_seconds > 0


def test_a_finished_training_is_read_and_not_repeated(tmp_path: Path) -> None:
    made = model()
    state = run(made, tmp_path)

    def forbidden(*_: object) -> float:
        raise AssertionError("trained again")

    again = model(seed=7).train()
    assert run(again, tmp_path, validate=forbidden, kill_after=0) == state
    assert_same(weights(made), weights(again))
    assert not again.training


def test_the_folder_ends_as_an_artefact_without_its_checkpoint(tmp_path: Path) -> None:
    made = model()
    folder = tmp_path / "deep" / "folder"
    run(made, folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "state.json", "provenance.json"}
    assert_same(load_file(folder / "model.safetensors"), weights(made))
    record = Provenance.read(folder)
    assert len(record.content) == 64
    assert dataclasses.replace(record, content="") == LINEAGE


def test_other_weights_are_other_content(tmp_path: Path) -> None:
    for seed in (0, 1):
        run(model(seed), tmp_path / str(seed), config=dataclasses.replace(CONFIG, epochs=1))
    assert Provenance.read(tmp_path / "0").content != Provenance.read(tmp_path / "1").content


def test_weights_that_were_changed_after_the_training_are_refused(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=1)
    run(model(), tmp_path, config=config)
    found = load_file(tmp_path / "model.safetensors")
    changed = {name: value * math.nan for name, value in found.items()}
    (tmp_path / "model.safetensors").write_bytes(save(changed))
    with pytest.raises(ProvenanceError, match=r"model\.safetensors was changed after"):
        run(model(), tmp_path, config=config)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "change", [{"seen": "more"}, {"config": {"layers": 2}}, {"items": "x"}, {"inputs": {"a": "b"}}]
)
def test_a_folder_of_another_origin_is_refused(
    tmp_path: Path, finished: bool, change: dict[str, object]
) -> None:
    config = dataclasses.replace(CONFIG, epochs=2)
    if finished:
        run(model(), tmp_path, config=config)
    else:
        with pytest.raises(Killed):
            run(model(), tmp_path, config=config, kill_after=NUM_BATCHES + 1)
    made = model(seed=3)
    untouched = weights(made)
    other = dataclasses.replace(LINEAGE, **change)  # type: ignore[arg-type]
    with pytest.raises(ProvenanceError, match="Name another folder"):
        run(made, tmp_path, config=config, lineage=other)
    assert_same(untouched, weights(made))


def test_versions_and_content_are_no_part_of_the_origin(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=1)
    run(model(), tmp_path, config=config)
    newer = dataclasses.replace(LINEAGE, versions={"torch": "99"})
    assert run(model(), tmp_path, config=config, lineage=newer).epoch == 1


def test_patience_ends_training_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    made = model()
    kept: list[dict[str, Tensor]] = []
    values = iter([1.0, 3.0, 2.0, 3.0])  # an equal value is no better one

    def validate() -> float:
        assert not made.training
        kept.append(weights(made))
        return next(values)

    config = dataclasses.replace(CONFIG, epochs=20, patience=2)
    state = run(made, tmp_path, config=config, validate=validate)
    assert (state.epoch, state.best_epoch, state.best) == (4, 2, 3.0)
    assert [entry["validation"] for entry in state.history] == [1.0, 3.0, 2.0, 3.0]
    assert_same(weights(made), kept[1])
    assert not torch.equal(kept[1]["item_embedding.weight"], kept[3]["item_embedding.weight"])


def test_validation_comes_every_so_many_epochs_and_after_the_last(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, eval_every=2)
    state = run(model(), tmp_path, config=config, validate=rising())
    assert ["validation" in entry for entry in state.history] == [False, True, False, True, True]
    assert state.best_epoch == 5


def test_patience_counts_validations_and_not_epochs(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=20, eval_every=2, patience=2)
    values = iter([5.0, 4.0, 3.0])
    state = run(model(), tmp_path, config=config, validate=lambda: next(values))
    assert (state.epoch, state.best_epoch) == (6, 2)


def test_time_ends_training_after_a_validated_epoch_and_the_best_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 100_000, 30))  # every look at the clock takes half a minute
    monkeypatch.setattr("baselines.training.loop.time.perf_counter", lambda: next(now))
    values = iter([3.0, 2.0])
    config = dataclasses.replace(CONFIG, epochs=20, eval_every=2, max_minutes=2.0)
    made = model()
    state = run(made, tmp_path, config=config, validate=lambda: next(values))
    # half a minute an epoch and a validation: two epochs and one, then the third epoch ends it
    assert ["validation" in entry for entry in state.history] == [False, True, True]
    assert (state.epoch, state.best_epoch, state.stopped_by_time) == (3, 2, True)
    read = run(model(seed=5), tmp_path, config=config)
    assert read == state


def test_a_killed_training_goes_on_with_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 100_000, 30))
    monkeypatch.setattr("baselines.training.loop.time.perf_counter", lambda: next(now))
    config = dataclasses.replace(CONFIG, epochs=20, eval_every=20, max_minutes=1.5)
    with pytest.raises(Killed):
        run(model(), tmp_path, config=config, kill_after=2 * NUM_BATCHES)
    state = run(model(), tmp_path, config=config, validate=rising())
    assert (state.epoch, state.stopped_by_time) == (3, True)


def test_without_a_limit_nothing_is_stored_about_time(tmp_path: Path) -> None:
    state = run(model(), tmp_path)
    assert not state.stopped_by_time
    assert "stopped_by_time" not in json.loads((tmp_path / "state.json").read_text())
    assert "max_minutes" not in as_json(CONFIG)


def test_a_time_limit_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="max_minutes"):
        TrainingConfig(max_minutes=0.0)


def test_the_parts_of_a_loss_are_averaged_over_the_epoch(tmp_path: Path) -> None:
    made = model()
    seen: list[float] = []

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        value = made.loss(batch)
        seen.append(float(value.detach()))
        return output(value, twice=2 * value.detach())

    state = run(made, tmp_path, config=dataclasses.replace(CONFIG, epochs=1), loss=loss)
    mean = sum(seen) / NUM_BATCHES
    assert len(seen) == NUM_BATCHES
    assert state.history[0]["loss"] == pytest.approx(mean, rel=1e-5)
    assert state.history[0]["twice"] == pytest.approx(2 * mean, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_training_with_a_word_and_is_never_kept(
    tmp_path: Path, bad: float
) -> None:
    made = model()
    calls = iter(range(1000))

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        factor = bad if next(calls) == NUM_BATCHES + 2 else 1.0
        return output(made.loss(batch) * factor)

    with pytest.raises(ValueError, match=r"training loss of test became .* in epoch 2.*broken_b"):
        run(made, tmp_path, loss=loss)
    assert next(calls) == NUM_BATCHES + 3, "it ends with the step"
    assert not is_trained(tmp_path)
    assert (tmp_path / "broken_batch.safetensors").exists()
    assert all(
        value.isfinite().all() for value in load_file(tmp_path / "model.safetensors").values()
    )
    assert run(model(), tmp_path).epoch == 5, (
        "a repaired training goes on after the last good epoch"
    )
    assert not (tmp_path / "broken_batch.safetensors").exists()


@pytest.mark.parametrize("kill", [False, True])
def test_what_is_frozen_stays_and_is_in_no_file(tmp_path: Path, kill: bool) -> None:
    made = model()
    made.item_embedding.weight.requires_grad_(False)
    before = weights(made)
    if kill:
        with pytest.raises(Killed):
            run(made, tmp_path, kill_after=NUM_BATCHES + 1)
        assert "model/item_embedding.weight" not in load_file(tmp_path / "checkpoint.safetensors")
        made = model()
        made.item_embedding.weight.requires_grad_(False)
    run(made, tmp_path)
    assert torch.equal(weights(made)["item_embedding.weight"], before["item_embedding.weight"])
    kept = load_file(tmp_path / "model.safetensors")
    assert kept.keys() == before.keys() - {"item_embedding.weight"}
    assert all(not torch.equal(value, before[name]) for name, value in kept.items())


def test_a_validation_that_is_no_number_ends_training_with_a_word(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="validation value of test became nan in epoch 1"):
        run(model(), tmp_path, validate=lambda: math.nan)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_warms_up_and_follows_its_schedule(
    tmp_path: Path, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    config = dataclasses.replace(CONFIG, warmup=0.2, schedule=schedule)
    run(model(), tmp_path, config=config)
    total = 5 * NUM_BATCHES
    warm = round(0.2 * total)
    expected = [config.lr * (index + 1) / warm for index in range(warm)]
    for index in range(warm, total):
        share = (index - warm) / (total - warm)
        factor = 0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1.0
        expected.append(config.lr * factor)
    assert rates == pytest.approx(expected)


def test_a_training_goes_on_in_another_number_of_parts(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, accumulate=4)
    assert without_memory_settings(config) == without_memory_settings(CONFIG)
    assert without_memory_settings(
        dataclasses.replace(CONFIG, clip=1.0)
    ) != without_memory_settings(CONFIG)
    with pytest.raises(Killed):
        run(model(), tmp_path, kill_after=2 * NUM_BATCHES)
    steps = iter(range(10**6))
    made = model()

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        next(steps)
        return ObjectiveOutput(
            loss=made.loss(batch), parts={}, count=torch.tensor(len(batch.target_id))
        )

    state = train(
        made,
        config=config,
        seed=0,
        task=TrainingTask(
            windows=WINDOWS,
            loss=loss,
            validate=rising(),
        ),
        folder=tmp_path,
        lineage=LINEAGE,
        title="test",
    )
    assert state.epoch == CONFIG.epochs
    assert next(steps) > 3 * NUM_BATCHES


def test_only_matrices_decay(tmp_path: Path) -> None:
    made = model()
    before = weights(made)

    def no_gradient(_: TrainBatch) -> ObjectiveOutput:
        return output(sum((value.sum() * 0 for value in made.parameters()), torch.zeros(())))

    config = dataclasses.replace(CONFIG, epochs=1, weight_decay=0.5)
    run(made, tmp_path, config=config, loss=no_gradient)
    for name, value in weights(made).items():
        if value.dim() > 1:
            assert value.abs().sum() < before[name].abs().sum(), name
        else:
            assert torch.equal(value, before[name]), name


def test_training_is_silent_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(model(), tmp_path, config=dataclasses.replace(CONFIG, epochs=1))
    assert capsys.readouterr() == ("", "")
