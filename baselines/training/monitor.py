"""Stops a training whose numbers have broken, and keeps the batch that broke them."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from baselines.data.batches import TrainBatch
from baselines.runtime.distributed import processes
from semid.provenance import atomic_write

BROKEN = "broken_batch"


class Watch:
    """Looks at every loss and gradient of a training, and waits for the device only now and then.

    Reading a number waits for all that was asked of the device. So it remembers some steps, looks
    at all of them together, and still finds the first that broke.

    Args:
        folder: Where the batch is written.
        title: Name of the training.
        every: Steps that are looked at together; with 1, before the weights are changed.
    """

    def __init__(self, folder: Path, title: str, *, every: int) -> None:
        self.folder, self.title, self.every = folder, title, every
        self._steps: list[tuple[TrainBatch, int, Tensor, Tensor]] = []

    def saw(self, batch: TrainBatch, epoch: int, loss: Tensor, norm: Tensor) -> None:
        """Remember a step, and look if it is time.

        Args:
            batch: What was learned from.
            epoch: Its number, from 1.
            loss: Scalar.
            norm: Scalar, of its gradient.

        Raises:
            ValueError: As ``look``.
        """
        self._steps.append((batch, epoch, loss, norm))
        if len(self._steps) >= self.every:
            self.look()

    def look(self) -> None:
        """Look at the steps since the last time.

        Raises:
            ValueError: If the loss or the gradient of one is no number; names the file that holds
                its batch.
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
        here = processes()
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
