"""Files of a training run: checkpoints while it runs, the model once it has finished."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from baselines.training.averaging import WeightAverage
from baselines.training.monitor import BROKEN
from semid.provenance import (
    Provenance,
    ProvenanceError,
    hash_arrays,
    hash_json,
    read_json,
    read_tensors,
    require_same,
    require_unchanged,
    write_json,
    write_tensors,
)
from semid.settings import as_json, settings_before

MODEL_FILE = "model.safetensors"


_CHECKPOINT = "checkpoint.safetensors"


_STATE = "state.json"


TRAINED_FILES = (MODEL_FILE, _STATE, "provenance.json")
"""Files that a finished training run leaves in its folder."""


_OF_MEMORY = ("accumulate", "shard")


_OBJECTIVE = "objective."


@dataclass
class TrainingState:
    """Progress of a training run, stored in checkpoints along with the tensors.

    Attributes:
        epoch: Number of finished epochs.
        best: Best validation value so far.
        best_epoch: The epoch with the best value.
        seconds: Training time without validation, summed over resumes.
        validation_seconds: Validation time.
        history: One entry per finished epoch: mean loss parts, and the validation value if any.
        stopped_by_time: Whether ``max_minutes`` ended it; not stored if False.
    """

    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_by_time: bool = field(default=False, metadata={"before": False})


def without_memory_settings(config: Any) -> Any:
    """Settings as JSON, without those that affect memory use but not the result.

    A run can be resumed with other values of these.

    Args:
        config: A dataclass or its JSON values.
    """
    config = as_json(config)
    if not isinstance(config, dict):
        return config
    return {
        name: without_memory_settings(value)
        for name, value in config.items()
        if name not in _OF_MEMORY
    }


def is_trained(folder: Path) -> bool:
    """Whether training has finished in this folder."""
    return (folder / _STATE).exists()


def read_trained(
    folder: Path, model: nn.Module, objective: nn.Module | None = None
) -> TrainingState:
    """Load the weights of a finished run into ``model`` and ``objective``, and set eval mode.

    Raises:
        FileNotFoundError: If the files are missing or do not belong together.
        ProvenanceError: If the weights are not those that were trained.
    """
    cure = f"Remove {folder} to train again, or, if it was copied here, copy it again."
    lineage = Provenance.read(folder)
    state = read_json(
        folder / _STATE, made_from=identity(lineage), take_unsealed=True, what_to_do=cure
    )
    found = read_tensors(folder / MODEL_FILE, take_unsealed=True, what_to_do=cure)
    if state is None or found is None:
        raise FileNotFoundError(
            f"expected {MODEL_FILE} and {_STATE} of one finished run in {folder}, got "
            f"{'another' if found else 'no'} {_STATE if found else MODEL_FILE}. {cure}"
        )
    weights, _ = found
    require_unchanged(folder / MODEL_FILE, lineage.content, _content(weights), what_to_do=cure)
    _put_weights(weights, model, objective or nn.Module(), what_to_do=cure)
    return _state_of(state, folder / _STATE, cure)


def identity(lineage: Provenance) -> str:
    """Hash of a trained model and all its inputs, by which results are tied to it."""
    return hash_json([lineage.content, _lineage_hash(lineage)])


def finish_training(folder: Path, state: TrainingState, lineage: Provenance) -> None:
    """Write the lineage and state of a run whose best weights are already saved.

    Raises:
        FileNotFoundError: If the weights are missing, or those of another epoch or run.
        ProvenanceError: If they are damaged.
    """
    path, cure = folder / MODEL_FILE, f"Remove {folder} to train again."
    found = read_tensors(
        path, made_from=_origin(lineage, state), take_unsealed=True, what_to_do=cure
    )
    if found is None:
        raise FileNotFoundError(
            f"expected the weights of epoch {state.best_epoch} in {path}, got none or others. "
            f"{cure}"
        )
    lineage = dataclasses.replace(lineage, content=_content(found[0]))
    lineage.write(folder)
    write_json(folder / _STATE, as_json(state), made_from=identity(lineage))
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    for batch in folder.glob(f"{BROKEN}*"):  # from an earlier attempt
        batch.unlink()


def write_trained(
    folder: Path, model: nn.Module, state: TrainingState, lineage: Provenance
) -> None:
    """Save a model that was changed after training, e.g. for new items.

    Args:
        folder: Holds the previous model; tensors that ``model`` does not have are kept.
        model: The changed model.
        state: State of its training.
        lineage: Its provenance; the content hash is filled in here.
    """
    found = read_tensors(folder / MODEL_FILE, take_unsealed=True)
    weights = {**(found[0] if found else {}), **trained_weights(model)}
    weights = {name: value.cpu() for name, value in weights.items()}
    save_model(folder, weights, state, lineage)
    lineage = dataclasses.replace(lineage, content=_content(weights))
    lineage.write(folder)
    write_json(folder / _STATE, as_json(state), made_from=identity(lineage))


def save_model(
    folder: Path, weights: dict[str, Tensor], state: TrainingState, lineage: Provenance
) -> None:
    """Write the best weights so far, those of ``state.best_epoch``."""
    write_tensors(folder / MODEL_FILE, weights, made_from=_origin(lineage, state))


def _origin(lineage: Provenance, state: TrainingState) -> dict[str, Any]:
    return {"lineage": _lineage_hash(lineage), "epoch": state.best_epoch}


def _as_array(weight: Tensor) -> np.ndarray[Any, Any]:
    """A weight as NumPy array; bfloat16, which NumPy lacks, as int16 bits."""
    array: np.ndarray[Any, Any]
    array = (weight.view(torch.int16) if weight.dtype == torch.bfloat16 else weight).numpy()
    return array


def _content(weights: dict[str, Tensor]) -> str:
    return hash_arrays(*(_as_array(weights[name]) for name in sorted(weights)))


def require_lineage(folder: Path, found: Provenance, expected: Provenance) -> None:
    """Raise if the model in ``folder`` was made from other data or settings than expected.

    Raises:
        ProvenanceError: If the lineages differ in more than content and versions.
    """
    require_same(
        f"the model in {folder}",
        _lineage_hash(expected),
        _lineage_hash(found),
        what_to_do=f"Name another folder, or remove {folder} to train again.",
    )


def _lineage_hash(lineage: Provenance) -> str:
    fields = dataclasses.asdict(lineage)
    return hash_json({name: fields[name] for name in ("kind", "items", "inputs", "seen", "config")})


def trained_weights(model: nn.Module, objective: nn.Module | None = None) -> dict[str, Tensor]:
    """The weights to save: all trained ones, or all weights if none are trained."""
    every = dict(model.named_parameters())  # each tensor once, under one of its tied names
    trained = {name: value for name, value in every.items() if value.requires_grad}
    weights = {name: value.detach() for name, value in (trained or every).items()}
    return weights | _kept_by(objective)


def _kept_by(objective: nn.Module | None) -> dict[str, Tensor]:
    kept = {} if objective is None else objective.state_dict()
    return {_OBJECTIVE + name: value for name, value in kept.items()}


def _state_of(values: dict[str, Any], path: Path, what_to_do: str) -> TrainingState:
    known = {field.name for field in dataclasses.fields(TrainingState)}
    values = {**settings_before(TrainingState), **values}
    if values.keys() != known:
        raise ProvenanceError(
            f"expected {', '.join(sorted(known))} of a training run in {path}, got "
            f"{', '.join(sorted(values)) or 'nothing'}. {what_to_do}"
        )
    return TrainingState(**values)


def _put_weights(
    weights: dict[str, Tensor], model: nn.Module, objective: nn.Module, *, what_to_do: str
) -> None:
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter) and name in weights:
            parameter.materialize(weights[name].shape)  # of the size in the file
    places = {name: value.detach() for name, value in model.named_parameters()}
    places |= _kept_by(objective)
    for name, value in weights.items():
        if name in places:
            places[name].copy_(value)
        elif not name.startswith(_OBJECTIVE):
            raise ProvenanceError(
                f"expected weights of the model, got {name!r}, which it does not have. {what_to_do}"
            )
    for module in (model, objective):
        module.eval()


def _save_checkpoint(
    folder: Path,
    weights: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
    state: TrainingState,
    lineage: Provenance,
) -> None:
    tensors = {f"model/{name}": tensor for name, tensor in weights.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in slots.items()}
    for epoch, end in enumerate(average.ends):
        tensors |= {f"end/{epoch}/{index}": tensor for index, tensor in enumerate(end)}
    metadata = {
        "state": json.dumps(as_json(state)),
        "lineage": json.dumps(dataclasses.asdict(lineage)),
    }
    write_tensors(folder / _CHECKPOINT, tensors, metadata=metadata)


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
    lineage: Provenance,
) -> TrainingState:
    """Load the last checkpoint, if any, into model, objective, optimizer and average."""
    path = folder / _CHECKPOINT
    cure = "Remove it to train from the beginning."
    found = read_tensors(path, take_unsealed=True, what_to_do=cure)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        return TrainingState()
    tensors, metadata = found
    if not {"lineage", "state"} <= metadata.keys():
        raise ProvenanceError(f"expected a checkpoint in {path}, got other tensors. {cure}")
    weights: dict[str, Tensor] = {}
    slots: dict[int, dict[str, Tensor]] = {}
    ends: dict[int, dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind == "model":
            weights[name] = tensor
        elif kind == "end":
            epoch, _, index = name.partition("/")
            ends.setdefault(int(epoch), {})[int(index)] = tensor
        else:
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = tensor
    require_lineage(folder, Provenance(**json.loads(metadata["lineage"])), lineage)
    state = _state_of(json.loads(metadata["state"]), path, cure)
    _put_weights(weights, model, objective, what_to_do=cure)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    average.ends.extend([end[index] for index in sorted(end)] for _, end in sorted(ends.items()))
    return state
