"""Ranks of items, counted one candidate at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from largest import Largest
from torch import Tensor
from worlds import random_sequences, sequence_set

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import Backbone, BuildContext, CodeBackbone
from baselines.data.batches import Histories, TrainBatch, Windows, histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation import ranking
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.metrics import MISS
from baselines.evaluation.ranking import rank_by_beam, rank_by_scores, rank_targets
from baselines.evaluation.ranks import POLICIES, TOP, Ranks
from baselines.nn.config import EncoderConfig
from semid.config import Renormalize
from semid.prefixes import Prefixes, StatelessPrefixes
from semid.scoring import score_all
from semid.vocab import CodeVocab
from tca.objective import Positions

NUM_ITEMS = 7
Past = list[int]
Sequences = list[tuple[list[int], int]]
SlowRank = tuple[dict[str, int], dict[str, int], list[int]]

SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(0, NUM_ITEMS - 1), min_size=2, max_size=10), st.just(1)),
    min_size=1,
    max_size=4,
)


def slow_score(past: Past, item: int) -> float:
    """A whole number below four, so that there are many ties, from the history in its order."""
    return float((sum((pos + 2) * (seen + 1) for pos, seen in enumerate(past)) + item * item) % 4)


def pasts_of(histories: Histories) -> list[Past]:
    return [row[mask].tolist() for row, mask in zip(histories.items, histories.mask, strict=True)]


def slow_targets(data: SequenceSet) -> list[tuple[Past, int]]:
    found = []
    for number, first in enumerate(data.first_target.tolist()):
        items = data.items[data.offsets[number] : data.offsets[number + 1]].tolist()
        found += [(items[:pos], items[pos]) for pos in range(first, len(items))]
    return found


def slow_rank(scores: dict[int, float], past: Past, target: int) -> SlowRank:
    """Better and tied candidates by policy, and the best unseen items, among the listed items."""
    better, tied = dict.fromkeys(POLICIES, MISS), dict.fromkeys(POLICIES, 0)
    for policy in POLICIES:
        candidates = [item for item in scores if policy == "kept" or item not in past]
        if target in candidates:
            better[policy] = sum(scores[item] > scores[target] for item in candidates)
            tied[policy] = sum(scores[item] == scores[target] for item in candidates) - 1
    unseen = [item for item in scores if item not in past]
    return better, tied, sorted(unseen, key=lambda item: -scores[item])


def assert_ranks(
    ranks: Ranks, data: SequenceSet, listed: Callable[[Past], dict[int, float]]
) -> None:
    """Every target's ranks are the slow ones among what ``listed`` returns, best first."""
    targets = slow_targets(data)
    assert len(ranks.top) == len(targets)
    for number, (past, target) in enumerate(targets):
        better, tied, top = slow_rank(listed(past), past, target)
        for policy in POLICIES:
            assert ranks.better[policy][number] == better[policy]
            assert ranks.tied[policy][number] == tied[policy]
        assert ranks.top[number].tolist() == (top + [-1] * TOP)[:TOP]


class LoopScorer:
    """``slow_score`` of every item."""

    max_history = 99

    def score(self, histories: Histories) -> Tensor:
        return torch.tensor(
            [[slow_score(past, item) for item in range(NUM_ITEMS)] for past in pasts_of(histories)]
        )


class LoopBackbone(CodeBackbone):
    """One level of codes; the logit of a code is ``slow_score`` of it."""

    label = "Loop"
    max_history = 99

    def __init__(self, codes: Tensor) -> None:
        super().__init__(codes, CodeVocab.per_level((int(codes.max()) + 1,)))

    def windows(self, data: SequenceSet) -> Windows:
        raise NotImplementedError

    def forward(self, batch: TrainBatch, at: Positions) -> Tensor:
        raise NotImplementedError

    def start(self, histories: Histories) -> Prefixes:
        pasts, codes = pasts_of(histories), range(self.vocab.num_tokens)

        def logits(prefix: Tensor) -> Tensor:
            assert prefix.shape == (len(pasts), 1, 0)
            return torch.tensor([[[slow_score(past, code) for code in codes]] for past in pasts])

        return StatelessPrefixes(logits, len(pasts))


