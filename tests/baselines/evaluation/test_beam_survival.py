"""Survival of targets in the beam, beside a search over the exact mass of every prefix."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import random_sequences

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import Backbone, BuildContext
from baselines.data.batches import Histories, histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation.beam_survival import beam_survival
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.metrics import MISS
from baselines.evaluation.ranking import rank_by_beam
from baselines.models.fusion import teacher_fusion
from baselines.nn.config import EncoderConfig
from semid.config import Renormalize
from semid.scoring import score_all

DATA = random_sequences(7, 12, longest=8)


@pytest.fixture
def backbone(tiny_codes: Tensor) -> Backbone:
    codes = torch.cat([tiny_codes, tiny_codes[3:5]])
    config = CausalConfig(encoder=EncoderConfig(dim=8, num_heads=2, ff_dim=16))
    return CausalBackbone(config, BuildContext(codes, (3, 3, 2), seed=0)).eval()


def slow_survival(backbone: Backbone, data: SequenceSet, beam: int) -> list[float]:
    """With probabilities relative to siblings, a prefix's is the sum of those of its paths."""
    paths = [tuple(path) for path in backbone.paths.tolist()]
    targets = data.items[data.targets()[1]]
    lost = np.zeros(len(paths[0]))
    for position, histories in histories_of_targets(data, 8, 5):
        with torch.inference_mode():
            scores = score_all(backbone.start(histories), backbone.trie).exp()
        for target, row in zip(targets[position], scores.tolist(), strict=True):
            of_path = dict(zip(paths, row, strict=True))
            kept: list[tuple[int, ...]] = [()]
            for level in range(len(paths[0])):
                mass: dict[tuple[int, ...], float] = {}
                for path, probability in of_path.items():
                    if path[:level] in kept:
                        prefix = path[: level + 1]
                        mass[prefix] = mass.get(prefix, 0) + probability
                kept = sorted(mass, key=lambda prefix: -mass[prefix])[:beam]
                lost[level] += paths[target][: level + 1] not in kept
    return [float(1 - share) for share in lost / len(targets)]


@pytest.mark.parametrize("beam", [1, 2, 3])
def test_survival_is_that_of_a_search_over_prefix_masses(backbone: Backbone, beam: int) -> None:
    found = beam_survival(backbone, DATA, EvaluationConfig(beam=beam, batch_size=5))
    assert found == pytest.approx(slow_survival(backbone, DATA, beam))
    assert found[-1] < 1


@pytest.mark.parametrize("renormalize", get_args(Renormalize))
def test_who_survives_the_last_step_is_ranked(backbone: Backbone, renormalize: Renormalize) -> None:
    evaluation = EvaluationConfig(beam=2, renormalize=renormalize)
    ranks = rank_by_beam(backbone, DATA, beam=2, renormalize=renormalize)
    listed = ranks.better["kept"] != MISS
    assert beam_survival(backbone, DATA, evaluation)[-1] == pytest.approx(listed.mean())
    chosen = np.flatnonzero(listed)
    assert beam_survival(backbone, DATA, evaluation, subset=chosen) == [1.0, 1.0, 1.0]


class Always:
    """A teacher that scores the items alike for every history."""

    max_history = 1

    def __init__(self, scores: Tensor) -> None:
        self._scores = scores

    def score(self, histories: Histories) -> Tensor:
        return self._scores.expand(len(histories.items), -1)


def test_what_changes_the_scores_of_the_search_decides_who_survives(backbone: Backbone) -> None:
    scores = torch.arange(len(backbone.paths)).float()
    fuse = teacher_fusion(Always(scores), backbone.trie, weight=0)
    evaluation = EvaluationConfig(beam=1)
    found = beam_survival(backbone, DATA, evaluation, fuse=fuse)
    of_path: dict[tuple[int, ...], float] = {}
    for path, mass in zip(backbone.paths.tolist(), scores.exp().tolist(), strict=True):
        for level in range(1, 4):
            of_path[tuple(path[:level])] = of_path.get(tuple(path[:level]), 0) + mass
    best: tuple[int, ...] = ()
    expected = []
    targets = backbone.paths[DATA.items[DATA.targets()[1]]]
    for level in range(1, 4):
        best = max((p for p in of_path if p[:-1] == best), key=lambda path: of_path[path])
        expected.append(float((targets[:, :level] == torch.tensor(best)).all(dim=1).float().mean()))
    assert found == pytest.approx(expected)
    assert found != beam_survival(backbone, DATA, evaluation)


def test_a_wide_beam_loses_nothing(backbone: Backbone) -> None:
    assert beam_survival(backbone, DATA, EvaluationConfig(beam=20)) == [1.0, 1.0, 1.0]


def test_no_target_is_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="got none"):
        beam_survival(backbone, DATA, EvaluationConfig(), subset=np.empty(0, dtype=np.int64))
