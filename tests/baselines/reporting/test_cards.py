"""The page of ID cards: what it holds, hostile titles, and catalogues at the edge."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from pages import SIZES_AND_SCHEMES as SIZES
from pages import Page, assert_fits, barriers, opened

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.reporting import writing
from baselines.reporting.cards.browsing import as_json, browsing_data
from baselines.reporting.cards.figures import (
    ItemMap,
    card_pictures,
    groups_by_direction,
    use_curve,
)
from baselines.reporting.cards.page import cards_page
from baselines.reporting.cards.shown import ShownIds
from baselines.reporting.cards.tree import Box, divided
from semid import CodeTrie, SemanticIds
from semid.catalog import Catalog
from semid.embed import read_embeddings
from semid.inspecting import Evidence, id_card
from semid.inspecting.card import random_codes

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} \"double\" 'single' & <!--",
    "line\u2028separator\nand\ttab",
    "long " * 200,
    "\u202eright to left \U0001f600 日本語",
    "",
)


pytestmark = pytest.mark.usefixtures("with_pages")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small shop of hostile titles, two files of codes, and vectors."""
    folder = tmp_path_factory.mktemp("cards")
    write_plain_layout(
        synthetic_dataset(num_users=40, num_items=32, num_categories=2), folder / "shop"
    )
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    titles = [*HOSTILE, *(f"item {number}" for number in range(len(HOSTILE), 32))]
    items.with_columns(title=pl.Series(titles)).write_parquet(folder / "shop" / "items.parquet")
    np.save(folder / "three.npy", random_codes(32, (3, 2, 3)).numpy())
    np.save(folder / "one<b>.npy", np.arange(32)[:, None] // 4)
    np.save(folder / "text.npy", np.random.default_rng(0).normal(size=(32, 4)))
    return folder


@pytest.fixture(scope="module")
def written(shop: Path) -> Path:
    """The folder that the command writes for both files."""
    sets = [str(shop / "three.npy"), str(shop / "one<b>.npy")]
    given = ["--data", str(shop / "shop"), "--embeddings", str(shop / "text.npy")]
    assert main(["inspect", *sets, *given, "--out", str(shop / "cards")]) == 0
    return shop / "cards"


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "ids.html").read_text()


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    found: dict[str, Any] = json.loads(text)
    for one in found["sets"]:
        one["codes"] = unpacked(one)
    return found


def unpacked(found: dict[str, Any]) -> list[list[int]]:
    """The codes of a set, by level."""
    kind = f"<u{found['bytes']}"
    return [np.frombuffer(b64decode(level), kind).tolist() for level in found["codes"]]


def codes_of(folder: Path, name: str) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = np.load(folder / name)
    return codes


@pytest.mark.parametrize(("place", "name"), [(0, "three.npy"), (1, "one<b>.npy")])
def test_each_prefix_of_the_page_has_the_items_of_the_trie(
    place: int, name: str, page: str, shop: Path
) -> None:
    data = data_of(page)
    found = data["sets"][place]
    codes = torch.from_numpy(codes_of(shop, name))
    trie = CodeTrie.from_paths(codes, int(codes.max()) + 1)
    ids = data["lists"][found["list"]]["ids"]
    row_of = {item: row for row, item in enumerate(ids)}
    catalogue = pl.read_parquet(shop / "shop" / "items.parquet")["item_id"].to_list()
    paths = np.array(found["codes"]).T
    assert sorted(ids) == sorted(catalogue)
    for row, node in itertools.product(range(32), range(codes.shape[1] + 1)):
        prefix = codes[row, :node]
        (at,) = trie.walk(prefix[None]) if node else (torch.tensor(0),)
        below = {catalogue[item] for item in trie.items_below(int(at)).tolist()}
        begins = (paths[:, :node] == prefix.numpy()).all(axis=1)
        assert {ids[at] for at in np.flatnonzero(begins)} == below
    assert [paths[row_of[item]].tolist() for item in catalogue] == codes.tolist()