@pytest.mark.parametrize("batch_size", [1, 4, 512, None])
@given(sequences=SEQUENCES)
def test_exact_ranks_are_counts_over_the_catalogue(
    batch_size: int | None, sequences: Sequences
) -> None:
    data = sequence_set(sequences)
    ranks = rank_by_scores(LoopScorer(), data, batch_size=batch_size)
    assert_ranks(ranks, data, lambda past: {i: slow_score(past, i) for i in range(NUM_ITEMS)})


class WideScorer(LoopScorer):
    """Keeps the numbers of histories that are scored together."""

    def __init__(self) -> None:
        self.together: list[int] = []

    def score(self, histories: Histories) -> Tensor:
        self.together.append(len(histories.items))
        return super().score(histories)


@pytest.mark.parametrize(("scores", "together"), [(3 * NUM_ITEMS + 1, 3), (1, 1), (10**6, 9)])
def test_of_a_large_catalogue_fewer_histories_are_scored_together(
    scores: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_SCORES", scores)
    data, scorer = sequence_set([([0, 1, 2, 3], 1)] * 3), WideScorer()
    ranks = rank_by_scores(scorer, data)
    assert scorer.together == [1, *[together] * (9 // together)]
    assert_ranks(ranks, data, lambda past: {i: slow_score(past, i) for i in range(NUM_ITEMS)})


TWINS = torch.tensor([[0], [4], [2], [2], [1], [2], [4]])  # items 2, 3, 5 and items 1, 6


@pytest.mark.parametrize("beam", [1, 2, 3, 4, 50])
@given(sequences=SEQUENCES)
def test_beam_ranks_are_counts_over_the_items_of_the_best_paths(
    beam: int, sequences: Sequences
) -> None:
    def listed(past: Past) -> dict[int, float]:
        codes = sorted({int(code) for code in TWINS})
        codes.sort(key=lambda code: -slow_score(past, code))  # stable: equal scores by code
        rows = TWINS.squeeze(1).tolist()
        return {
            item: slow_score(past, code)
            for code in codes[:beam]
            for item in range(NUM_ITEMS)
            if rows[item] == code
        }

    data = sequence_set(sequences)
    ranks = rank_by_beam(LoopBackbone(TWINS), data, beam=beam, batch_size=3)
    assert_ranks(ranks, data, listed)


@pytest.mark.parametrize("beam", [2, 3, 50])
@given(sequences=SEQUENCES)
def test_ranks_by_id_count_the_codes_of_candidates_once(beam: int, sequences: Sequences) -> None:
    data, of_item = sequence_set(sequences), TWINS.squeeze(1).tolist()
    ranks = rank_by_beam(LoopBackbone(TWINS), data, beam=beam, batch_size=3)
    assert ranks.by_id is not None
    for number, (past, target) in enumerate(slow_targets(data)):
        best = sorted(set(of_item), key=lambda code: (-slow_score(past, code), code))[:beam]
        for policy in POLICIES:
            items = [i for i in range(NUM_ITEMS) if policy == "kept" or i not in past]
            codes = {of_item[item] for item in items if of_item[item] in best}
            better, tied = MISS, 0
            if target in items and of_item[target] in codes:
                own = slow_score(past, of_item[target])
                better = sum(slow_score(past, code) > own for code in codes)
                tied = sum(slow_score(past, code) == own for code in codes) - 1
            assert ranks.by_id.better[policy][number] == better
            assert ranks.by_id.tied[policy][number] == tied


def test_ids_that_no_two_items_share_are_not_ranked() -> None:
    alone = torch.arange(NUM_ITEMS).unsqueeze(1)
    assert rank_by_beam(LoopBackbone(alone), random_sequences(NUM_ITEMS, 4), beam=2).by_id is None


class ScoreAll:
    """A backbone as a scorer: the log-probability of every item."""

    def __init__(self, backbone: Backbone, renormalize: Renormalize) -> None:
        self.backbone, self.renormalize = backbone, renormalize
        self.max_history = backbone.max_history

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        start = self.backbone.start(histories)
        return score_all(start, self.backbone.trie, renormalize=self.renormalize)


@pytest.mark.parametrize("renormalize", ["children", "none"])
def test_a_beam_over_all_leaves_of_a_real_backbone_ranks_like_its_exact_scores(
    tiny_codes: Tensor, renormalize: Renormalize
) -> None:
    codes = torch.cat([tiny_codes, tiny_codes[3:5]])
    encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
    backbone = CausalBackbone(
        CausalConfig(encoder=encoder), BuildContext(codes, (3, 3, 2), seed=0)
    ).eval()
    data = random_sequences(len(codes), 12, longest=8)
    exact = rank_by_scores(ScoreAll(backbone, renormalize), data)
    beam = rank_by_beam(backbone, data, beam=12, renormalize=renormalize)
    for policy in POLICIES:
        np.testing.assert_array_equal(beam.better[policy], exact.better[policy])
        np.testing.assert_array_equal(beam.tied[policy], exact.tied[policy])
    assert (exact.tied["kept"] > 0).any(), "twins tie"
    assert (exact.better["removed"] == MISS).any(), "some targets repeat"
    listed = beam.top >= 0
    np.testing.assert_array_equal(listed, exact.top >= 0)
    scores = ScoreAll(backbone, renormalize).score  # equal ones: by path or by catalogue row
    position, histories = next(histories_of_targets(data, 99, 999))
    exact_scores = scores(histories).numpy()[np.argsort(position)]
    found, wanted = (
        np.take_along_axis(exact_scores, np.maximum(top, 0), axis=1)[listed]
        for top in (beam.top, exact.top)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_large_group_of_equal_paths_costs_what_it_holds(beam: int) -> None:
    twins, history, batch = 5000, 40, 3
    codes = torch.cat([torch.zeros(twins, dtype=torch.int64), torch.arange(1, 4)]).unsqueeze(1)
    backbone = LoopBackbone(codes)
    gen = np.random.default_rng(0)
    sequences = [
        (gen.integers(0, len(codes), history + 1).tolist(), history) for _ in range(batch - 1)
    ]
    sequences.append(([*range(history), 7], history))  # the target was seen
    data = sequence_set(sequences)
    with Largest() as largest:
        ranks = rank_by_beam(backbone, data, beam=beam)
    assert largest.elements <= 2 * batch * len(codes), "no item is held against each one seen"

    def listed(past: Past) -> dict[int, float]:
        best = sorted(range(4), key=lambda code: -slow_score(past, code))[:beam]
        of_code = codes.squeeze(1).tolist()
        return {
            item: slow_score(past, code)
            for code in best
            for item in range(len(of_code))
            if of_code[item] == code
        }

    assert_ranks(ranks, data, listed)


class Forbidding(LoopScorer):
    """A scorer that forbids every second item."""

    def score(self, histories: Histories) -> Tensor:
        scores = super().score(histories)
        scores[:, 1::2] = -torch.inf
        return scores


def test_what_a_scorer_forbids_is_not_listed_and_a_miss_as_a_target() -> None:
    data = sequence_set([([0, 1], 1), ([0, 2, 4], 2), ([1, 6, 5], 2)])
    ranks = rank_by_scores(Forbidding(), data)
    allowed = range(0, NUM_ITEMS, 2)
    assert_ranks(ranks, data, lambda past: {i: slow_score(past, i) for i in allowed})
    assert (ranks.better["kept"] == MISS).tolist() == [True, False, True]


def test_a_subset_is_ranked_in_its_own_order() -> None:
    backbone, data = LoopBackbone(TWINS), random_sequences(NUM_ITEMS, 8)
    subset = np.array([11, 0, 5, 7])
    for rank in (
        partial(rank_by_beam, backbone, data, beam=2),
        partial(rank_by_scores, LoopScorer(), data),
    ):
        whole, part = rank(), rank(subset=subset)
        for policy in POLICIES:
            np.testing.assert_array_equal(part.better[policy], whole.better[policy][subset])
            np.testing.assert_array_equal(part.tied[policy], whole.tied[policy][subset])
        np.testing.assert_array_equal(part.top, whole.top[subset])


class ScoringBackbone(LoopBackbone):
    """A backbone that scores items itself, otherwise than its search would."""

    def score(self, histories: Histories) -> Tensor:
        return LoopScorer().score(histories)


def test_a_backbone_that_scores_items_is_ranked_by_its_scores() -> None:
    data, how = random_sequences(NUM_ITEMS, 8), EvaluationConfig()
    found = rank_targets(ScoringBackbone(TWINS), data, how, beam=1)
    assert_ranks(found, data, lambda past: {i: slow_score(past, i) for i in range(NUM_ITEMS)})
    searched, expected = (
        rank_targets(LoopBackbone(TWINS), data, how, beam=2),
        rank_by_beam(LoopBackbone(TWINS), data, beam=2),
    )
    np.testing.assert_array_equal(searched.top, expected.top)


def test_a_target_that_its_own_history_holds_is_a_miss_once_seen_items_are_removed() -> None:
    data = sequence_set([([3, 1, 3], 2)])
    for ranks in (
        rank_by_scores(LoopScorer(), data),
        rank_by_beam(LoopBackbone(TWINS), data, beam=9),
    ):
        assert ranks.better["removed"].tolist() == [MISS]
        assert ranks.better["kept"][0] < NUM_ITEMS
        assert ranks.metrics("removed", "expected")["R@20"].tolist() == [0.0]
        assert ranks.metrics("kept", "expected")["R@20"].tolist() == [1.0]


def test_where_everything_was_seen_nothing_is_recommended() -> None:
    data = sequence_set([([*range(NUM_ITEMS), 2], NUM_ITEMS)])
    for ranks in (
        rank_by_scores(LoopScorer(), data),
        rank_by_beam(LoopBackbone(TWINS), data, beam=9),
    ):
        assert ranks.top.tolist() == [[-1] * TOP]
        assert ranks.better["removed"].tolist() == [MISS]


def test_ranks_come_back_from_their_file(tmp_path: Path) -> None:
    ranks = rank_by_beam(LoopBackbone(TWINS), random_sequences(NUM_ITEMS, 8), beam=2)
    path = tmp_path / "ranks.safetensors"
    ranks.save(path, made_from="a model")
    loaded = Ranks.load(path, made_from="a model")
    assert loaded is not None
    assert loaded.seconds == ranks.seconds > 0
    np.testing.assert_array_equal(loaded.top, ranks.top)
    for policy in POLICIES:
        np.testing.assert_array_equal(loaded.better[policy], ranks.better[policy])
        np.testing.assert_array_equal(loaded.tied[policy], ranks.tied[policy])
        assert loaded.better[policy].dtype == np.int64
        assert loaded.by_id is not None
        assert ranks.by_id is not None
        np.testing.assert_array_equal(loaded.by_id.better[policy], ranks.by_id.better[policy])
        np.testing.assert_array_equal(loaded.by_id.tied[policy], ranks.by_id.tied[policy])
    assert Ranks.load(path, made_from="another model") is None
    dataclasses.replace(ranks, by_id=None).save(path)
    without = Ranks.load(path)
    assert without is not None
    assert without.by_id is None
