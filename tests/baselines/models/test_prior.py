"""The training prior as a setting of a model: its lists, its ranks and its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_models import fit_model, shop, with_teacher

from baselines.data.batches import Histories
from baselines.evaluation.config import EvaluationConfig
from baselines.models.recommender import Recommender
from baselines.models.trained import TrainedModel
from semid.provenance import read_json
from semid.scoring import score_all

PRIOR = 0.7
IDS = shop().catalog.item_ids
HISTORY = [IDS[3], IDS[7], IDS[1]]


def with_prior(model: TrainedModel, prior: float) -> TrainedModel:
    evaluation = dataclasses.replace(model.spec.evaluation, prior=prior)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, evaluation=evaluation))


@pytest.fixture(scope="module", params=["alone", "teacher in the beam"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp("model")
    fitted = fit_model(folder)
    return fitted if request.param == "alone" else with_teacher(fitted, folder)


def expected(model: TrainedModel) -> dict[str | int, float]:
    """Every item's score without a prior, less its path's share of the training events."""
    rows = torch.from_numpy(model.items.catalog.rows(HISTORY)).unsqueeze(0)
    past = Histories(
        items=rows, mask=torch.ones_like(rows, dtype=torch.bool), users=torch.zeros(1).long()
    )
    trie, fuse = model.backbone.trie, model.fuse
    with torch.inference_mode():
        start = model.backbone.start(past.last(model.backbone.max_history))
        scores = score_all(start, trie, fusion=None if fuse is None else fuse(past))[0]
    mass = torch.zeros(trie.num_nodes).double()
    mass.index_add_(0, trie.node_of_item.long(), torch.from_numpy(model.items.counts + 1.0))
    share = mass[trie.node_of_item.long()] / mass.sum()
    return dict(zip(IDS, (scores - PRIOR * share.log()).tolist(), strict=True))


def test_lists_have_the_prior_divided_out_and_a_folder_keeps_it(
    model: TrainedModel, tmp_path: Path
) -> None:
    scores = expected(model)
    with_prior(model, PRIOR).save(tmp_path / "saved")
    assert (read_json(tmp_path / "saved" / "model.json") or {})["spec"]["evaluation"][
        "prior"
    ] == PRIOR
    loaded = TrainedModel.load(tmp_path / "saved")
    for each in (with_prior(model, PRIOR), loaded):
        (found,) = Recommender(each).recommend([HISTORY], k=8)
        best = sorted((scores[item] for item in IDS if item not in HISTORY), reverse=True)[:8]
        assert [item.score for item in found] == pytest.approx(best, abs=1e-4)
        assert [scores[item.item_id] for item in found] == pytest.approx(best, abs=1e-4)


def test_a_prior_of_zero_is_today_to_the_bit(model: TrainedModel, tmp_path: Path) -> None:
    with_prior(model, 0.0).save(tmp_path / "saved")
    card = read_json(tmp_path / "saved" / "model.json") or {}
    assert "prior" not in card["spec"]["evaluation"]
    (before,), (after,) = (
        Recommender(each).recommend([HISTORY], k=8) for each in (model, with_prior(model, 0.0))
    )
    assert [(i.item_id, i.score) for i in before] == [(i.item_id, i.score) for i in after]


def test_it_identifies_ranks_and_not_weights(model: TrainedModel, tmp_path: Path) -> None:
    other = with_prior(model, PRIOR)
    assert other.identity == {**model.identity, "prior": PRIOR}
    lineages = [
        each.spec.lineage(each.backbone, shop(), each.items.ids, None) for each in (model, other)
    ]
    assert lineages[0] == lineages[1]
    dataset = shop()
    ranks, notes = other.evaluate(dataset, tmp_path / "test", "test")
    before, _ = model.evaluate(dataset, tmp_path / "test", "test")
    assert ranks.top.tolist() != before.top.tolist()
    assert notes["certificate"]["recall"]["50"] == 1, "a beam over all items is exact"


@pytest.mark.parametrize("prior", [-0.1, float("nan"), float("inf")])
def test_bad_priors_are_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prior must be"):
        EvaluationConfig(prior=prior)