def test_items_of_most_events_come_first_and_are_typical(page: str, shop: Path) -> None:
    data = data_of(page)
    events = pl.read_parquet(shop / "shop" / "interactions.parquet").sort("user_id", "timestamp")
    train = events.filter(pl.int_range(pl.len()).over("user_id") < pl.len().over("user_id") - 2)
    counts = dict(train["item_id"].value_counts().iter_rows())
    ids = data["lists"][0]["ids"]
    assert data["ranked"] is True
    ranked = [counts.get(item, 0) for item in ids]
    assert ranked == sorted(ranked, reverse=True)
    first = np.array(data["sets"][0]["codes"][0])
    rows = re.findall(r'data-prefix="(\d+)">\d+</a></th><td>(\d+)</td>', page)[:3]
    expected = sorted(
        ((code, int((first == code).sum())) for code in range(3)), key=lambda x: -x[1]
    )
    assert [(int(code), int(items)) for code, items in rows] == expected


def test_the_page_stands_alone_and_takes_no_title_for_markup(page: str) -> None:
    found = Page(page)
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 2
    assert not {"img", "link", "iframe", "b"} & set(tags)
    assert "://" not in page
    assert "{{" not in re.sub(r"\{\{ 7 \* 7 \}\}", "", page)
    ids, links = found.all("id"), [*found.all("href"), *found.all("xlink:href")]
    assert len(set(ids)) == len(ids)
    assert {f"#{name}" for name in ids}.issuperset(map(str, links))
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert tags.count("table") == tags.count("caption") == 3


def test_titles_are_kept_on_one_short_line_and_an_item_without_one_has_its_id(
    page: str, shop: Path
) -> None:
    items = data_of(page)["lists"][0]
    catalogue = pl.read_parquet(shop / "shop" / "items.parquet")
    title_of = dict(zip(items["ids"], items["titles"], strict=True))
    own = [title_of[item] for item in catalogue["item_id"]]
    assert own[: len(HOSTILE)] == [
        *HOSTILE[:3],
        "line separator and tab",
        "long " * 15 + "long…",
        HOSTILE[5],
        None,
    ]


def test_the_same_table_is_kept_for_other_programs(written: Path, shop: Path) -> None:
    cards = json.loads((written / "card.json").read_text())["cards"]
    assert [card["items"] for card in cards] == [32, 32]
    with (written / "card.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    gini = {line["card"]: line for line in lines if line["figure"] == "level 1 Gini"}
    assert float(gini["A"]["value"]) == cards[0]["levels"][0]["gini"]
    assert float(gini["B"]["random"]) == cards[1]["control"]["levels"][0]["gini"]
    markdown = (written / "card.md").read_text()
    assert "|  | A | random | B | random |" in markdown
    assert f"{cards[0]['levels'][0]['gini']:.3f}" in markdown
    for name, suffix in itertools.product(("use", "tree", "map"), ("svg", "png", "pdf")):
        content = (written / "figures" / f"{name}-B.{suffix}").read_bytes()
        assert content.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix])


