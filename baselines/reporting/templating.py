"""Pages out of templates: escaped, with figures within them, and with nothing outside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from baselines.reporting.drawing import NARROW, WIDE, Picture


def rendered(template: str, **values: Any) -> str:
    """A page; text is escaped, and a value that the template lacks is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("baselines.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def inlined(pictures: Iterable[Picture]) -> dict[str, dict[str, Any]]:
    """By name: each ``picture``, drawn ``wide`` for a laptop and ``narrow`` for a phone."""
    return {
        one.name: {"picture": one, "wide": one.inline(WIDE), "narrow": one.inline(NARROW)}
        for one in pictures
    }
