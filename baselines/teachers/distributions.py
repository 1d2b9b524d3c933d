"""Sources of a teacher's token distributions in training: a stored table, or the live teacher."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.data.batches import TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.teachers.mass import MassSource
from tca.candidates import Positions


class StoredDistributions:
    """Distributions computed once for all arms and epochs.

    Args:
        mass: Float ``(target, pos, child)``, rows in the order of the training target ids, as
            returned by ``cached_mass``.
    """

    def __init__(self, mass: Tensor) -> None:
        self.mass = mass

    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Look up the rows of a batch."""
        row = batch.target_id[at.target].to(self.mass.device)
        return self.mass[row, at.pos.to(self.mass.device)].to(at.pos.device)


class LiveDistributions:
    """Distributions computed by the frozen teacher for each batch.

    A trie of titles has hundreds of first tokens or more, and paths of a dozen tokens: a table for
    all targets would be large and almost entirely zero. Scoring a batch is cheap compared with a
    step of a language model.

    Args:
        source: Computes the distributions.
        train: The training sequences, from which the teacher's histories are taken; these may be
            longer than those that the backbone reads.
    """

    def __init__(self, source: MassSource, train: SequenceSet) -> None:
        longest = int(train.lengths.max(initial=1))
        self.source = source
        self._windows = Windows.per_target(train, source.max_history or longest)

    @torch.no_grad()
    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Score the batch's histories, and aggregate by next token."""
        chosen: np.ndarray = batch.target_id.cpu().numpy()
        past = self._windows.batch(chosen)
        mass = self.source(past.windows.without_last(), past.target_items)
        place = at.target.to(mass.device), at.pos.to(mass.device)
        return mass[place].to(at.pos.device)
