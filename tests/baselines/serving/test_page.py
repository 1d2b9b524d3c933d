"""The page to try models: whole, from nowhere else, and what it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pages import chromium
from tiny_server import IDS, Serve, detail

from baselines.models.beam_weights import BeamWeights
from baselines.models.recommender import Recommender

if TYPE_CHECKING:
    from playwright.sync_api import Page


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


@contextmanager
def opened(url: str, width: int, height: int) -> Iterator[Page]:
    """A page of a real browser, without faults at the end, nor anything from outside."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        faults: list[Any] = []
        page.on("pageerror", lambda fault: faults.append(fault))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        yield page
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert (faults, wide) == ([], 0)
        assert all(one.startswith((url, "data:")) for one in asked)


SIZES = pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])


@pytest.mark.slow
@SIZES
def test_in_a_browser_a_history_is_built_and_explained_with_keys(
    serve: Serve, causal: Path, tiger: Path, alone: Recommender, width: int, height: int
) -> None:
    server = serve(f"a={causal}", f"b={tiger}", token="secret", queue=64, deadline=30.0)
    with opened(server.url, width, height) as page:
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


def listed(page: Page, recommender: Recommender, weights: BeamWeights) -> None:
    """Wait until the first list is that of a model after the tenth item, with these weights."""
    from playwright.sync_api import expect

    (found,) = recommender.with_beam(weights).recommend([[IDS[9]]], k=10)
    titles = page.locator("#lists ol").first.locator(
        "li > .row > div:first-child > div:first-child"
    )
    expect(titles).to_have_text([item.title for item in found])


@pytest.mark.slow
@SIZES
def test_in_a_browser_the_prior_and_the_teacher_in_the_beam_are_changed(
    serve: Serve, causal: Path, taught: Path, width: int, height: int
) -> None:
    server = serve(f"a={taught}", f"b={causal}", queue=64, deadline=30.0)
    model, plain = Recommender.from_pretrained(taught), Recommender.from_pretrained(causal)
    with opened(server.url, width, height) as page:
        page.get_by_role("combobox", name="Add an item").fill(model.titles[9])
        page.locator("#found [role=option]").first.click()
        prior, teacher = page.get_by_label("Popularity divided out"), page.get_by_label("SASRec")
        weight = page.get_by_label("Weight of the teacher")
        head = page.get_by_role("checkbox", name="Item head")
        if width < 960:
            assert not prior.is_visible()
            page.get_by_text("In the beam", exact=True).click()
        listed(page, model, BeamWeights())
        assert (prior.input_value(), weight.input_value()) == ("0", "0.6")
        assert (teacher.is_checked(), head.is_disabled()) == (True, True)
        page.get_by_text("This model has no item head.").wait_for()
        prior.focus()
        page.keyboard.press("End")
        listed(page, model, BeamWeights(prior=2.0))
        teacher.uncheck()
        listed(page, model, BeamWeights(prior=2.0, partner_weight=0.0))
        assert weight.is_disabled()
        teacher.check()
        weight.focus()
        page.keyboard.press("Home")
        listed(page, model, BeamWeights(prior=2.0, partner_weight=0.05))
        page.get_by_role("button", name="As in the model").click()
        listed(page, model, BeamWeights())
        page.get_by_label("Model", exact=True).select_option("b")
        page.get_by_text("This model has no teacher in its beam.").wait_for()
        assert page.get_by_role("checkbox", name="Teacher").is_disabled()
        listed(page, plain, BeamWeights())
        page.get_by_label("Beside it").select_option("a")  # has one: set for it alone
        page.get_by_label("SASRec").uncheck()
        page.get_by_role("heading", name="a (").wait_for()
        listed(page, plain, BeamWeights())
        assert page.get_by_role("alert").text_content() == ""
