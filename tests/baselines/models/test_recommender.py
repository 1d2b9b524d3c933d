"""A model for use: the same lists as exact scoring, policies, filters, explanations."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_models import fit_model, shop, with_teacher

from baselines.data.batches import Histories
from baselines.models.recommender import Recommender
from semid.boosts import ItemBoosts
from semid.provenance import ProvenanceError, read_json, write_json
from semid.scoring import score_all

IDS = shop().catalog.item_ids
HISTORIES = [[IDS[3], IDS[7], IDS[1]], [IDS[40]], [IDS[5], IDS[5], IDS[12], IDS[9], IDS[30]]]


@pytest.fixture(scope="module", params=["causal", "tiger", "causal+teacher", "causal+itemknn"])
def shop_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    folder = tmp_path_factory.mktemp("models")
    backbone, _, teacher = request.param.partition("+")
    model = fit_model(folder, backbone)
    if teacher:
        model = with_teacher(model, folder, teacher.replace("teacher", "sasrec"))
    return Recommender(model)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return Recommender(fit_model(tmp_path_factory.mktemp("plain")))


def exact(recommender: Recommender, history: list[Any]) -> dict[Any, float]:
    """Log-probability of every item, by visiting all of them."""
    model = recommender.model
    rows = torch.from_numpy(model.items.catalog.rows(history)).unsqueeze(0)
    past = Histories(
        items=rows, mask=torch.ones_like(rows, dtype=torch.bool), users=torch.zeros(1).long()
    )
    fusion = None if model.fuse is None else model.fuse(past)
    with torch.inference_mode():
        scores = score_all(
            model.backbone.start(past.last(model.backbone.max_history)),
            model.backbone.trie,
            fusion=fusion,
        )
    return dict(zip(model.items.catalog.item_ids, scores[0].tolist(), strict=True))


def best(scores: dict[Any, float], k: int, *, without: Any = (), within: Any = None) -> list[Any]:
    left = [i for i in scores if i not in without and (within is None or i in within)]
    return sorted((scores[item] for item in left), reverse=True)[:k]


def test_lists_are_those_of_exact_scoring_without_what_was_seen(shop_of: Recommender) -> None:
    found = shop_of.recommend(HISTORIES, k=6)
    assert (len(found), found.unknown, found.short) == (3, 0, 0)
    for history, items in zip(HISTORIES, found, strict=True):
        scores = exact(shop_of, history)
        assert [item.score for item in items] == pytest.approx(
            best(scores, 6, without=history), abs=1e-4
        )
        assert all(item.score == pytest.approx(scores[item.item_id], abs=1e-4) for item in items)
        assert not {item.item_id for item in items} & set(history)


def test_seen_items_may_come_and_lists_do_not_depend_on_company(plain: Recommender) -> None:
    found = plain.recommend(HISTORIES, k=48, exclude_seen=False)
    assert [len(items) for items in found] == [48, 48, 48]
    alone = [plain.recommend([history], k=48, exclude_seen=False)[0] for history in HISTORIES]
    small = plain.recommend(HISTORIES, k=48, exclude_seen=False, batch_size=1)
    for together, one, by_itself in zip(found, small, alone, strict=True):
        assert [i.item_id for i in one] == [i.item_id for i in by_itself]
        assert [i.score for i in together] == pytest.approx([i.score for i in one], abs=1e-5)


@pytest.mark.parametrize("stock", [IDS[:5], IDS[4:], IDS[10:12]])
def test_only_what_is_in_stock_comes_back(plain: Recommender, stock: list[Any]) -> None:
    found = plain.recommend(HISTORIES, k=4, within=stock)
    for history, items in zip(HISTORIES, found, strict=True):
        wanted = best(exact(plain, history), 4, without=history, within=stock)
        assert [item.score for item in items] == pytest.approx(wanted, abs=1e-5)
    assert found.short == sum(len(set(stock) - set(history)) < 4 for history in HISTORIES)


def test_boosts_are_added_before_items_are_ranked(plain: Recommender) -> None:
    boosts = {IDS[20]: 3.0, IDS[21]: -2.0}
    scores = exact(plain, HISTORIES[1])
    scores = {item: score + boosts.get(item, 0.0) for item, score in scores.items()}
    (found,) = plain.recommend([HISTORIES[1]], k=5, boosts=boosts)
    assert [item.score for item in found] == pytest.approx(
        best(scores, 5, without=HISTORIES[1]), abs=1e-5
    )


def test_boosts_are_prepared_once_for_all_batches(
    plain: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ItemBoosts] = []

    def prepared(*args: Any) -> ItemBoosts:
        made.append(ItemBoosts(*args))
        return made[-1]

    monkeypatch.setattr("baselines.models.recommender.ItemBoosts", prepared)
    boosts = {IDS[20]: 3.0}
    alone = plain.recommend(HISTORIES, k=5, boosts=boosts, batch_size=1)
    assert len(made) == 1
    for one, together in zip(alone, plain.recommend(HISTORIES, k=5, boosts=boosts), strict=True):
        assert [item.item_id for item in one] == [item.item_id for item in together]


def test_a_model_that_reads_user_numbers_is_refused(tmp_path: Path) -> None:
    model = fit_model(tmp_path, "tiger")
    config = dataclasses.replace(model.spec.config, user_tokens=3)
    spec = dataclasses.replace(model.spec, config=config)
    backbone = spec.build(model.items.ids, model.items.catalog)
    with pytest.raises(ValueError, match="TIGER with user tokens"):
        Recommender(dataclasses.replace(model, spec=spec, backbone=backbone))


def test_unknown_items_are_skipped_and_counted_or_refused(plain: Recommender) -> None:
    kind = type(IDS[0])
    strange = kind(10**9)
    found = plain.recommend([[strange, *HISTORIES[0], strange]], k=3)
    assert found.unknown == 2
    assert list(found) == list(plain.recommend([HISTORIES[0]], k=3))
    with pytest.raises(ValueError, match=f"got {strange!r} in history 1"):
        plain.recommend([HISTORIES[0], [strange]], unknown="refuse")


def test_an_empty_history_is_refused_or_answered_by_popularity(plain: Recommender) -> None:
    with pytest.raises(ValueError, match=r"none in history 1 .*empty='popular'"):
        plain.recommend([HISTORIES[0], []])
    _, popular = plain.recommend([HISTORIES[0], []], k=5, empty="popular")
    counts = plain.model.items.counts
    assert sorted(counts, reverse=True)[:5] == [counts[IDS.index(item.item_id)] for item in popular]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"within": []}, "got a list of 0"),
        ({"within": [type(IDS[0])(10**9)]}, "got a list of 1 of which the model knows none"),
        ({"k": 0}, "k must be"),
        ({"unknown": "guess"}, "unknown must be one of skip, refuse"),
        ({"empty": "guess"}, "empty must be one of refuse, popular"),
        ({"boosts": {type(IDS[0])(10**9): 1.0}}, "boosts of items that the model knows"),
        ({"boosts": {IDS[0]: float("nan")}}, "finite in float32 as boost of .*, got nan"),
        ({"boosts": {IDS[0]: float("inf")}, "empty": "popular"}, "as boost of .*, got inf"),
        ({"boosts": {IDS[0]: 1e39}}, "as boost of .*, got 1e"),
        ({"boosts": {IDS[0]: None}}, "as boost of .*, got None"),
        ({"boosts": {IDS[0]: "high"}}, "as boost of .*, got 'high'"),
        ({"boosts": [IDS[0]]}, "a mapping of item ids to numbers"),
        ({"within": "12"}, "a list of item ids, got '12'"),
        ({"within": 12}, "a list of item ids, got 12"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    plain: Recommender, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        plain.recommend(HISTORIES, **options)


@pytest.mark.parametrize("histories", ["item 12", ["item 12"], None, 12, [12], iter([[12]])])
def test_what_is_no_list_of_histories_is_refused(plain: Recommender, histories: Any) -> None:
    with pytest.raises(ValueError, match=r"Write a single one as \[\[...\]\]"):
        plain.recommend(histories)


@pytest.mark.parametrize("item", [None, 1.0, True, [1], b"1", float("nan")])
def test_what_is_no_item_id_is_named(plain: Recommender, item: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"all whole numbers, got {item!r}")):
        plain.recommend([[IDS[0], item]])
    with pytest.raises(ValueError, match="all whole numbers, got"):
        plain.explain([IDS[0]], item)
    with pytest.raises(ValueError, match="all whole numbers, got"):
        plain.similar(item)


def test_an_explanation_needs_a_known_item_in_the_history(plain: Recommender) -> None:
    with pytest.raises(ValueError, match=r"knows in the history, got \[999\]$"):
        plain.explain([999], IDS[0])


def test_ids_and_histories_may_be_those_of_numpy_and_polars(plain: Recommender) -> None:
    expected = list(plain.recommend(HISTORIES, k=5))
    arrays = [np.array(history) for history in HISTORIES]
    others: list[Any] = [arrays, [list(history) for history in arrays], pl.Series(HISTORIES)]
    for histories in others:
        assert list(plain.recommend(histories, k=5)) == expected
    stock = plain.recommend(HISTORIES, k=5, within=IDS[:20])
    assert list(plain.recommend(HISTORIES, k=5, within=np.array(IDS[:20]))) == list(stock)


def test_more_than_there_is_comes_back_short_and_is_counted(plain: Recommender) -> None:
    found = plain.recommend(HISTORIES, k=100)
    assert found.short == 3
    assert [len(items) for items in found] == [48 - len(set(h)) for h in HISTORIES]


def test_it_is_the_same_after_it_was_saved_and_loaded(shop_of: Recommender, tmp_path: Path) -> None:
    shop_of.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")
    assert list(loaded.recommend(HISTORIES)) == list(shop_of.recommend(HISTORIES))


@pytest.mark.parametrize("mark", ["config.json", "model.json"])
def test_a_model_is_never_written_over_anything_but_a_model(
    plain: Recommender, tmp_path: Path, mark: str
) -> None:
    plain.save_pretrained(tmp_path / "model")
    plain.save_pretrained(tmp_path / "model")  # in place of itself
    run = tmp_path / "run"  # as a comparison, or what semid train has left
    plain.save_pretrained(run / "causal-ntp-0")
    (run / mark).write_text("{}")
    (run / "comparison.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"holds other files \(.*comparison.json.*Name ano"):
        plain.save_pretrained(run)
    assert (run / "causal-ntp-0" / "model.safetensors").exists()


def test_a_copied_folder_works_in_a_fresh_process_elsewhere(
    plain: Recommender, tmp_path: Path
) -> None:
    plain.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "moved")
    code = (
        "from baselines.models.recommender import Recommender\n"
        f"shop = Recommender.from_pretrained('moved')\n"
        f"print([i.item_id for i in shop.recommend([{HISTORIES[0]!r}], k=4)[0]])"
    )
    path = os.pathsep.join(map(str, sys.path))
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    found = plain.recommend([HISTORIES[0]], k=4)[0]
    assert ran.stdout.strip() == str([item.item_id for item in found])


def test_removed_items_never_come_back_and_stay_known(plain: Recommender, tmp_path: Path) -> None:
    first = plain.recommend([HISTORIES[0]], k=1)[0][0].item_id
    changed = Recommender(plain.model)
    changed.remove_items([first])
    changed.save_pretrained(tmp_path / "saved")
    for one in (changed, Recommender.from_pretrained(tmp_path / "saved")):
        found = one.recommend([HISTORIES[0]], k=48)[0]
        assert first not in [item.item_id for item in found]
        assert one.recommend([[first]], unknown="refuse")[0]
    with pytest.raises(ValueError, match="all to remove"):
        changed.remove_items(IDS)


def test_an_explanation_is_the_path_of_the_item(shop_of: Recommender) -> None:
    item = shop_of.recommend([HISTORIES[0]], k=3)[0][2]
    found = shop_of.explain(HISTORIES[0], item.item_id)
    alone = Recommender(dataclasses.replace(shop_of.model, partner=None))
    assert found.score == pytest.approx(exact(alone, HISTORIES[0])[item.item_id], abs=1e-4)
    product = torch.tensor([level.probability for level in found.levels]).log().sum()
    assert float(product) == pytest.approx(found.score, abs=1e-4)
    assert [level.code for level in found.levels] == [
        str(code) for code in shop_of.model.items.ids.codes_of(item.item_id)
    ]
    assert found.title in found.markdown()
    assert found.levels[-1].typical[0] == found.title


def test_titles_do_not_break_the_table_of_an_explanation(plain: Recommender) -> None:
    shop = Recommender(plain.model)
    shop.add_items([{"item_id": 901, "title": "red | blue\nset"}])
    (line,) = (line for line in shop.explain(HISTORIES[0], 901).markdown().splitlines()[-1:])
    assert line.endswith("| red \\| blue set |")
    assert line.replace("\\|", "").count("|") == 6


def test_an_explanation_shows_the_view_of_the_teacher_in_the_beam(
    plain: Recommender, tmp_path: Path
) -> None:
    model = with_teacher(plain.model, tmp_path)
    found = Recommender(model).explain(HISTORIES[0], IDS[11])
    assert model.partner is not None
    assert found.teacher is not None
    teacher = model.partner.model
    rows = torch.from_numpy(model.items.catalog.rows(HISTORIES[0])).unsqueeze(0)
    mask = torch.ones_like(rows, dtype=torch.bool)
    scores = teacher.model.score(Histories(items=rows, mask=mask, users=torch.zeros(1).long()))[0]  # type: ignore[union-attr]
    probabilities = (scores / 0.7).softmax(dim=0)
    assert found.teacher.probability == pytest.approx(float(probabilities[11]), rel=1e-4)
    assert found.teacher.rank == int((scores > scores[11]).sum()) + 1
    codes = model.items.ids.codes
    reached = torch.ones(len(codes), dtype=torch.bool)
    for depth, level in enumerate(found.levels):
        below = reached & (codes[:, depth] == codes[11, depth])
        share = probabilities[below].sum() / probabilities[reached].sum()
        assert level.teacher == pytest.approx(float(share), rel=1e-4)
        reached = below


@pytest.fixture(scope="module")
def causal_and_tiger(tmp_path_factory: pytest.TempPathFactory) -> list[Recommender]:
    return [Recommender(fit_model(tmp_path_factory.mktemp(n), n)) for n in ("causal", "tiger")]


NEW = [{"item_id": type(IDS[0])(1000 + row), "title": f"a new thing {row}"} for row in range(3)]


def test_new_items_are_coded_and_old_ones_keep_codes_and_scores(
    causal_and_tiger: list[Recommender], tmp_path: Path
) -> None:
    for number, before in enumerate(causal_and_tiger):
        after = Recommender(before.model)
        after.add_items(NEW)
        ids = after.model.items.ids
        assert ids.item_ids == [*IDS, *(row["item_id"] for row in NEW)]
        assert torch.equal(ids.codes[:48], before.model.items.ids.codes)
        found = after.recommend(HISTORIES, k=51, exclude_seen=False)
        assert {item.item_id for item in found[0]} == set(ids.item_ids)
        scores = exact(after, HISTORIES[0])
        assert [item.score for item in found[0]] == pytest.approx(
            sorted(scores.values(), reverse=True), abs=1e-4
        )
        states = before.model.backbone.state_dict()
        for name, value in after.model.backbone.state_dict().items():
            if name != "path_embedding.weight":
                assert torch.equal(value, states[name])
        mixed = [[NEW[0]["item_id"], IDS[4]]]
        after.save_pretrained(tmp_path / f"saved-{number}")
        again = Recommender.from_pretrained(tmp_path / f"saved-{number}")
        assert list(again.recommend([*HISTORIES, *mixed])) == list(
            after.recommend([*HISTORIES, *mixed])
        )
        again.add_items([{"item_id": type(IDS[0])(2000), "title": "one more"}])
        assert len(again.model.items.catalog) == 52


def test_an_item_keeps_the_vector_of_its_path_when_others_come(
    causal_and_tiger: list[Recommender],
) -> None:
    causal, _ = causal_and_tiger
    after = Recommender(causal.model)
    after.add_items(NEW)
    old: Any = causal.model.backbone
    new: Any = after.model.backbone
    before = old.path_embedding.weight[old.path_of_item]
    assert before.abs().sum() > 0
    assert torch.equal(new.path_embedding.weight[new.path_of_item[:48]], before)


def test_new_items_that_cannot_be_are_refused(plain: Recommender, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected items that are new, got .* which the model has"
    ):
        plain.add_items([{"item_id": IDS[0], "title": "old"}])
    with pytest.raises(ValueError, match="a row with item_id"):
        plain.add_items([])
    for wrong, said in (
        ({"item_id": None}, "item_id of Int64 in each row of the new items, got None in row 0"),
        ({"item_id": 900, "title": ["a"]}, "title of new items as String, got List"),
        (
            {"item_id": 900, "categories": "a"},
            r"categories of new items as List\(String\), got Str",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            plain.add_items([{"title": "new", **wrong}])
    guided = Recommender(with_teacher(plain.model, tmp_path))
    with pytest.raises(ValueError, match="ranks together with another model"):
        guided.add_items(NEW)


def test_ids_of_new_items_become_of_the_kind_of_the_catalogue(plain: Recommender) -> None:
    shop = Recommender(plain.model)
    shop.add_items([{"item_id": "900", "title": "new"}])
    assert shop.model.items.catalog.item_ids == [*IDS, 900]


def test_similar_items_are_those_of_the_largest_cosine(plain: Recommender) -> None:
    from semid import LsaEncoder, embed_catalog

    vectors = embed_catalog(plain.model.items.catalog, LsaEncoder()).vectors
    cosines = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1)
    cosines = cosines @ cosines[5]
    cosines[5] = -2
    found = plain.similar(IDS[5], k=4)
    assert [item.score for item in found] == pytest.approx(
        cosines.topk(4).values.tolist(), abs=1e-5
    )
    assert IDS[5] not in [item.item_id for item in found]


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("model.json", "expected a trained model in"),
        ("model.safetensors", "model.safetensors"),
        ("items.parquet", "items.parquet"),
        ("item_counts.safetensors", "counts of 48 items"),
        ("ids/semantic_ids.parquet", "semantic_ids.parquet"),
        ("provenance.json", "provenance.json"),
        ("state.json", "state.json"),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_a_half_copied_folder_is_refused(
    plain: Recommender, tmp_path: Path, lost: str, said: str, cut: bool
) -> None:
    plain.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / lost
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.unlink()  # a link to that of the model
    if cut:
        file.write_bytes(half)
    said = file.name if cut else said
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        Recommender.from_pretrained(tmp_path / "saved")
    assert "opy " in str(error.value) or not cut  # the cure: copy it again
    assert "\n" not in str(error.value)


def test_other_texts_of_the_same_items_are_refused(plain: Recommender, tmp_path: Path) -> None:
    plain.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "items.parquet"
    table = pl.read_parquet(path)
    path.unlink()
    table.with_columns(title=table["title"].reverse()).write_parquet(path)
    with pytest.raises(ProvenanceError, match="items and texts in"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_another_version_of_the_format_is_refused(plain: Recommender, tmp_path: Path) -> None:
    plain.save_pretrained(tmp_path / "saved")
    card = read_json(tmp_path / "saved" / "model.json")
    write_json(tmp_path / "saved" / "model.json", {**(card or {}), "format": 2})
    with pytest.raises(ProvenanceError, match=r"expected format 1 .* got 2"):
        Recommender.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    "parts", [{"heads": ["dense"]}, {"ids": ["ids", "ids-2"]}, {"reranker": "reranker"}]
)
def test_parts_of_a_newer_version_are_refused(
    plain: Recommender, tmp_path: Path, parts: dict[str, Any]
) -> None:
    plain.save_pretrained(tmp_path / "saved")
    card = read_json(tmp_path / "saved" / "model.json") or {}
    write_json(tmp_path / "saved" / "model.json", {**card, "parts": {**card["parts"], **parts}})
    with pytest.raises(ProvenanceError, match="Read it with the version of semid that wrote it"):
        Recommender.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("file", ["model.safetensors", "ids", "items.parquet"])
def test_a_file_of_another_model_is_refused(
    plain: Recommender, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, file: str
) -> None:
    other = tmp_path_factory.mktemp("other")
    fit_model(other, "tiger")
    plain.save_pretrained(tmp_path / "saved")
    if file == "model.safetensors":
        (tmp_path / "saved" / file).unlink()
        (other / "model" / file).rename(tmp_path / "saved" / file)
    elif file == "ids":
        table = tmp_path / "saved" / "ids" / "semantic_ids.parquet"
        frame = pl.read_parquet(table)
        frame = frame.with_columns(codes=frame["codes"].reverse())
        table.unlink()
        frame.write_parquet(table)
    else:
        path = tmp_path / "saved" / file
        frame = pl.read_parquet(path).head(10)
        path.unlink()
        frame.write_parquet(path)
    with pytest.raises(ProvenanceError):
        Recommender.from_pretrained(tmp_path / "saved")
