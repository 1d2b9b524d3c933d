"""What a training leaves in its folder: checkpoints while it runs, the model when it is done."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from baselines.training.monitor import BROKEN
from semid.provenance import Provenance, atomic_write, hash_arrays, hash_json, require_same
from semid.settings import as_json

MODEL_FILE = "model.safetensors"


_CHECKPOINT = "checkpoint.safetensors"


_STATE = "state.json"


_OF_MEMORY = ("accumulate", "shard")


_OBJECTIVE = "objective."


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
    weights = load_file(folder / MODEL_FILE)
    require_same(
        f"content of the model in {folder}",
        Provenance.read(folder).content,
        _content(weights),
        what_to_do="Its file was changed after the training: remove the folder to train again.",
    )
    _put_weights(weights, model, objective or nn.Module())
    return TrainingState(**json.loads((folder / _STATE).read_text()))


def finish_training(folder: Path, state: TrainingState, lineage: Provenance) -> None:
    """Record the lineage and the state of a training whose best weights are written."""
    content = _content(load_file(folder / MODEL_FILE))
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


def trained_weights(model: nn.Module, objective: nn.Module | None = None) -> dict[str, Tensor]:
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
        atomic_write(folder / MODEL_FILE, save(weights))
    tensors = {f"model/{name}": tensor for name, tensor in weights.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in slots.items()}
    metadata = {
        "state": json.dumps(dataclasses.asdict(state)),
        "lineage": json.dumps(dataclasses.asdict(lineage)),
    }
    atomic_write(folder / _CHECKPOINT, save(tensors, metadata=metadata))


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    lineage: Provenance,
) -> TrainingState:
    """Put the last checkpoint, if there is one, into model, objective and optimizer."""
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
