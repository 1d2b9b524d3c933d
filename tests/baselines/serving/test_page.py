"""The page to try models: whole, from nowhere else, and what it asks for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_server import IDS, Serve, detail

from baselines.models.recommender import Recommender


def test_the_page_loads_nothing_from_outside_and_needs_no_token(serve: Serve) -> None:
    answer = serve(token="secret").client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert not re.findall(r"https?://|src=|@import|url\(", answer.text)
    assert re.findall(r'href="([^"]*)"', answer.text) == ["data:,"]
    assert "innerHTML" not in answer.text  # titles are text, never markup


def test_items_are_found_by_their_titles(serve: Serve, alone: Recommender) -> None:
    server, title = serve(), alone.titles[9]
    part = title.split()[1].upper()
    found = server.client.get("/v1/items", params={"text": part, "limit": 48}).json()["items"]
    expected = [item for item, name in zip(IDS, alone.titles, strict=True) if part in name.upper()]
    assert [item["item_id"] for item in found] == expected
    begins = server.client.get("/v1/items", params={"text": title[:3], "limit": 3}).json()["items"]
    assert begins[0]["title"].startswith(title[:3])
    assert server.client.get("/v1/items", params={"text": "no such"}).json()["items"] == []
    for wrong in ({}, {"text": "a", "limit": 0}, {"text": "a" * 1001}):
        answer = server.client.get("/v1/items", params=wrong)
        assert (answer.status_code, "\n" in detail(answer)) == (422, False)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_in_a_browser_a_history_is_built_and_explained_with_keys(
    serve: Serve, causal: Path, tiger: Path, alone: Recommender, width: int, height: int
) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    server = serve(f"a={causal}", f"b={tiger}", token="secret", queue=64, deadline=30.0)
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        faults: list[Any] = []
        page.on("pageerror", lambda fault: faults.append(fault))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        page.get_by_text("expected the server's token").wait_for()
        page.get_by_label("Token of the server").fill("secret")
        page.keyboard.press("Tab")
        page.get_by_role("heading", name="a (").wait_for()
        page.get_by_role("combobox", name="Add an item").fill(alone.titles[9][:12])
        page.get_by_role("option").first.wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.get_by_role("button", name=f"Remove {alone.titles[9]}").wait_for()
        (expected,) = alone.recommend([[IDS[9]]], k=10)
        page.get_by_text(expected[0].title).first.wait_for()
        page.get_by_label("Beside it").select_option("b")
        page.get_by_role("heading", name="b (").wait_for()
        page.get_by_role("button", name=f"Why {expected[0].title}?").first.click()
        page.get_by_role("columnheader", name="probability").wait_for()
        page.get_by_label("Only titles that contain").fill("no such title")
        page.keyboard.press("Tab")
        page.get_by_text("no title contains no such title").wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert (faults, wide) == ([], 0)
        assert all(url.startswith((server.url, "data:")) for url in asked)
        browser.close()
