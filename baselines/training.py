"""The training loop of teachers and backbones: early stopping, checkpoints, exact resume."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from baselines.data.batches import TrainBatch, Windows
from baselines.parallel import average, processes
from baselines.progress import track
from baselines.watch import BROKEN, Watch
from semid.provenance import Provenance, atomic_write, hash_arrays, hash_json, require_same
from semid.settings import as_json
from tca.objective import ObjectiveOutput

logger = logging.getLogger(__name__)

_BEST = "model.safetensors"
_CHECKPOINT = "checkpoint.safetensors"
_STATE = "state.json"
_OF_MEMORY = ("accumulate", "shard")
_OBJECTIVE = "objective."
_LOOK_EVERY = 32  # steps of a device whose numbers are not at hand


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: Most epochs.
        patience: Validations without a better result before training stops.
        eval_every: Epochs between validations.
        batch_events: Events (items, padding included) of a batch.
        accumulate: Parts of a batch that are run one after another before each step, to save
            memory. The step is that of the whole batch, but for what is drawn at random.
        lr: Peak learning rate of AdamW.
        betas: AdamW's averaging coefficients.
        weight_decay: AdamW's weight decay, on matrices only.
        warmup: Share of all steps with a rising learning rate.
        schedule: After the warm-up: constant, or cosine to zero at the last epoch.
        precision: bf16 runs matrix products in bfloat16; losses and weights stay float32.
        clip: Largest gradient norm.

    Raises:
        ValueError: If a count is below 1, or the learning rate is not above 0.
    """

    epochs: int = 20
    patience: int = 3
    eval_every: int = 1
    batch_events: int = 640
    accumulate: int = 1
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup: float = 0.02
    schedule: Literal["constant", "cosine"] = "constant"
    precision: Literal["fp32", "bf16"] = "fp32"
    clip: float = 5.0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "eval_every", "batch_events", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass
class TrainingState:
    """Where a training stands; what a checkpoint stores beside the tensors.

    Attributes:
        epoch: Finished epochs.
        best: Best validation value so far.
        best_epoch: The epoch that reached it.
        seconds: Training time, validation not counted, over all resumed parts.
        validation_seconds: Time spent in validation.
        history: One entry a finished epoch: mean loss parts, and the validation value if any.
    """

    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


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

    Several processes (``baselines.parallel``) share the windows of every batch, and make the steps
    that one process would make. Each draws dropout masks of its own.

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
    state = _load_checkpoint(folder, model, objective, optimizer, lineage)
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
                weights = _weights(model, objective)
                _save_checkpoint(folder, weights, optimizer, state, lineage, better=better)
    if here.is_main_process:
        _finish(folder, state, lineage)
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


def recipe(config: Any) -> Any:
    """Settings as JSON, without those that say how memory is used and not what is learned.

    A folder that was begun with other values of these goes on.

    Args:
        config: A dataclass, or its JSON.
    """
    config = as_json(config)
    if not isinstance(config, dict):
        return config
    return {name: recipe(value) for name, value in config.items() if name not in _OF_MEMORY}


def is_trained(folder: Path) -> bool:
    """Whether ``train`` has finished in this folder."""
    return (folder / _STATE).exists()


def read_trained(
    folder: Path, model: nn.Module, objective: nn.Module | None = None
) -> TrainingState:
    """Put the weights of a finished training into ``model``, and ``objective``, in eval mode.

    Raises:
        ProvenanceError: If they are not those that were trained.
    """
    weights = load_file(folder / _BEST)
    require_same(
        f"content of the model in {folder}",
        Provenance.read(folder).content,
        _content(weights),
        what_to_do="Its file was changed after the training: remove the folder to train again.",
    )
    _put_weights(weights, model, objective or nn.Module())
    return TrainingState(**json.loads((folder / _STATE).read_text()))


