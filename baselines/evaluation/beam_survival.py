"""At which level of the codes a beam search loses its targets."""

from __future__ import annotations

import numpy as np
import torch

from baselines.contracts.backbone import Backbone
from baselines.data.batches import histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch
from semid.arrays import IntArray
from semid.decoding import beam_search
from semid.trie import CodeTrie


@torch.inference_mode()
def beam_survival(
    backbone: Backbone,
    data: SequenceSet,
    evaluation: EvaluationConfig,
    *,
    fuse: FuseBatch | None = None,
    subset: IntArray | None = None,
) -> list[float]:
    """Share of targets whose path is still in the beam after each step, by level.

    After step ``l``, the beam holds what a search finds whose paths end there, which is how it is
    found: one search per level. A length penalty, which reorders complete paths, changes nothing.

    Args:
        backbone: A generator that is decoded by beam search, in eval mode.
        data: Sequences with targets.
        evaluation: Beam width, normalisation and batch size.
        fuse: Changes the scores of the search, such as a teacher in the beam or a training prior,
            by the nodes of the backbone's trie; None for the token probabilities alone.
        subset: Numbers of the targets, such as those of cold items; all by default.

    Raises:
        ValueError: If there is no target.
    """
    wanted = np.arange(data.num_targets) if subset is None else subset
    if not len(wanted):
        raise ValueError("survival is that of targets, got none. Choose some of the split's")
    targets = torch.from_numpy(data.items[data.targets()[1]][wanted])
    depth, longest = backbone.trie.depth, int(data.lengths.max())
    tries = [
        CodeTrie.from_paths(backbone.paths[:, :level], backbone.trie.num_tokens)
        for level in range(1, depth + 1)
    ]
    found = torch.zeros(depth, dtype=torch.int64)
    batches = histories_of_targets(data, longest, evaluation.batch_size, subset=wanted)
    for position, histories in batches:
        histories = histories.to(backbone.trie.device)
        start, fusion = backbone.start(histories), None if fuse is None else fuse(histories)
        items = targets[torch.from_numpy(position)].to(backbone.trie.device)
        for level, trie in enumerate(tries):  # with the first nodes of the whole one
            paths = beam_search(
                start,
                trie,
                beam=evaluation.beam,
                renormalize=evaluation.renormalize,
                fusion=fusion,
            )
            own = trie.node_of_item[items].unsqueeze(1)
            found[level] += (paths.leaves == own).any(dim=1).sum().cpu()
    return [int(count) / len(wanted) for count in found]
