"""The token distributions of all targets at once, in memory: what tests hold others against."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer
from baselines.data.sequences import SequenceSet
from baselines.teachers.mass import ExactMass, mass_blocks, mass_shape
from tca.collaborative import CollaborativeTokenizer


def teacher_mass(
    scorer: ItemScorer,
    tokenizer: CollaborativeTokenizer,
    data: SequenceSet,
    *,
    batch_size: int = 256,
) -> Tensor:
    """Token distributions along the path of each target, from the target's own past only.

    Args:
        scorer: The frozen teacher.
        tokenizer: Sums its scores over the children of each prefix. Backbones that spell the same
            codes with other tokens have the same children in the same order.
        data: Sequences with targets.
        batch_size: Histories scored at a time.

    Returns:
        float16 ``(target, pos, child)`` on the CPU, rows in the order of target ids.
    """
    source = ExactMass(scorer, tokenizer)
    mass = torch.empty(mass_shape(source, data), dtype=torch.float16)
    for ids, block in mass_blocks(source, data, batch_size=batch_size):
        mass[torch.from_numpy(ids)] = block
    return mass
