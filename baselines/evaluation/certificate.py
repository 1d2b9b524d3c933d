"""Compare beam search with exact scoring of the whole catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from baselines.contracts.backbone import Backbone
from baselines.data.batches import histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch
from semid.decoding import apply_length_penalty, beam_search, rank_items
from semid.scoring import score_all

_BEAMS = (10, 20, 50, 100)
_ROUNDING = 1e-5  # differences of log-probabilities between batch shapes


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How much an evaluation's beam search missed, on a few of its histories.

    Attributes:
        histories: Number of histories.
        k: Length of the lists.
        beam: The beam of the evaluation.
        recall: By beam size, for this and other beams: the share of the exact top ``k``, seen
            items included, that the beam's top ``k`` contain; an item that ties with the last of
            them counts.
        illegal: Share of the paths returned by all these beams that belong to no item.
    """

    histories: int
    k: int
    beam: int
    recall: dict[str, float]
    illegal: float


@torch.inference_mode()
def certify(
    backbone: Backbone,
    data: SequenceSet,
    evaluation: EvaluationConfig,
    *,
    fuse: FuseBatch | None = None,
    k: int = 10,
) -> Certificate:
    """Compare the beam search of an evaluation with exact scoring.

    Exact scoring visits every prefix of the catalogue for each history, so only a fixed random
    subset of ``evaluation.certified`` histories is checked.

    Args:
        backbone: The generator, in eval mode.
        data: Sequences with targets.
        evaluation: How the targets are ranked.
        fuse: Makes the second opinion that is mixed into both the search and the exact scores.
        k: Length of the lists, at most the size of the catalogue.
    """
    trie, how, penalty = backbone.trie, evaluation.renormalize, backbone.length_penalty
    length = trie.depth_of(trie.node_of_item).float() ** penalty
    k = min(k, trie.num_items)
    chosen = np.random.default_rng(0).permutation(data.num_targets)[: evaluation.certified]
    found = dict.fromkeys(sorted({*_BEAMS, evaluation.beam}), 0)
    longest, wanted, illegal, paths = int(data.lengths.max()), 0, 0, 0
    for _, histories in histories_of_targets(data, longest, 16, subset=np.sort(chosen)):
        histories = histories.to(trie.device)
        start, fusion = backbone.start(histories), None if fuse is None else fuse(histories)
        exact = score_all(start, trie, renormalize=how, fusion=fusion) / length
        best = exact.topk(k, dim=1).values
        wanted += int((best > -torch.inf).sum())  # forbidden items are never listed
        for beam in found:
            result = beam_search(start, trie, beam=beam, renormalize=how, fusion=fusion)
            result = apply_length_penalty(result, trie, penalty=penalty)
            items = rank_items(result, trie, k=k).items
            good = exact.gather(1, items.clamp_min(0)) >= best[:, -1:] - _ROUNDING
            found[beam] += int((good & (items >= 0)).sum())
            leaves = result.leaves[result.leaves >= 0]
            illegal += int((~torch.isin(leaves, trie.node_of_item)).sum())
            paths += len(leaves)
    return Certificate(
        histories=len(chosen),
        k=k,
        beam=evaluation.beam,
        recall={str(beam): count / max(wanted, 1) for beam, count in found.items()},
        illegal=illegal / max(paths, 1),
    )
