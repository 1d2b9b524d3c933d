"""The weight of an item head: chosen on validation, kept with the model, mixed into its lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CONFIGS, fit_model, shop, with_teacher
from torch import Tensor

from baselines.data.batches import Histories
from baselines.evaluation.config import ITEM_WEIGHTS, EvaluationConfig
from baselines.evaluation.ranking import rank_by_beam, validation_subset
from baselines.models.fusion import teacher_fusion
from baselines.models.new_items import with_new_items
from baselines.models.recommender import Recommender
from baselines.models.trained import TrainedModel
from semid.provenance import ProvenanceError, read_json
from semid.scoring import score_all

IDS = shop().catalog.item_ids
HISTORY = [IDS[3], IDS[7], IDS[1]]
WITH_HEAD = dataclasses.replace(
    CONFIGS, causal=dataclasses.replace(CONFIGS.causal, item_head=1.0, path_dropout=0.1)
)


def at_weight(model: TrainedModel, weight: Any) -> TrainedModel:
    evaluation = dataclasses.replace(model.spec.evaluation, item_weight=weight)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, evaluation=evaluation))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return fit_model(folder, configs=WITH_HEAD)


def past_of(model: TrainedModel) -> Histories:
    rows = torch.from_numpy(model.items.catalog.rows(HISTORY)).unsqueeze(0)
    real = torch.ones_like(rows, dtype=torch.bool)
    return Histories(items=rows, mask=real, users=torch.zeros(1).long())


@torch.inference_mode()
def both_heads(model: TrainedModel) -> tuple[Tensor, Tensor]:
    """Log-probability of every item's path by the codes and by the item head."""
    past, backbone = past_of(model), model.backbone
    trie, head = backbone.trie, backbone.item_scorer()
    assert head is not None
    p = head.score(past)[0].softmax(dim=0)
    mass = torch.zeros(trie.num_nodes).index_add_(0, trie.node_of_item.long(), p)
    return score_all(backbone.start(past), trie)[0], mass[trie.node_of_item.long()].log()


def lists(model: TrainedModel) -> list[tuple[Any, float]]:
    (found,) = Recommender(model).recommend([HISTORY], k=8)
    return [(item.item_id, item.score) for item in found]


def require_lists(model: TrainedModel, expected: Tensor) -> None:
    """A beam over all items lists the best by the expected scores."""
    scores = dict(zip(model.items.catalog.item_ids, expected.tolist(), strict=True))
    best = sorted((scores[item] for item in scores if item not in HISTORY), reverse=True)[:8]
    assert [score for _, score in lists(model)] == pytest.approx(best, abs=1e-4)
    assert [scores[item] for item, _ in lists(model)] == pytest.approx(best, abs=1e-4)


def test_validation_chooses_the_weight_once_and_the_folder_keeps_it(
    model: TrainedModel, folder: Path
) -> None:
    unsettled = at_weight(model, "auto")
    chosen = read_json(folder / "model" / "item_weight.json", made_from=unsettled.identity)
    assert chosen is not None
    assert set(chosen["validation"]) == {f"{weight:g}" for weight in ITEM_WEIGHTS}
    best = max(chosen["validation"].values())
    assert chosen["validation"][f"{model.spec.evaluation.item_weight:g}"] == best
    card = read_json(folder / "model" / "model.json") or {}
    assert card["spec"]["evaluation"]["item_weight"] == model.spec.evaluation.item_weight
    read = TrainedModel.read(unsettled.spec, model.items, folder / "model")
    assert read.spec == model.spec, "also without the data"


def test_a_model_whose_weight_was_never_chosen_says_so(model: TrainedModel, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    with pytest.raises(ProvenanceError, match=r"item_weight.json.*give evaluation.item_weight"):
        TrainedModel.read(at_weight(model, "auto").spec, model.items, tmp_path / "saved")


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_lists_are_ranked_by_the_mixture_of_both_heads_before_and_after_saving(
    model: TrainedModel, tmp_path: Path, weight: float
) -> None:
    codes, items = both_heads(model)
    mixed = at_weight(model, weight)
    mixed.save(tmp_path / "saved")
    loaded = TrainedModel.load(tmp_path / "saved")
    assert loaded.spec.evaluation.item_weight == weight
    for each in (mixed, loaded):
        require_lists(each, (1 - weight) * codes + weight * items)


def test_a_teacher_in_the_beam_is_mixed_into_what_both_heads_say(
    model: TrainedModel, tmp_path: Path
) -> None:
    codes, items = both_heads(model)
    both = with_teacher(at_weight(model, 0.3), tmp_path)
    assert both.partner is not None
    teacher: Any = both.partner.model
    with torch.inference_mode():
        p = (teacher.model.score(past_of(model))[0] / teacher.temperature).softmax(dim=0)
    trie = model.backbone.trie
    mass = torch.zeros(trie.num_nodes).index_add_(0, trie.node_of_item.long(), p)
    second = mass[trie.node_of_item.long()].log()
    require_lists(both, 0.4 * (0.7 * codes + 0.3 * items) + 0.6 * second)


def test_ranks_depend_on_it_and_weights_do_not(model: TrainedModel, tmp_path: Path) -> None:
    dataset, other = shop(), at_weight(model, 1.0)
    assert other.identity == {**at_weight(model, 0.0).identity, "item_weight": 1.0}
    lineages = [
        each.spec.lineage(each.backbone, dataset, each.items.ids, None) for each in (model, other)
    ]
    assert lineages[0] == lineages[1]
    ranks, notes = other.evaluate(dataset, tmp_path / "test", "test")
    before, _ = at_weight(model, 0.0).evaluate(dataset, tmp_path / "test", "test")
    assert ranks.top.tolist() != before.top.tolist()
    assert notes["item_weight"]["weight"] == 1.0
    assert notes["certificate"]["recall"]["50"] == 1, "a beam over all items is exact"


def test_items_added_later_are_listed(model: TrainedModel) -> None:
    table = [{"item_id": 9001, "title": model.items.catalog.fields["title"][3]}]
    grown = with_new_items(at_weight(model, 0.5), table)
    codes, items = both_heads(grown)
    require_lists(grown, 0.5 * codes + 0.5 * items)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), "validated"])
def test_bad_weights_are_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match=r"item_weight must be .*auto"):
        EvaluationConfig(item_weight=weight)


def test_the_epoch_is_selected_by_both_heads(model: TrainedModel) -> None:
    evaluation, valid = model.spec.evaluation, shop().splits.valid
    ranks = rank_by_beam(
        model.backbone,
        valid,
        beam=evaluation.validation_beam,
        fuse=teacher_fusion(model.backbone.item_scorer(), model.backbone.trie, weight=0.5),  # type: ignore[arg-type]
        subset=validation_subset(evaluation, valid),
    )
    value = float(ranks.metrics("removed", evaluation.ties)["N@10"].mean())
    assert model.state.best == pytest.approx(value)
