"""The teacher, or a second generator, in the beam: against exact scores of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import random_sequences

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories
from baselines.evaluation.certificate import certify
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import FuseBatch, rank_by_beam, rank_by_scores, validation_subset
from baselines.evaluation.ranks import POLICIES
from baselines.experiments.arms import Arm, arms_to_fuse, parse_arms
from baselines.experiments.config import CompareConfig, FusionConfig
from baselines.models import fusion
from baselines.models.fusion import MeanScorer, choose_weight, generator_fusion, teacher_fusion
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from semid.scoring import score_all

NUM_ITEMS = 12
ENCODER = EncoderConfig(dim=8, num_heads=2, ff_dim=16)


def backbone_of(codes: Tensor, seed: int) -> CausalBackbone:
    made = CausalBackbone(CausalConfig(encoder=ENCODER), BuildContext(codes, (3, 3, 2), seed=seed))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    return made.eval()


@pytest.fixture
def backbone(tiny_codes: Tensor) -> CausalBackbone:
    return backbone_of(tiny_codes, 0)


@pytest.fixture
def teacher() -> SASRec:
    made = SASRec(SASRecConfig(max_history=9, encoder=ENCODER), NUM_ITEMS, 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8)
    return made.eval()


class Exact:
    """A backbone as a scorer of all items."""

    max_history = 99

    def __init__(self, backbone: CausalBackbone) -> None:
        self.backbone = backbone

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        return score_all(self.backbone.start(histories), self.backbone.trie)


class Mixture:
    """The definition: one weighted sum of two log-probabilities of every item."""

    max_history = 99

    def __init__(self, backbone: CausalBackbone, other: Any, weight: float, heat: float) -> None:
        self.backbone, self.other, self.weight, self.heat = Exact(backbone), other, weight, heat

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        second = (self.other.score(histories) / self.heat).log_softmax(dim=1)
        return self.weight * self.backbone.score(histories) + (1 - self.weight) * second


@pytest.mark.parametrize(("weight", "heat"), [(0.0, 1.0), (0.4, 1.0), (0.4, 2.5), (1.0, 1.0)])
def test_a_wide_beam_with_the_teacher_ranks_by_the_mixture_of_both(
    backbone: CausalBackbone, teacher: SASRec, weight: float, heat: float
) -> None:
    data = random_sequences(NUM_ITEMS, 20)
    fuse = teacher_fusion(teacher, backbone.trie, weight=weight, temperature=heat)
    found = rank_by_beam(backbone, data, beam=NUM_ITEMS, fuse=fuse, batch_size=7)
    wanted = rank_by_scores(Mixture(backbone, teacher, weight, heat), data)
    for policy in POLICIES:
        np.testing.assert_array_equal(found.better[policy], wanted.better[policy])
    np.testing.assert_array_equal(found.top, wanted.top)


def test_a_wide_beam_with_a_second_generator_ranks_by_the_mean_of_both(
    backbone: CausalBackbone, tiny_codes: Tensor
) -> None:
    data, other = random_sequences(NUM_ITEMS, 20), backbone_of(tiny_codes, 5)
    found = rank_by_beam(backbone, data, beam=NUM_ITEMS, fuse=generator_fusion(other))
    wanted = rank_by_scores(Mixture(backbone, Exact(other), 0.5, 1.0), data)
    for policy in POLICIES:
        np.testing.assert_array_equal(found.better[policy], wanted.better[policy])


def test_the_mean_of_two_teachers_is_that_of_their_log_probabilities(teacher: SASRec) -> None:
    other = SASRec(SASRecConfig(max_history=5, encoder=ENCODER), NUM_ITEMS, 2).eval()
    mean = MeanScorer([teacher, other], [2.0, 2.0])
    assert mean.max_history == 9
    items = torch.tensor([[3, 1, 4], [1, 5, 9]])
    past = Histories(items=items, mask=items >= 0, users=torch.arange(2))
    expected = [(model.score(past) / 2).softmax(dim=1).log() for model in (teacher, other)]
    torch.testing.assert_close(mean.score(past), sum(expected) / 2)


def test_a_fused_beam_of_all_leaves_is_certified_against_fused_exact_scores(
    backbone: CausalBackbone, teacher: SASRec
) -> None:
    fuse = teacher_fusion(teacher, backbone.trie, weight=0.3)
    proof = certify(
        backbone, random_sequences(NUM_ITEMS, 9), EvaluationConfig(beam=12), fuse=fuse, k=5
    )
    assert proof.recall["12"] == 1.0
    assert proof.illegal == 0.0


def test_a_teacher_that_leaves_seen_items_out_puts_them_last(
    backbone: CausalBackbone, teacher: SASRec
) -> None:
    data = random_sequences(NUM_ITEMS, 40)
    found = {
        masked: rank_by_beam(
            backbone,
            data,
            beam=NUM_ITEMS,
            fuse=teacher_fusion(teacher, backbone.trie, weight=0.5, mask_history=masked),
        )
        for masked in (False, True)
    }
    unseen = found[False].better["removed"]
    new = unseen < NUM_ITEMS  # the others are targets of which the history knows
    for policy in POLICIES:
        np.testing.assert_array_equal(found[True].better[policy][new], unseen[new])
    assert (found[False].better["kept"] > unseen)[new].any()
    assert (found[True].better["kept"][~new] > found[False].better["kept"][~new]).any()


def chosen(
    backbone: CausalBackbone, teacher: SASRec, weights: tuple[float, ...], folder: Path
) -> fusion.ChosenWeight:
    def fuse_at(weight: float) -> FuseBatch:
        return teacher_fusion(teacher, backbone.trie, weight=weight)

    data, evaluation = random_sequences(NUM_ITEMS, 30), EvaluationConfig(validation_targets=40)
    return choose_weight(
        backbone, fuse_at, data, evaluation, weights, folder=folder, title="", made_from={}
    )


def test_validation_chooses_the_best_weight_and_tries_none_twice(
    backbone: CausalBackbone, teacher: SASRec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = EvaluationConfig(validation_targets=40)
    data = random_sequences(NUM_ITEMS, 30)
    reached = {}
    for weight in (0.2, 0.6, 1.0):
        ranks = rank_by_scores(Mixture(backbone, teacher, weight, 1.0), data)
        values = ranks.metrics("removed", "expected")["N@10"]
        reached[f"{weight:g}"] = float(values[validation_subset(evaluation, data)].mean())
    assert len(set(reached.values())) == 3
    found = chosen(backbone, teacher, (0.2, 0.6), tmp_path)
    assert found.validation == pytest.approx({key: reached[key] for key in ("0.2", "0.6")})
    assert reached[f"{found.weight:g}"] == max(reached["0.2"], reached["0.6"])

    tried = []
    once = fusion.rank_targets
    monkeypatch.setattr(
        fusion, "rank_targets", lambda *args, **kw: tried.append(kw["title"]) or once(*args, **kw)
    )
    found = chosen(backbone, teacher, (0.6, 1.0, 0.2), tmp_path)
    assert found.validation == pytest.approx(reached)
    assert reached[f"{found.weight:g}"] == max(reached.values())
    assert len(tried) == 1, "only the weight that is new"


def test_a_single_weight_is_taken_as_it_is(
    backbone: CausalBackbone, teacher: SASRec, tmp_path: Path
) -> None:
    found = chosen(backbone, teacher, (0.25,), tmp_path / "none")
    assert (found.weight, found.validation) == (0.25, {})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": ()}, "at least one"),
        ({"weights": (0.5, 0.5)}, "different numbers"),
        ({"weights": (1.5,)}, r"in \[0, 1\], at least one, got \[1.5\]"),
        ({"controls": True}, "controls stand beside arms"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusionConfig(**values)


def test_only_arms_of_the_comparison_are_fused() -> None:
    def fused(*texts: str, controls: bool = False) -> set[Arm]:
        fusion = FusionConfig(arms=texts, controls=controls)
        config = CompareConfig(arms=("causal:ntp", "causal:soft_ce:0.5"), seeds=(0,), fusion=fusion)
        return arms_to_fuse(config, parse_arms(config))

    arms = parse_arms(CompareConfig(arms=("causal:ntp", "causal:soft_ce:0.5")))
    assert fused() == set()
    assert fused("all") == set(arms)
    assert fused("causal:soft_ce:.50") == {arms[1]}
    with pytest.raises(ValueError, match=r"\(Causal ntp, Causal\+TCA .*\), got 'tiger:ntp'"):
        fused("tiger:ntp")
    with pytest.raises(ValueError, match=r"at least two seeds, got \[0\]"):
        fused("all", controls=True)
