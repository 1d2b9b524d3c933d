"""The mean of the weights over the ends of the last epochs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """Mean of the weights at the ends of the last ``number`` epochs, or of all so far if fewer.

    Training itself never sees the mean: it is put in place for validation and saving only.

    Attributes:
        ends: Weights at the ends of the last ``number - 1`` recorded epochs, oldest first, each in
            the order of the parameters; copies in CPU memory.
    """

    def __init__(self, parameters: Sequence[Tensor], number: int) -> None:
        self.parameters = parameters
        self.ends: deque[list[Tensor]] = deque(maxlen=number - 1)

    def record(self) -> None:
        """Remember the weights at the end of an epoch, in place of the oldest."""
        if self.ends.maxlen:
            self.ends.append([p.detach().to("cpu", copy=True) for p in self.parameters])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the mean of the recorded weights and their own; restored on exit."""
        present = [p.detach().clone() for p in self.parameters] if self.ends else []
        for parameter, *values in zip(self.parameters, *self.ends, present, strict=False):
            mean = torch.stack([value.to(parameter.device) for value in values]).float().mean(dim=0)
            parameter.detach().copy_(mean)
        try:
            yield
        finally:
            for parameter, value in zip(self.parameters, present, strict=False):
                parameter.detach().copy_(value)
