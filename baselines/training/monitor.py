"""Stops training on a non-finite loss or gradient, and saves the batch."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from baselines.data.batches import TrainBatch
from semid.distributed import distributed_state
from semid.provenance import atomic_write

BROKEN = "broken_batch"


class NonFiniteMonitor:
    """Checks every loss and gradient norm, but synchronises the device only every few steps.

    Values are recorded at every step and checked together; the first non-finite one is still
    identified.

    Args:
        folder: Folder for the offending batch.
        title: Name of the training run.
        every: Steps checked together; with 1, each is checked before its weight update.
    """

    def __init__(self, folder: Path, title: str, *, every: int) -> None:
        self.folder, self.title, self.every = folder, title, every
        self._steps: list[tuple[TrainBatch, int, Tensor, Tensor]] = []

    def record(self, batch: TrainBatch, epoch: int, loss: Tensor, norm: Tensor) -> None:
        """Record a step, and check once ``every`` of them are recorded.

        Args:
            batch: The batch of the step.
            epoch: Number of the epoch, from 1.
            loss: Scalar.
            norm: Scalar, norm of the gradient.

        Raises:
            ValueError: As ``check``.
        """
        self._steps.append((batch, epoch, loss, norm))
        if len(self._steps) >= self.every:
            self.check()

    def check(self) -> None:
        """Check the steps recorded since the last check.

        Raises:
            ValueError: If a loss or gradient norm is not finite; the message names the saved batch.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        numbers = torch.stack([torch.stack([loss, norm]).float() for _, _, loss, norm in steps])
        for (batch, epoch, _, _), (loss, norm) in zip(steps, numbers.tolist(), strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                continue
            path = self._save(batch)
            what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
            raise ValueError(
                f"the training {what} of {self.title} became {value} in epoch {epoch}; the batch "
                f"is in {path}. Lower the learning rate, or check the teacher's scores."
            )

    def _save(self, batch: TrainBatch) -> Path:
        """Write a batch, of several processes each its own share."""
        here = distributed_state()
        share = f"-{here.process_index}" if here.num_processes > 1 else ""
        path = self.folder / f"{BROKEN}{share}.safetensors"
        tensors = {
            "items": batch.windows.items,
            "mask": batch.windows.mask,
            "users": batch.windows.users,
            "target_row": batch.target_row,
            "target_pos": batch.target_pos,
            "target_id": batch.target_id,
        }
        atomic_write(
            path, save({name: value.cpu().contiguous() for name, value in tensors.items()})
        )
        return path
