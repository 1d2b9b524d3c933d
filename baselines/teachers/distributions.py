"""Where a training takes its teacher's token distributions from: a table, or the teacher itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.data.batches import TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.teachers.mass import MassSource
from tca.candidates import Positions


class StoredDistributions:
    """Distributions that were computed once, for all arms and epochs.

    Args:
        mass: Float ``(target, pos, child)``, rows in the order of the training target ids, such as
            ``cached_mass`` gives.
    """

    def __init__(self, mass: Tensor) -> None:
        self.mass = mass

    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Read them."""
        row = batch.target_id[at.target].to(self.mass.device)
        return self.mass[row, at.pos.to(self.mass.device)].to(at.pos.device)


class LiveDistributions:
    """Distributions that the frozen teacher gives for each batch anew.

    A trie of titles has hundreds of first tokens or more, and paths of a dozen: a table of all
    targets would be large and hold almost only zeros. Beside a step of a language model, scoring a
    batch is little.

    Args:
        source: What computes them.
        train: The training sequences, from which the teacher's histories come: they may be longer
            than those that the backbone reads.
    """

    def __init__(self, source: MassSource, train: SequenceSet) -> None:
        longest = int(train.lengths.max(initial=1))
        self.source = source
        self._windows = Windows.per_target(train, source.max_history or longest)

    @torch.no_grad()
    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Score the batch's histories, and sum."""
        chosen: np.ndarray = batch.target_id.cpu().numpy()
        past = self._windows.batch(chosen)
        mass = self.source(past.windows.without_last(), past.target_items)
        place = at.target.to(mass.device), at.pos.to(mass.device)
        return mass[place].to(at.pos.device)
