"""The training loop of teachers and backbones: early stopping, checkpoints, exact resume."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import training  # tests replace its checkpoint writer
from baselines.data.batches import TrainBatch, Windows
from baselines.runtime.progress import Tracker, track
from baselines.training.averaging import WeightAverage
from baselines.training.checkpoint import (
    TrainingState,
    finish_training,
    is_trained,
    load_checkpoint,
    read_trained,
    require_lineage,
    save_model,
    trained_weights,
)
from baselines.training.config import TrainingConfig
from baselines.training.contexts import draw_contexts
from baselines.training.monitor import NonFiniteMonitor
from baselines.training.precision import settled
from baselines.training.tracking import TrainingLog, training_log
from semid.distributed import all_reduce_mean, broadcast_from_main, distributed_state, once
from semid.provenance import Provenance
from tca.objective import ObjectiveOutput

logger = logging.getLogger(__name__)

_CHECK_EVERY = 32  # steps, where reading a value would synchronise the device


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """Training data, loss and validation of a run.

    Attributes:
        windows: Training windows; every epoch uses each one once.
        loss: Loss of a batch. Must leave the same parameters without gradient on every process.
        validate: Returns the validation value, larger is better; called in eval mode. Must be the
            same on all processes.
        objective: State that ``loss`` keeps across steps: its parameters are trained along with the
            model's, and its buffers averaged over processes. Both are saved in the model's files,
            prefixed ``objective.``, and restored from them.
    """

    windows: Windows
    loss: Callable[[TrainBatch], ObjectiveOutput]
    validate: Callable[[], float]
    objective: nn.Module = field(default_factory=nn.Module)


def train(
    model: nn.Module,
    task: TrainingTask,
    *,
    config: TrainingConfig,
    seed: int,
    folder: Path,
    lineage: Provenance,
    title: str,
) -> TrainingState:
    """Train until validation stops improving, then load the best weights into ``model``.

    A checkpoint is written after every epoch. When called again after an interruption, training
    resumes after the last finished epoch and ends with the same weights: data order and dropout of
    an epoch depend only on the seed and the epoch's number. When called again after completion, the
    best weights are loaded. The folder is then an artefact whose provenance is ``lineage`` with the
    hash of the weights as content. A model without trainable parameters is validated and saved.

    Only trained weights are saved: a frozen base is in no file and must already be in ``model``.

    Several processes (``semid.distributed``) share the windows of every batch and make the same
    steps as a single process, except that each draws its own dropout masks.

    Args:
        model: Trained in place.
        task: Training data, loss and validation.
        config: Settings.
        seed: Seed of data order and dropout.
        folder: Folder for checkpoints and for the trained model.
        lineage: Provenance of the model; its content hash is filled in at the end.
        title: Name shown beside the progress bar.

    Raises:
        ProvenanceError: If the folder holds a model with another lineage.
        ValueError: If the loss, a gradient or the validation value is not finite; the offending
            batch is then in ``broken_batch.safetensors`` in the folder.
    """
    config = settled(config)
    for module in (model, task.objective):
        module.to(distributed_state().device)
    is_frozen = not any(parameter.requires_grad for parameter in model.parameters())

    def read() -> TrainingState | None:
        if not is_trained(folder):
            return None
        require_lineage(folder, Provenance.read(folder), lineage)
        return read_trained(folder, model, task.objective)

    def make() -> TrainingState:
        if is_frozen:
            return _validated(model, task.validate)
        run = _Run(model, task, config, seed=seed, folder=folder, lineage=lineage, title=title)
        return run.to_the_end()

    def write(state: TrainingState) -> None:
        if is_frozen:
            save_model(folder, trained_weights(model), state, lineage)
        finish_training(folder, state, lineage)

    return once(read, make, write)


class _Run:
    """A training run, continued from its last checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        task: TrainingTask,
        config: TrainingConfig,
        *,
        seed: int,
        folder: Path,
        lineage: Provenance,
        title: str,
    ) -> None:
        self.model, self.task, self.config, self.seed = model, task, config, seed
        self.folder, self.lineage, self.title = folder, lineage, title
        every = itertools.chain(model.parameters(), task.objective.parameters())
        self.parameters = [parameter for parameter in every if parameter.requires_grad]
        self.optimizer = _optimizer(self.parameters, config)
        self.average = WeightAverage(self.parameters, config.average_last)
        self.state = load_checkpoint(
            folder, model, task.objective, self.optimizer, self.average, lineage
        )
        self.batches_per_epoch = task.windows.num_batches(config.batch_events)
        is_cpu = distributed_state().device.type == "cpu"
        self.monitor = NonFiniteMonitor(folder, title, every=1 if is_cpu else _CHECK_EVERY)

    def to_the_end(self) -> TrainingState:
        """Train every epoch that is left."""
        distributed_state().wait_for_everyone()  # all have read the checkpoint that epochs replace
        steps = self.config.epochs * self.batches_per_epoch
        with track(self.title, steps) as progress, training_log(self.title, self._done) as log:
            progress.advance(self._done)
            while not _finished(self.state, self.config):
                self.epoch(progress, log)
        return self.state

    @property
    def _done(self) -> int:
        """Number of steps of the finished epochs."""
        return self.state.epoch * self.batches_per_epoch

    def epoch(self, progress: Tracker, log: TrainingLog) -> None:
        """Train an epoch, validate if due, and write a checkpoint."""
        state, started = self.state, time.perf_counter()
        entry = self._train(progress, log)
        state.epoch += 1
        state.seconds += time.perf_counter() - started
        state.stopped_by_time = self._is_out_of_time()
        due = state.epoch % self.config.eval_every == 0
        if due or state.epoch == self.config.epochs or state.stopped_by_time:
            with self.average.applied():
                entry["validation"] = self._validate()
                self._keep_if_best(entry["validation"])
            progress.note(f"validation {entry['validation']:.4f}")
        self.average.record()
        state.history.append(entry)
        log.end_epoch(self._done - 1, entry)
        logger.info("%s epoch %d: %s", self.title, state.epoch, entry)
        if distributed_state().is_main_process:
            training._save_checkpoint(
                self.folder,
                trained_weights(self.model, self.task.objective),
                self.optimizer,
                self.average,
                state,
                self.lineage,
            )

    def _is_out_of_time(self) -> bool:
        """Whether the time is over; the main process's clock decides for all."""
        state, limit = self.state, self.config.max_minutes
        if limit is None:
            return False
        spent = state.seconds + state.validation_seconds
        return broadcast_from_main(lambda: spent >= 60 * limit)

    def _train(self, progress: Tracker, log: TrainingLog) -> dict[str, float]:
        """Take the steps of an epoch; the mean over them of the loss and what is logged with it."""
        here, epoch = distributed_state(), self.state.epoch
        sums: dict[str, Tensor] = {}
        self.model.train()
        self.task.objective.train()
        with torch.random.fork_rng():
            torch.manual_seed(_epoch_seed(self.seed, epoch, here.process_index))
            batches = self.task.windows.epoch(
                self.config.batch_events,
                np.random.default_rng([self.seed, epoch]),
                process=here.process_index,
                num_processes=here.num_processes,
            )
            for step, batch in enumerate(batches):
                means = self._step(batch, step)
                log.record(self._done + step, means, self.optimizer.param_groups[0]["lr"])
                for name, mean in means.items():
                    sums[name] = sums.get(name, torch.zeros_like(mean)) + mean
                progress.advance(1)
        self.monitor.check()
        return {name: float(total) / self.batches_per_epoch for name, total in sums.items()}

    def _step(self, batch: TrainBatch, step: int) -> dict[str, Tensor]:
        config, objective = self.config, self.task.objective
        done, steps = self._done + step, config.epochs * self.batches_per_epoch
        _set_lr(self.optimizer, config, done, self.batches_per_epoch)
        batch = draw_contexts(batch, drop=config.drop_items, crop=config.crop_history)
        batch = dataclasses.replace(batch, progress=done / steps, since_epoch=step / steps)
        means, count = _accumulate(batch, config, self.task.loss, self.parameters, objective)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        all_reduce_mean([*means.values(), *objective.buffers(), *gradients], count)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
        self.monitor.record(batch, self.state.epoch + 1, means["loss"], norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return means

    def _validate(self) -> float:
        started = time.perf_counter()
        self.model.eval()
        value = self.task.validate()
        self.state.validation_seconds += time.perf_counter() - started
        if not math.isfinite(value):
            raise ValueError(
                f"the validation value of {self.title} became {value} in epoch {self.state.epoch}, "
                "by which no epoch can be selected."
            )
        return value

    def _keep_if_best(self, validation: float) -> None:
        state = self.state
        if validation <= state.best:
            return
        state.best, state.best_epoch = validation, state.epoch
        if distributed_state().is_main_process:
            weights = trained_weights(self.model, self.task.objective)
            save_model(self.folder, weights, state, self.lineage)


def _accumulate(
    batch: TrainBatch,
    config: TrainingConfig,
    loss: Callable[[TrainBatch], ObjectiveOutput],
    parameters: Sequence[nn.Parameter],
    objective: nn.Module,
) -> tuple[dict[str, Tensor], Tensor]:
    """Run the micro-batches of a batch; gradients and buffers become those of the whole batch.

    Both are running means over the parts, weighted by their supervised positions. Each part starts
    from the buffers as they were before the step, as each process does.

    Returns:
        The means of the loss and of its logged parts, and the number of supervised positions.
    """
    device = distributed_state().device
    before = [buffer.clone() for buffer in objective.buffers()]
    buffers = before
    means: dict[str, Tensor] = {}
    count = torch.zeros((), device=device)
    for part in batch.split(config.accumulate):
        _put(before, objective)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            output = loss(part.to(device))
        count = count + output.count
        share = output.count / count.clamp_min(1)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(1 - share)
        (output.loss * share).backward()  # type: ignore[no-untyped-call]
        for name, value in {"loss": output.loss.detach(), **output.parts}.items():
            mean = means.get(name, torch.zeros_like(value))
            means[name] = mean * (1 - share) + value * share
        pairs = zip(buffers, objective.buffers(), strict=True)
        buffers = [mean * (1 - share) + value * share for mean, value in pairs]
    _put(buffers, objective)
    return means, count


def _put(buffers: Sequence[Tensor], objective: nn.Module) -> None:
    for buffer, value in zip(objective.buffers(), buffers, strict=True):
        buffer.copy_(value)


def _validated(model: nn.Module, validate: Callable[[], float]) -> TrainingState:
    """The state of a model that has nothing to train."""
    started = time.perf_counter()
    model.eval()
    state = TrainingState(best=validate())
    state.validation_seconds = time.perf_counter() - started
    return state


def _finished(state: TrainingState, config: TrainingConfig) -> bool:
    waited = (state.epoch - state.best_epoch) // config.eval_every
    ended = state.stopped_by_time or state.epoch >= config.epochs
    return ended or (state.best_epoch > 0 and waited >= config.patience)


def _epoch_seed(seed: int, epoch: int, process: int) -> int:
    return (seed * 1_000_003 + epoch + process * 982_451_653) % 2**31


def _optimizer(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    matrices = [p for p in parameters if p.dim() > 1]
    vectors = [p for p in parameters if p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _set_lr(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, step: int, batches_per_epoch: int
) -> None:
    total = config.epochs * batches_per_epoch
    warm = max(round(config.warmup * total), 1)
    factor = min((step + 1) / warm, 1.0)
    if config.schedule == "cosine" and step >= warm:
        factor = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))
    for group in optimizer.param_groups:
        group["lr"] = config.lr * factor
