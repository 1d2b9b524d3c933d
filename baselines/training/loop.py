"""The training loop of teachers and backbones: early stopping, checkpoints, exact resume."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import training  # whose checkpoint writer a test may replace
from baselines.data.batches import TrainBatch, Windows
from baselines.runtime.distributed import average, processes
from baselines.runtime.progress import track
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
from baselines.training.monitor import Watch
from baselines.training.precision import settled
from semid.provenance import Provenance
from tca.objective import ObjectiveOutput

logger = logging.getLogger(__name__)

_LOOK_EVERY = 32  # steps of a device whose numbers are not at hand


def train(
    model: nn.Module,
    *,
    config: TrainingConfig,
    seed: int,
    windows: Windows,
    loss: Callable[[TrainBatch], ObjectiveOutput],
    validate: Callable[[], float],
    folder: Path,
    lineage: Provenance,
    title: str,
    objective: nn.Module | None = None,
) -> TrainingState:
    """Train until validation stops getting better, then put the best weights into ``model``.

    A checkpoint is written after every epoch. Called again after a kill, training goes on after
    the last finished epoch and ends with the same weights: the data order and the dropout of an
    epoch depend on the seed and the epoch's number alone. Called again after the end, the best
    weights are read. The folder is then an artefact whose provenance is ``lineage`` with the hash
    of the weights for content. A model without trained parameters is validated and kept as it is.

    Only what is trained is saved: a frozen base is in no file, and has to be in ``model`` already.

    Several processes (``baselines.runtime.distributed``) share the windows of every batch, and make
    the steps that one process would make. Each draws dropout masks of its own.

    Args:
        model: Trained in place.
        config: Settings.
        seed: Of data order and dropout.
        windows: What to learn from; every epoch takes each window once.
        loss: Loss of a batch. Of several processes, all leave the same parameters without a
            gradient.
        validate: Validation value, larger is better; called with the model in eval mode. The same
            on all processes.
        folder: Where checkpoints live and the trained model ends up.
        lineage: What the model is made from; its content is filled in at the end.
        title: Name shown beside the progress bar.
        objective: What ``loss`` keeps from step to step: its parameters are trained with the
            model's, and the numbers in its buffers averaged over processes; both are saved under
            ``objective.`` in the model's files, and come back from them.

    Raises:
        ProvenanceError: If the folder holds a model that was made from something else.
        ValueError: If the loss, a gradient or the validation value is no longer a number; the batch
            that broke them is then in ``broken_batch.safetensors`` in the folder.
    """
    here = processes()
    config = settled(config)
    objective = nn.Module() if objective is None else objective
    for module in (model, objective):
        module.to(here.device)
    if is_trained(folder):
        require_lineage(folder, Provenance.read(folder), lineage)
        return read_trained(folder, model, objective)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return _keep_untrained(model, validate, folder, lineage)
    every = itertools.chain(model.parameters(), objective.parameters())  # keeps no frozen weight
    parameters = [parameter for parameter in every if parameter.requires_grad]
    optimizer = _optimizer(parameters, config)
    state = load_checkpoint(folder, model, objective, optimizer, lineage)
    here.wait_for_everyone()  # before the main process changes what the others have to read
    batches_per_epoch = windows.num_batches(config.batch_events)
    watch = Watch(folder, title, every=1 if here.device.type == "cpu" else _LOOK_EVERY)
    with track(title, config.epochs * batches_per_epoch) as progress:
        progress.advance(state.epoch * batches_per_epoch)
        while not _finished(state, config):
            epoch = state.epoch
            started = time.perf_counter()
            sums: dict[str, Tensor] = {}
            model.train()
            objective.train()
            with torch.random.fork_rng():
                torch.manual_seed(_epoch_seed(seed, epoch, here.process_index))
                batches = windows.epoch(
                    config.batch_events,
                    np.random.default_rng([seed, epoch]),
                    process=here.process_index,
                    num_processes=here.num_processes,
                )
                for step, batch in enumerate(batches):
                    done = epoch * batches_per_epoch + step
                    _set_lr(optimizer, config, done, batches_per_epoch)
                    steps = config.epochs * batches_per_epoch
                    batch = dataclasses.replace(
                        batch, progress=done / steps, since_epoch=step / steps
                    )
                    means, count = _accumulate(batch, config, loss, parameters, objective)
                    gradients = [p.grad for p in parameters if p.grad is not None]
                    average([*means.values(), *objective.buffers(), *gradients], count)
                    norm = nn.utils.clip_grad_norm_(parameters, config.clip)
                    watch.saw(batch, epoch + 1, means["loss"], norm)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    for name, mean in means.items():
                        sums[name] = sums.get(name, torch.zeros_like(mean)) + mean
                    progress.advance(1)
            watch.look()
            state.epoch += 1
            state.seconds += time.perf_counter() - started
            entry = {name: float(total) / batches_per_epoch for name, total in sums.items()}
            if state.epoch % config.eval_every == 0 or state.epoch == config.epochs:
                started = time.perf_counter()
                model.eval()
                entry["validation"] = validate()
                state.validation_seconds += time.perf_counter() - started
                if not math.isfinite(entry["validation"]):
                    raise ValueError(
                        f"the validation of {title} became {entry['validation']} in epoch "
                        f"{state.epoch}, by which no epoch can be chosen."
                    )
                progress.note(f"validation {entry['validation']:.4f}")
            state.history.append(entry)
            logger.info("%s epoch %d: %s", title, state.epoch, entry)
            better = entry.get("validation", -math.inf) > state.best
            if better:
                state.best, state.best_epoch = entry["validation"], state.epoch
            if here.is_main_process:
                weights = trained_weights(model, objective)
                training._save_checkpoint(folder, weights, optimizer, state, lineage, better=better)
    if here.is_main_process:
        finish_training(folder, state, lineage)
    here.wait_for_everyone()
    return read_trained(folder, model, objective)


def _accumulate(
    batch: TrainBatch,
    config: TrainingConfig,
    loss: Callable[[TrainBatch], ObjectiveOutput],
    parameters: Sequence[nn.Parameter],
    objective: nn.Module,
) -> tuple[dict[str, Tensor], Tensor]:
    """Run the parts of a batch; gradients and the objective's buffers become those of the whole.

    All are means over the parts, weighted by their counted positions, and brought up to date part
    by part. Each part finds the buffers as they were before the step, as each process does.

    Returns:
        The means of the loss and what is logged beside it, and the counted positions.
    """
    device = processes().device
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


def _keep_untrained(
    model: nn.Module, validate: Callable[[], float], folder: Path, lineage: Provenance
) -> TrainingState:
    started = time.perf_counter()
    model.eval()
    state = TrainingState(best=validate())
    state.validation_seconds = time.perf_counter() - started
    if processes().is_main_process:
        save_model(folder, trained_weights(model), state, lineage)
        finish_training(folder, state, lineage)
    processes().wait_for_everyone()
    return read_trained(folder, model)


def _finished(state: TrainingState, config: TrainingConfig) -> bool:
    waited = (state.epoch - state.best_epoch) // config.eval_every
    return state.epoch >= config.epochs or (state.best_epoch > 0 and waited >= config.patience)


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
