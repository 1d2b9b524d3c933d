"""The page in a browser: on laptop and phone, light and dark; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import SIZES_AND_SCHEMES, assert_fits, barriers, opened

pytestmark = pytest.mark.slow


@pytest.fixture(params=SIZES_AND_SCHEMES)
def shown(request: pytest.FixtureRequest, browser: Any, finished: Path) -> Iterator[Any]:
    """The page with everything unfolded, and what the browser logged, at a width and scheme."""
    with opened(browser, finished / "report.html", *request.param) as (page, logged):
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        yield page, logged


def test_the_page_fits_its_window_and_can_be_read(shown: Any) -> None:
    page, logged = shown
    assert logged == []
    assert_fits(page)
    figures = page.locator("figure svg:visible")
    assert figures.count() == page.locator("figure").count() > 0


def test_the_page_has_no_barrier_that_axe_finds(shown: Any) -> None:
    page, _ = shown
    assert barriers(page) == []


def test_the_page_can_be_used_with_the_keyboard(shown: Any) -> None:
    page, _ = shown
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
    scrolled = page.locator(".scroll, pre")
    assert all(one.get_attribute("tabindex") == "0" for one in scrolled.all())
