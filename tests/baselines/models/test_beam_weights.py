"""Weights in a beam are changed without training, and mean what they say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny_models import CONFIGS, fit_model, shop, with_teacher

from baselines.cli import main
from baselines.data.batches import Histories
from baselines.models.beam_weights import (
    BeamWeights,
    beam_weights,
    partner_label,
    with_beam_weights,
)
from baselines.models.recommender import Recommender
from baselines.models.trained import TrainedModel
from baselines.teachers.fitted import FittedTeacher
from semid.scoring import score_all

IDS = shop().catalog.item_ids
HISTORY = [IDS[3], IDS[7], IDS[1]]
WITH_HEAD = dataclasses.replace(
    CONFIGS, causal=dataclasses.replace(CONFIGS.causal, item_head=1.0, path_dropout=0.1)
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A model with nothing but its paths."""
    return fit_model(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A model with an item head of its own and a teacher in its beam."""
    folder = tmp_path_factory.mktemp("model")
    return with_teacher(fit_model(folder, configs=WITH_HEAD), folder)


@torch.inference_mode()
def parts(model: TrainedModel) -> dict[str, torch.Tensor]:
    """Of every item's path: log-probability by codes, item head, teacher; log share of events."""
    rows = torch.from_numpy(model.items.catalog.rows(HISTORY)).unsqueeze(0)
    real = torch.ones_like(rows, dtype=torch.bool)
    past = Histories(items=rows, mask=real, users=torch.zeros(1).long())
    trie, head, partner = model.backbone.trie, model.backbone.item_scorer(), model.partner
    assert head is not None
    assert partner is not None
    assert isinstance(partner.model, FittedTeacher)
    leaf = trie.node_of_item.long()

    def below(p: torch.Tensor) -> torch.Tensor:
        return torch.zeros(trie.num_nodes).double().index_add_(0, leaf, p.double())[leaf].log()

    counts = torch.from_numpy(model.items.counts + 1.0)
    teacher = partner.model.model.score(past)[0] / partner.model.temperature
    return {
        "codes": score_all(model.backbone.start(past), trie)[0].double(),
        "head": below(head.score(past)[0].softmax(dim=0)),
        "teacher": below(teacher.softmax(dim=0)),
        "share": below(counts / counts.sum()),
    }


@pytest.mark.parametrize(
    ("prior", "teacher", "head"),
    [(0.0, 0.0, 0.0), (0.7, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.6), (1.5, 0.25, 1.0)],
)
def test_scores_are_those_of_the_formula(
    model: TrainedModel, prior: float, teacher: float, head: float
) -> None:
    found = parts(model)
    own = (1 - head) * found["codes"] + head * found["head"]
    scores = (1 - teacher) * own + teacher * found["teacher"] - prior * found["share"]
    expected = dict(zip(IDS, scores.tolist(), strict=True))
    best = sorted((expected[item] for item in IDS if item not in HISTORY), reverse=True)[:8]
    weights = BeamWeights(prior=prior, partner_weight=teacher, item_weight=head)
    (listed,) = Recommender(model).with_beam(weights).recommend([HISTORY], k=8)
    assert [item.score for item in listed] == pytest.approx(best, abs=1e-4)
    assert [expected[item.item_id] for item in listed] == pytest.approx(best, abs=1e-4)


def test_weights_that_are_not_given_stay_and_the_model_is_not_changed(model: TrainedModel) -> None:
    has = beam_weights(model)
    assert (has.prior, has.partner_weight) == (0.0, pytest.approx(0.6))
    assert partner_label(model) == "SASRec ce"
    shop = Recommender(model)
    (before,) = shop.recommend([HISTORY], k=8)
    assert shop.with_beam(BeamWeights()).recommend([HISTORY], k=8)[0] == before
    changed = with_beam_weights(model, BeamWeights(prior=2.0, partner_weight=0.0))
    assert beam_weights(changed) == BeamWeights(
        prior=2.0, partner_weight=None, item_weight=has.item_weight
    )
    assert partner_label(changed) is None
    assert changed.identity["prior"] == 2.0
    assert beam_weights(model) == has
    assert shop.recommend([HISTORY], k=8)[0] == before


def test_what_a_model_does_not_have_cannot_be_weighted(bare: TrainedModel) -> None:
    assert beam_weights(bare) == BeamWeights(prior=0.0)
    for name, what in (("partner_weight", "a second model"), ("item_weight", "an item head")):
        with pytest.raises(ValueError, match=rf"{name} needs a model with {what}.* leave it out"):
            with_beam_weights(bare, BeamWeights(**{name: 0.5}))


@pytest.mark.parametrize(
    ("name", "value", "most"),
    [
        ("prior", -0.1, 10),
        ("prior", float("nan"), 10),
        ("prior", float("inf"), 10),
        ("partner_weight", 1.1, 1),
        ("item_weight", -1.0, 1),
    ],
)
def test_weights_out_of_range_are_refused(name: str, value: float, most: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, {most}\], got {value}"):
        BeamWeights(**{name: value})


def test_the_command_line_takes_them(
    model: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "saved", tmp_path / "lists.jsonl"
    model.save(folder)
    words = ["recommend", "--model", str(folder), "--history", ",".join(map(str, HISTORY))]
    more = ["--prior", "0.5", "--partner_weight", "0", "--out", str(out), "--k", "4"]
    assert main([*words, *more]) == 0
    listed = [json.loads(line)["item_id"] for line in out.read_text().splitlines()]
    weights = BeamWeights(prior=0.5, partner_weight=0.0)
    (expected,) = Recommender(model).with_beam(weights).recommend([HISTORY], k=4)
    assert listed == [item.item_id for item in expected]
    capsys.readouterr()
    assert main([*words, "--partner_weight", "2"]) == 2
    assert capsys.readouterr().err == "semid: partner_weight must be in [0, 1], got 2.0\n"
