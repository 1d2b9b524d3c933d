"""A teacher's token distributions for every training target, computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.data.batches import histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.parallel import add_up, is_my_turn
from baselines.progress import track
from baselines.teachers.scorer import ItemScorer
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
    items = torch.from_numpy(data.items[data.targets()[1]])
    trie = tokenizer.trie
    mass = torch.zeros(len(items), trie.depth, tokenizer.num_slots, dtype=torch.float16)
    batches = histories_of_targets(data, scorer.max_history, batch_size)
    with track("teacher mass", len(items)) as progress:
        for turn, (ids, histories) in enumerate(batches):
            if is_my_turn(turn):
                rows = torch.from_numpy(ids)
                scores = scorer.score(histories).to(trie.device)
                mass[rows] = tokenizer(scores, items[rows].to(trie.device)).half().cpu()
            progress.advance(len(ids))
    return add_up(mass)
