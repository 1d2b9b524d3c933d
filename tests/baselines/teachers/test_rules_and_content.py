"""Rules and content together: the sum, its weight, what is kept of it and where it serves."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import fit_model, with_teacher
from worlds import histories

from baselines.cli import main
from baselines.contracts.scorer import LeavesOwnOut
from baselines.data.dataset import Dataset
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.evaluation.selection import Selection
from baselines.models.recommender import Recommender
from baselines.models.trained import TrainedModel
from baselines.teachers.config import BUILT_IN, HybridConfig, TeacherConfig
from baselines.teachers.counting_config import BlendConfig, ContentConfig, RulesConfig
from baselines.teachers.fit import fit_teacher, read_teacher, scores_hash
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.registry import build_teacher
from baselines.teachers.rules_and_content import RulesAndContent
from baselines.testing import check_teacher
from baselines.training.config import TrainingConfig
from semid.embed import Embeddings
from semid.provenance import ProvenanceError

NAMES = ("rules", "content", "rules+content")
TRAINING = TrainingConfig(epochs=1)
PAST = histories([3, 5, 9], [1], [4, 4, 8, 2])


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return synthetic_dataset(num_users=80, num_items=40, num_categories=2)


def blend(
    shop: Dataset, config: BlendConfig, vectors: torch.Tensor | None = None
) -> RulesAndContent:
    content = ContentConfig() if vectors is None else ContentConfig(embeddings="given")
    teacher = TeacherConfig(model="rules+content", blend=config, content=content)
    made = build_teacher(teacher, shop, 0, vectors=vectors)
    assert isinstance(made, RulesAndContent)
    return made.eval()


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_evidence_of_both_is_added(shop: Dataset, weight: float) -> None:
    made = blend(shop, BlendConfig(weight=weight, smoothing=0.2))
    expected = made.rules.evidence(PAST) + weight * made.content.evidence(PAST)
    torch.testing.assert_close(made.score(PAST), (expected + 0.2).log())


def test_only_rules_leave_the_own_events_out(shop: Dataset) -> None:
    made, train = blend(shop, BlendConfig(weight=0.7)), shop.splits.train
    without = made.rules.evidence(PAST, without=train) + 0.7 * made.content.evidence(PAST)
    torch.testing.assert_close(made.score_without_own(PAST, train), (without + 0.1).log())
    assert torch.equal(made.content.score_without_own(PAST, train), made.content.score(PAST))
    assert not torch.equal(made.score_without_own(PAST, train), made.score(PAST))
    assert all(isinstance(each, LeavesOwnOut) for each in (made, made.rules, made.content))


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("history", [2, 30])
def test_the_contract_is_kept(shop: Dataset, model: str, history: int) -> None:
    config = TeacherConfig(
        model=model,
        rules=RulesConfig(max_history=history),
        content=ContentConfig(max_history=history),
    )
    check_teacher(lambda dataset, seed: build_teacher(config, dataset, seed), dataset=shop)


def test_validation_chooses_the_weight(shop: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    made = blend(shop, BlendConfig(candidates=(0.0, 0.5, 2.0, 50.0)))
    valid, selection = shop.splits.valid, Selection.of("ndcg@10")
    reached = {}
    for weight in (0.0, 0.5, 2.0, 50.0):
        fixed = blend(shop, BlendConfig(weight=weight))
        reached[weight] = selection.value(rank_by_scores(fixed, valid), "expected")
    with caplog.at_level(logging.INFO):
        made.choose(valid, selection)
    assert len(set(reached.values())) > 1
    assert reached[float(made.weight)] == max(reached.values())
    assert f"weight of content {float(made.weight):g}" in caplog.text


def test_content_that_says_nothing_gets_no_weight(shop: Dataset) -> None:
    noise = torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    made = blend(shop, BlendConfig(), vectors=noise)
    made.choose(shop.splits.valid, Selection.of())
    assert float(made.weight) == 0


def test_a_number_is_not_chosen_again(shop: Dataset) -> None:
    made = blend(shop, BlendConfig(weight=0.3))
    made.choose(shop.splits.valid, Selection.of())
    assert float(made.weight) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"weight": "best"}, "weight must be"),
        ({"weight": -1.0}, "weight must be"),
        ({"candidates": ()}, "candidates must name at least one weight, got none"),
        ({"candidates": (0.5, -1.0)}, r"candidates\[1\] must be"),
        ({"targets": 0}, "targets must be"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        BlendConfig(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [*NAMES, "hybrid"])
def test_what_was_fitted_is_read_and_served(shop: Dataset, tmp_path: Path, model: str) -> None:
    config = TeacherConfig(model=model, hybrid=HybridConfig(cf="rules"))
    fitted = FittedTeacher.fit(shop, config, TRAINING, seed=0, folder=tmp_path, temperature=0.8)
    expected = fitted.model.score(PAST)
    again, state, lineage = fit_teacher(shop, config, TRAINING, seed=0, folder=tmp_path)
    assert (state, lineage) == (fitted.state, fitted.lineage)
    read, _ = read_teacher(shop, seed=0, folder=fitted.folder)
    fitted.save(tmp_path / "copy")
    served = FittedTeacher.load(
        tmp_path / "copy", shop.catalog, temperature=0.8, mask_history=False
    )
    assert served.scores_hash == fitted.scores_hash
    assert not list((tmp_path / "copy").glob("interactions*")), "no user's events are given away"
    for each in (again, read, served.model):
        assert torch.equal(each.score(PAST), expected)


def test_its_settings_are_part_of_what_its_scores_are_known_by(
    shop: Dataset, tmp_path: Path
) -> None:
    configs = [
        TeacherConfig(model="rules"),
        TeacherConfig(model="rules", rules=RulesConfig(decay=0.5)),
        TeacherConfig(model="content"),
        TeacherConfig(model="content", content=ContentConfig(template="{title}")),
        TeacherConfig(model="content", content=ContentConfig(embeddings="lsa")),
        TeacherConfig(model="rules+content"),
        TeacherConfig(model="rules+content", blend=BlendConfig(weight=1.0)),
    ]
    hashes = {
        scores_hash(fit_teacher(shop, config, TRAINING, seed=0, folder=tmp_path)[2])
        for config in configs
    }
    assert len(hashes) == len(configs)


def test_vectors_of_other_interactions_are_refused(shop: Dataset, tmp_path: Path) -> None:
    vectors = np.eye(40, dtype=np.float32)
    Embeddings.of(vectors, shop.catalog, seen="other").save(tmp_path / "vectors")
    content = ContentConfig(embeddings=str(tmp_path / "vectors"))
    for model in ("content", "rules+content"):
        config = TeacherConfig(model=model, content=content)
        with pytest.raises(ProvenanceError, match=r"training interactions of the .*content's item"):
            fit_teacher(shop, config, TRAINING, seed=0, folder=tmp_path / "teachers")


@pytest.mark.parametrize("model", NAMES)
def test_it_serves_in_the_beam_of_a_model_without_data(tmp_path: Path, model: str) -> None:
    whole = with_teacher(fit_model(tmp_path), tmp_path, model)
    whole.save(tmp_path / "model-alone")
    alone = Recommender(TrainedModel.load(tmp_path / "model-alone"))
    ids = whole.items.catalog.item_ids
    asked = [[ids[3], ids[7]], [ids[40]]]
    expected = Recommender(whole).recommend(asked, k=5)
    assert list(alone.recommend(asked, k=5)) == list(expected)
    assert alone.explain(asked[0], ids[9]).teacher is not None


@pytest.mark.parametrize("model", NAMES)
def test_the_command_line_counts_and_ranks(
    shop: Dataset,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_plain_layout(shop, "shop")
    train = ["teacher", "train", "--data", "shop", "--out", "teachers", "--teacher.model", model]
    assert main(train) == 0
    shown = capsys.readouterr().out
    teacher, _ = read_teacher(shop, seed=0, folder=Path("teachers"))
    value = rank_by_scores(teacher, shop.splits.test).metrics("removed", "expected")["R@10"].mean()
    assert f"{value:.4f}" in shown
    assert teacher.label in shown
    changed = ["--teacher.rules.window", "2", "--teacher.content.power", "2"]
    assert main([*train, *changed, "--teacher.blend.weight", "0.5"]) == 0
    assert len(list(Path("teachers").iterdir())) == 2


@pytest.mark.parametrize("model", ["content", "rules+content"])
def test_items_without_text_are_one_line_on_the_command_line(
    shop: Dataset,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = dataclasses.replace(shop.catalog, fields=pl.DataFrame())
    write_plain_layout(dataclasses.replace(shop, catalog=bare), "shop")
    train = ["teacher", "train", "--data", "shop", "--out", "teachers", "--teacher.model"]
    capsys.readouterr()
    assert main([*train, model]) == 2
    refused = capsys.readouterr().err
    assert "has no text" in refused
    assert refused.count("\n") == 1
    assert main([*train, "rules"]) == 0


def test_a_hybrid_blends_rules_but_not_what_reads_content() -> None:
    HybridConfig(cf="rules")
    for model in ("content", "rules+content", "hybrid"):
        assert model in BUILT_IN
        with pytest.raises(ValueError, match="cf must be one of"):
            HybridConfig(cf=model)