def _keep_untrained(
    model: nn.Module, validate: Callable[[], float], folder: Path, lineage: Provenance
) -> TrainingState:
    started = time.perf_counter()
    model.eval()
    state = TrainingState(best=validate())
    state.validation_seconds = time.perf_counter() - started
    if processes().is_main_process:
        weights = {name: value.contiguous() for name, value in _weights(model).items()}
        atomic_write(folder / _BEST, save(weights))
        _finish(folder, state, lineage)
    processes().wait_for_everyone()
    return read_trained(folder, model)


def _finish(folder: Path, state: TrainingState, lineage: Provenance) -> None:
    content = _content(load_file(folder / _BEST))
    dataclasses.replace(lineage, content=content).write(folder)
    atomic_write(folder / _STATE, json.dumps(dataclasses.asdict(state), indent=2))
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    for batch in folder.glob(f"{BROKEN}*"):  # of a try before
        batch.unlink()


def _as_array(weight: Tensor) -> np.ndarray[Any, Any]:
    """A weight for NumPy, which knows no bfloat16."""
    array: np.ndarray[Any, Any]
    array = (weight.view(torch.int16) if weight.dtype == torch.bfloat16 else weight).numpy()
    return array


def _content(weights: dict[str, Tensor]) -> str:
    return hash_arrays(*(_as_array(weights[name]) for name in sorted(weights)))


def require_lineage(folder: Path, found: Provenance, expected: Provenance) -> None:
    """Refuse a model in ``folder`` that was made from other data or settings than expected.

    Raises:
        ProvenanceError: If the lineages differ in more than content and versions.
    """
    require_same(
        f"the model in {folder}",
        _lineage_hash(expected),
        _lineage_hash(found),
        what_to_do="Name another folder, or remove this one to train again.",
    )


def _lineage_hash(lineage: Provenance) -> str:
    fields = dataclasses.asdict(lineage)
    return hash_json({name: fields[name] for name in ("kind", "items", "inputs", "seen", "config")})


def _weights(model: nn.Module, objective: nn.Module | None = None) -> dict[str, Tensor]:
    """What is saved: all that is trained, or everything where nothing is."""
    every = dict(model.named_parameters())  # each tensor once, under one of its tied names
    trained = {name: value for name, value in every.items() if value.requires_grad}
    weights = {name: value.detach() for name, value in (trained or every).items()}
    return weights | _kept_by(objective)


def _kept_by(objective: nn.Module | None) -> dict[str, Tensor]:
    kept = {} if objective is None else objective.state_dict()
    return {_OBJECTIVE + name: value for name, value in kept.items()}


def _put_weights(weights: dict[str, Tensor], model: nn.Module, objective: nn.Module) -> None:
    places = {name: value.detach() for name, value in model.named_parameters()}
    places |= _kept_by(objective)
    for name, value in weights.items():
        if name in places or not name.startswith(_OBJECTIVE):
            places[name].copy_(value)
    for module in (model, objective):
        module.eval()


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


def _save_checkpoint(
    folder: Path,
    weights: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    lineage: Provenance,
    *,
    better: bool,
) -> None:
    weights = {name: value.contiguous() for name, value in weights.items()}
    if better:
        atomic_write(folder / _BEST, save(weights))
    tensors = {f"model/{name}": tensor for name, tensor in weights.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in slots.items()}
    metadata = {
        "state": json.dumps(dataclasses.asdict(state)),
        "lineage": json.dumps(dataclasses.asdict(lineage)),
    }
    atomic_write(folder / _CHECKPOINT, save(tensors, metadata=metadata))


def _load_checkpoint(
    folder: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    lineage: Provenance,
) -> TrainingState:
    path = folder / _CHECKPOINT
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        return TrainingState()
    weights: dict[str, Tensor] = {}
    slots: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            kind, name = key.split("/", 1)
            if kind == "model":
                weights[name] = file.get_tensor(key)
            else:
                index, slot = name.split("/")
                slots.setdefault(int(index), {})[slot] = file.get_tensor(key)
        require_lineage(folder, Provenance(**json.loads(file.metadata()["lineage"])), lineage)
        state = TrainingState(**json.loads(file.metadata()["state"]))
    _put_weights(weights, model, objective)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return state