def test_the_command_says_where_the_page_is_and_writes_the_same_again(
    written: Path, shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    inspect = ["inspect", "three.npy", "--data", "shop", "--out"]
    assert main([*inspect, "once"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "files: once/card.json, card.md, card.csv",
        "page: once/ids.html",
    ]
    assert main([*inspect, "twice"]) == 0
    once, twice = ((shop / name / "ids.html").read_bytes() for name in ("once", "twice"))
    assert once == twice
    assert not (shop / "once" / "figures" / "map-A.svg").exists(), "there are no vectors"
    capsys.readouterr()
    assert main([*inspect, "three.npy"]) == 2
    assert "out must be a folder, got the file three.npy" in capsys.readouterr().err


def test_without_the_packages_of_the_page_the_figures_are_written(
    shop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "_NEEDED", ("jinja2", "no_such_package"))
    given = [str(shop / "three.npy"), "--data", str(shop / "shop"), "--out", str(tmp_path)]
    assert main(["inspect", *given]) == 0
    assert "no ids.html: it needs no_such_package: pip install 'semid[report]'" in (
        " ".join(capsys.readouterr().out.split())
    )
    assert {path.name for path in tmp_path.iterdir()} == {"card.json", "card.md", "card.csv"}


@pytest.mark.parametrize(("number", "levels"), [(1, 1), (1, 3), (2, 1)])
def test_one_item_and_one_level_have_a_page(
    number: int, levels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("items").mkdir()
    pl.DataFrame({"item_id": range(7, 7 + number)}).write_parquet("items/items.parquet")
    tokens = [f"<{letter}_0>" for letter in "abc"[:levels]]
    Path("codes.json").write_text(json.dumps({str(7 + item): tokens for item in range(number)}))
    assert main(["inspect", "codes.json", "--data", "items", "--out", "cards"]) == 0
    data = data_of(Path("cards/ids.html").read_text())
    assert data["lists"] == [
        {"ids": [*range(7, 7 + number)], "titles": [None] * number, "of": number}
    ]
    assert data["sets"][0]["codes"] == [[0] * number] * levels
    assert data["ranked"] is False


def test_folders_of_other_items_each_have_their_own(tmp_path: Path, shop: Path) -> None:
    shutil.copytree(shop / "shop", tmp_path / "less")
    items = pl.read_parquet(shop / "shop" / "items.parquet").head(20)
    items.write_parquet(tmp_path / "less" / "items.parquet")
    folders = []
    for data in (shop / "shop", tmp_path / "less"):
        folders.append(str(tmp_path / f"ids-{data.name}"))
        build = ["build", "--data", str(data), "--out", folders[-1], "--tokenizer", "random"]
        assert main(build) == 0
    assert main(["inspect", *folders, *folders[:1], "--out", str(tmp_path / "cards")]) == 0
    data = data_of((tmp_path / "cards" / "ids.html").read_text())
    assert [found["list"] for found in data["sets"]] == [0, 1]
    assert [len(found["ids"]) for found in data["lists"]] == [32, 20]


def sets_of(number: int, items: int, sizes: tuple[int, ...]) -> list[ShownIds]:
    """Some sets of random codes over items with titles of sixty characters."""
    drawn = torch.Generator().manual_seed(0)
    shown = []
    for place in range(number):
        codes = torch.stack(
            [torch.randint(size, (items,), generator=drawn) for size in sizes], dim=1
        )
        ids = SemanticIds.of(list(range(items)), codes, sizes, scheme="given")
        shown.append(
            ShownIds(
                number=place,
                card=id_card(ids, Evidence(), name=f"set {place}"),
                ids=ids,
                titles=[f"{item:060d}" for item in range(items)],
                events=None,
            )
        )
    return shown


def test_more_items_than_fit_are_sampled_and_the_page_says_so() -> None:
    shown = sets_of(2, 500, (4, 4))
    whole = browsing_data(shown, 10**6)
    assert whole["lists"][0]["of"] == len(whole["lists"][0]["ids"]) == 500
    some = browsing_data(shown, 10_000)
    assert 8_000 < len(as_json(some)) <= 10_000
    (listed,) = some["lists"]
    assert listed["of"] == 500
    assert listed["ids"] == sorted(set(listed["ids"]))
    for one, found in zip(shown, some["sets"], strict=True):
        assert np.array(unpacked(found)).T.tolist() == one.ids.codes[listed["ids"]].tolist()
    page = cards_page(sets_of(1, 20_001, (4, 4)), [[]])
    assert "Out of 20,001 items, a random sample of 20,000 can be browsed here" in page


@pytest.mark.parametrize(("size", "width"), [(256, 1), (257, 2), (65_537, 4)])
def test_codes_of_any_size_are_packed(size: int, width: int) -> None:
    (shown,) = sets_of(1, 5, (size, 2))
    shown.ids.codes[0, 0] = size - 1
    (found,) = browsing_data([shown], 10**6)["sets"]
    assert found["bytes"] == width
    assert unpacked(found) == shown.ids.codes.T.tolist()


@pytest.mark.slow
def test_nine_large_sets_have_a_small_page(tmp_path: Path) -> None:
    shown = sets_of(9, 12_101, (256, 256, 256, 256))
    vectors = np.random.default_rng(0).normal(size=(12_101, 8))
    points = torch.from_numpy(vectors[:2000, :2])
    places = ItemMap(
        rows=torch.arange(2000), points=points, kept=0.5, space="embeddings", num_items=12_101
    )
    page = cards_page(shown, list(card_pictures(shown, places)))
    assert len(page.encode()) < 5 * 2**20
    assert len(data_of(page)["lists"][0]["ids"]) > 8_000


def test_the_treemap_is_the_example_of_its_paper() -> None:
    boxes = divided([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    assert [(b.x, b.y, b.width, b.height) for b in boxes[:2]] == [(0, 0, 3, 2), (0, 2, 3, 2)]
    upper = [(round(b.width, 6), round(b.height, 6)) for b in boxes[2:4]]
    assert upper == [(round(12 / 7, 6), round(7 / 3, 6)), (round(9 / 7, 6), round(7 / 3, 6))]


@pytest.mark.parametrize(("width", "height"), [(720, 420), (300, 420), (1, 1)])
def test_the_treemap_divides_the_whole_box_by_area(width: float, height: float) -> None:
    areas = sorted(np.random.default_rng(0).integers(1, 500, size=200).tolist(), reverse=True)
    boxes = divided(areas, Box(0, 0, width, height))
    scale = width * height / sum(areas)
    assert [b.width * b.height for b in boxes] == pytest.approx([area * scale for area in areas])
    for one in boxes:
        assert -1e-9 <= one.x <= one.x + one.width <= width * (1 + 1e-9)
        assert -1e-9 <= one.y <= one.y + one.height <= height * (1 + 1e-9)
    for one, other in itertools.combinations(boxes, 2):
        wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert min(wide, high) < 1e-9 * width


def test_the_curve_of_use_adds_up_the_most_used_codes() -> None:
    x, y = use_curve(torch.tensor([2, 2, 2, 0]), 4)
    assert x == [0, 25, 50, 75, 100]
    assert y == [0, 75, 100, 100, 100]


def test_first_codes_that_lie_together_have_one_colour() -> None:
    angle = torch.arange(60, dtype=torch.float64) / 60 * 2 * torch.pi
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    codes = torch.arange(60) // 10
    groups = groups_by_direction(codes * 7 % 11, points)
    assert sorted(groups.unique().tolist()) == [0, 1, 2, 3, 4, 5]
    assert all(len(groups[codes == code].unique()) == 1 for code in range(6))


def test_the_map_shows_the_two_principal_components(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    catalog = Catalog(item_ids=list(range(50)), fields=pl.DataFrame())
    embeddings = read_embeddings(str(tmp_path / "vectors.npy"), catalog)
    places = ItemMap.of(embeddings, "embeddings")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    _, values, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    expected = centred @ axes[:2].T
    assert np.abs(places.points.numpy()) == pytest.approx(np.abs(expected), abs=1e-5)
    assert places.kept == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), abs=1e-5)
    some = ItemMap.of(embeddings, "embeddings", 20)
    assert len(some.rows) == len(some.points) == 20
    assert some.num_items == 50


@pytest.fixture(params=SIZES)
def shown(request: pytest.FixtureRequest, browser: Any, written: Path) -> Iterator[Any]:
    """The page in a browser with its lists unfolded, and what it logged."""
    with opened(browser, written / "ids.html", *request.param) as (page, logged):
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        yield page, logged


@pytest.mark.slow
def test_the_page_fits_can_be_read_and_runs_no_title(shown: Any) -> None:
    page, logged = shown
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    assert_fits(page)
    page.fill("#prefix", "0")
    assert_fits(page)
    assert page.locator("#browser img, #browser script").count() == 0
    assert page.locator("figure svg:visible").count() == page.locator("figure").count() == 6
    assert barriers(page) == []
    assert logged == dialogs == []


@pytest.mark.slow
def test_prefixes_can_be_typed_clicked_and_reached_by_keyboard(
    browser: Any, written: Path, shop: Path
) -> None:
    codes = codes_of(shop, "three.npy")
    with opened(browser, written / "ids.html", 1440, "light") as (page, logged):
        page.fill("#prefix", "1 0")
        begins = (codes[:, :2] == (1, 0)).all(axis=1)
        following = len(np.unique(codes[begins, 2]))
        told = f"{begins.sum()} items, {following} next code{'s' if following != 1 else ''}"
        assert page.inner_text("#count") == told
        assert page.locator("#items tbody tr").count() == begins.sum()
        assert page.locator("#children tbody tr").count() == following
        page.focus("#trail button >> nth=1")
        page.keyboard.press("Enter")
        assert page.input_value("#prefix") == "1"
        page.fill("#prefix", "9")
        assert page.inner_text("#count") == "No item begins with 9."
        page.fill("#prefix", "")
        assert page.inner_text("#count") == "32 items, 3 next codes"
        page.select_option("#set", "1")
        assert page.inner_text("#count") == "32 items, 8 next codes"
        cell = page.locator('#set-0 .wide g[id$="-code-2"]')
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
        page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
        assert page.input_value("#prefix").split()[0] == "2"
        assert page.input_value("#set") == "0"
        title = page.evaluate("document.querySelector('g[id*=\"-code-\"] > title').textContent")
        assert re.match(r"2( \d)?: \d+ items?\n", title)
        assert logged == []
