"""Pages as a parser and as a browser see them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

SIZES_AND_SCHEMES = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
"""Widths of a laptop and a phone, each in both colour schemes."""

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
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """What a page is made of: its elements with attributes, and whether they are closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, name: str) -> list[str | None]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; as long as it is open, no other event loop can run."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, file: Path, width: int, scheme: str) -> Iterator[tuple[Any, list[str]]]:
    """The page in a window, and what the browser logs: messages, errors, and requests."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.on("request", lambda sent: logged.append(sent.url) if "://" in sent.url[6:] else None)
    page.goto(f"file://{file}")
    yield page, logged
    context.close()


def assert_fits(page: Any) -> None:
    """Nothing is wider than the window, and no text is smaller than 12 pixels."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(SMALL_TEXT) == []


def barriers(page: Any) -> list[str]:
    """What axe finds; the test is skipped where there is no axe."""
    if not Path(AXE).exists():
        pytest.skip("no axe-core here: npm install axe-core, or its file in SEMID_AXE")
    page.add_script_tag(path=AXE)
    found: list[str] = page.evaluate(
        "axe.run().then((found) => found.violations.map((one) => one.id))"
    )
    return found
