"""Trackers: where losses and validation values of trainings can be followed, run by run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from baselines.training.config import TrackerName
from semid.distributed import distributed_state

TENSORBOARD = "tensorboard"
"""Name of the folder of TensorBoard's files, below that of the results."""

_EVERY = 32  # steps that are written together: reading a value synchronises the device


class Tracker(Protocol):
    """The log of one training in one tracker; the trackers of ``accelerate`` are such."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Write values of a step."""

    def finish(self) -> None:
        """Write what is left, and close the log."""


@dataclass(frozen=True, kw_only=True)
class _Destination:
    """Where the trainings of a command are logged."""

    trackers: tuple[TrackerName, ...] = ()
    folder: Path = Path()


_to = _Destination()


@contextmanager
def tracking(trackers: Sequence[TrackerName], folder: Path) -> Iterator[None]:
    """Log every training of the body: a run each, in a project called like the folder.

    Args:
        trackers: Names of the trackers; none to log nothing.
        folder: Folder of the results, below which TensorBoard's files are written.

    Raises:
        ValueError: If the package of a tracker is not installed.
    """
    global _to
    for name in trackers:
        if name != TENSORBOARD and find_spec(name) is None:
            raise ValueError(
                f"log_to {name} needs the package {name}, which is not installed. "
                f"pip install 'semid[trackers]', or take {TENSORBOARD}, which needs no more."
            )
    before, _to = _to, _Destination(trackers=tuple(trackers), folder=folder)
    try:
        yield
    finally:
        _to = before


class TrainingLog:
    """The values of one training, in every tracker that the command names."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self._steps: list[tuple[int, dict[str, Tensor], float]] = []

    def record(self, step: int, means: Mapping[str, Tensor], lr: float) -> None:
        """Log the loss and its parts of a step, as ``step/NAME``, and its learning rate.

        Args:
            step: Number of the step, from 0, over all epochs.
            means: Scalars by name.
            lr: The learning rate.
        """
        if not self._trackers:
            return
        self._steps.append((step, dict(means), lr))
        if len(self._steps) >= _EVERY:
            self._write_steps()

    def end_epoch(self, step: int, entry: Mapping[str, float]) -> None:
        """Log the means of an epoch and its validation value, if any, as ``epoch/NAME``.

        Args:
            step: Number of its last step.
            entry: The values by name.
        """
        self._write_steps()
        self._write(step, {f"epoch/{name}": value for name, value in entry.items()})

    def finish(self) -> None:
        """Close the log in every tracker."""
        self._write_steps()
        for tracker in self._trackers:
            tracker.finish()

    def _write_steps(self) -> None:
        steps, self._steps = self._steps, []
        for step, means, lr in steps:
            values = torch.stack([mean.float() for mean in means.values()]).tolist()
            named = dict(zip(means, values, strict=True))
            self._write(
                step, {f"step/{name}": value for name, value in {**named, "lr": lr}.items()}
            )

    def _write(self, step: int, values: dict[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(values, step=step)


@contextmanager
def training_log(title: str, first_step: int) -> Iterator[TrainingLog]:
    """The log of a training, which the main process writes.

    Args:
        title: Name of the training; its run has this name.
        first_step: Number of its first step. TensorBoard forgets later ones, which an interrupted
            training has written; elsewhere, a resumed training is a new run.
    """
    named = _to.trackers if distributed_state().is_main_process else ()
    log = TrainingLog([_OPEN[name](title, first_step) for name in named])
    try:
        yield log
    finally:
        log.finish()


def _tensorboard(title: str, first_step: int) -> Tracker:
    from accelerate.tracking import TensorBoardTracker

    run = re.sub(r"[^\w.=-]+", "-", title)
    return _started(TensorBoardTracker(run, _to.folder / TENSORBOARD, purge_step=first_step))


def _trackio(title: str, first_step: int) -> Tracker:
    from accelerate.tracking import TrackioTracker

    return _started(TrackioTracker(_project(), name=title))


def _wandb(title: str, first_step: int) -> Tracker:
    from accelerate.tracking import WandBTracker

    return _started(WandBTracker(_project(), name=title))


def _mlflow(title: str, first_step: int) -> Tracker:
    from accelerate.tracking import MLflowTracker

    return _started(MLflowTracker(_project(), run_name=title))


def _started(tracker: Tracker) -> Tracker:
    tracker.start()  # type: ignore[attr-defined]
    return tracker


def _project() -> str:
    return _to.folder.resolve().name


_OPEN: dict[TrackerName, Callable[[str, int], Tracker]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
