"""The page in a browser: on laptop and phone, light and dark; skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

AXE = os.environ.get("SEMID_AXE", "node_modules/axe-core/axe.min.js")
SMALL_TEXT = """() => {
  const small = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    let size = parseFloat(getComputedStyle(element).fontSize);
    if (element.ownerSVGElement) {
      const scale = element.getScreenCTM();
      size *= Math.hypot(scale.a, scale.b);
    }
    if (size < 12) small.push(texts.currentNode.data.trim() + ' ' + size);
  }
  return small;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def shown(request: pytest.FixtureRequest, browser: Any, finished: Path) -> Iterator[Any]:
    """The page with everything unfolded, and what the browser logged, at a width and scheme."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.on("request", lambda sent: logged.append(sent.url) if "://" in sent.url[6:] else None)
    page.goto(f"file://{finished}/report.html")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    yield page, logged
    context.close()


def test_the_page_fits_its_window_and_can_be_read(shown: Any) -> None:
    page, logged = shown
    assert logged == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(SMALL_TEXT) == []
    figures = page.locator("figure svg:visible")
    assert figures.count() == page.locator("figure").count() > 0


def test_the_page_has_no_barrier_that_axe_finds(shown: Any) -> None:
    page, _ = shown
    if not Path(AXE).exists():
        pytest.skip("no axe-core here: npm install axe-core, or its file in SEMID_AXE")
    page.add_script_tag(path=AXE)
    violations = page.evaluate("axe.run().then((found) => found.violations.map((one) => one.id))")
    assert violations == []


def test_the_page_can_be_used_with_the_keyboard(shown: Any) -> None:
    page, _ = shown
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
    scrolled = page.locator(".scroll, pre")
    assert all(one.get_attribute("tabindex") == "0" for one in scrolled.all())
