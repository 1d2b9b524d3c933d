"""Small sequences and histories, written as lists."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone
from baselines.data.batches import Histories, TrainBatch
from baselines.data.sequences import SequenceSet
from tca.candidates import Positions
from tca.projection import Projection


def sequence_set(sequences: list[tuple[list[int], int]]) -> SequenceSet:
    """Sequences from pairs of items and first target; user ``u`` has sequence ``u``."""
    lengths = [len(items) for items, _ in sequences]
    return SequenceSet(
        items=np.array([item for items, _ in sequences for item in items], dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        first_target=np.array([first for _, first in sequences], dtype=np.int64),
        users=np.arange(len(sequences)),
    )


def random_sequences(
    num_items: int, num_sequences: int, *, longest: int = 9, seed: int = 0
) -> SequenceSet:
    """Sequences of random items, every position from the second on a target."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, size=num_sequences)
    return sequence_set([(rng.integers(num_items, size=n).tolist(), 1) for n in lengths])


def histories(*pasts: list[int], padding: int = 0, users: list[int] | None = None) -> Histories:
    """Left-padded histories, with ``padding`` columns more than the longest needs.

    What stands in the padding differs from row to row, since it must not matter.
    """
    width = padding + max(map(len, pasts))
    rows = [[row % 3] * (width - len(past)) + past for row, past in enumerate(pasts)]
    masks = [[False] * (width - len(past)) + [True] * len(past) for past in pasts]
    return Histories(
        items=torch.tensor(rows),
        mask=torch.tensor(masks),
        users=torch.tensor(list(range(len(pasts))) if users is None else users),
    )


@torch.no_grad()
def next_logits(backbone: Backbone, past: Histories, prefix: Tensor) -> Tensor:
    """Logits after prefixes int64 ``(batch, beam, depth)``, read from the first token."""
    read = backbone.start(past)
    beams = torch.arange(prefix.shape[1]).expand(len(prefix), -1)
    read = read.extend(beams * 0, prefix[:, :, 0]) if prefix.shape[2] else read
    for token in prefix.unbind(-1)[1:]:
        read = read.extend(beams, token)
    return read.logits().expand(-1, prefix.shape[1], -1)


def all_logits(backbone: Backbone, batch: TrainBatch) -> Tensor:
    """Teacher-forced logits at every position; float ``(target, pos, token)``."""
    targets, levels = len(batch.target_row), backbone.trie.depth
    at = Positions(
        target=torch.arange(targets).repeat(levels),
        pos=torch.arange(levels).repeat_interleave(targets),
        real=torch.ones(targets * levels, dtype=torch.bool),
        count=torch.tensor(targets * levels),
    )
    logits = as_logits(backbone(batch, at))
    return logits.view(levels, targets, -1).transpose(0, 1)


def as_logits(logits: Tensor | Projection) -> Tensor:
    """All logits, also those that are left unmade."""
    return logits.logits() if isinstance(logits, Projection) else logits
