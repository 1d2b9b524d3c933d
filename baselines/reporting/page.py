"""The report as one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from baselines.experiments.controls import TWO_SEEDS
from baselines.experiments.rows import IN_THE_BEAM
from baselines.experiments.tables import NOTHING
from baselines.reporting.answer import answer_of
from baselines.reporting.drawing import NARROW, WIDE, Picture
from baselines.reporting.source import ReportSource
from baselines.reporting.tables import cost_lines, result_groups, stratum_lines


@dataclass(frozen=True, kw_only=True)
class ExampleItem:
    """An item as the page shows it."""

    title: str
    id: str
    path: str
    is_target: bool = False


@dataclass(frozen=True, kw_only=True)
class ExampleList:
    """What a row recommends to a user; ``place`` of the target from 1, None for a miss."""

    row: str
    items: tuple[ExampleItem, ...]
    place: int | None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A user with their history, their target and every row's list."""

    user: str
    history: tuple[ExampleItem, ...]
    earlier: int
    target: ExampleItem
    lists: tuple[ExampleList, ...]

    @property
    def hits(self) -> int:
        """The number of lists that hold the target."""
        return sum(one.place is not None for one in self.lists)


def report_page(found: ReportSource, figures: Sequence[Picture]) -> str:
    """The page of a comparison.

    Args:
        found: The comparison.
        figures: Its figures; each is drawn for a laptop and for a phone.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("baselines.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {
        one.name: {"picture": one, "wide": one.inline(WIDE), "narrow": one.inline(NARROW)}
        for one in figures
    }
    return environment.get_template("report.html").render(
        found=found,
        comparison=found.comparison,
        answer=answer_of(found),
        figures=drawn,
        results={policy: result_groups(found, policy) for policy in found.comparison.policies},
        costs=cost_lines(found),
        memory={
            name: size
            for name, size in found.comparison.settings.items()
            if name.startswith("peak memory")
        },
        strata=stratum_lines(found) if found.comparison.strata else [],
        schemes=[_scheme(card) for card in found.comparison.schemes],
        examples=list(_examples(found)),
        settings=_shown(found.comparison.settings),
        data=_shown(_flat(found.run.data)),
        lineages=_lineages(found),
        versions=_versions(found),
    )


def _scheme(card: dict[str, Any]) -> tuple[str, ...]:
    resolved = card["collisions"] or {}
    return (
        card["name"] or "of the comparison",
        card["scheme"],
        "x".join(map(str, card["sizes"])),
        str(resolved.get("colliding_items", NOTHING)),
        str(card["colliding_items"]),
        ", ".join(f"{level['utilisation']:.0%}" for level in card["levels"]),
    )


def _examples(found: ReportSource) -> Iterator[Example]:
    if found.examples is None:
        return
    items, schemes = found.examples["items"], _schemes(found)

    def shown(item: int, scheme: str, target: int | None = None) -> ExampleItem:
        one = items[str(item)]
        path = " ".join(map(str, one["codes"].get(scheme, ())))
        return ExampleItem(
            title=one["title"], id=str(one["id"]), path=path, is_target=item == target
        )

    own = next(iter(schemes.values()))
    for user in found.examples["users"]:
        target = user["target"]
        yield Example(
            user=str(user["user"]),
            history=tuple(shown(item, own) for item in user["history"]),
            earlier=user["earlier"],
            target=shown(target, own),
            lists=tuple(
                ExampleList(
                    row=row,
                    items=tuple(shown(item, schemes.get(row, own), target) for item in listed),
                    place=listed.index(target) + 1 if target in listed else None,
                )
                for row, listed in user["lists"].items()
            ),
        )


def _schemes(found: ReportSource) -> dict[str, str]:
    """The ID scheme of every row that decodes paths, "" for the comparison's own."""
    return {
        f"{label}{suffix}": arm.scheme or ""
        for label, arm in found.arms.items()
        for suffix in ("", IN_THE_BEAM, TWO_SEEDS)
    }


def _lineages(found: ReportSource) -> list[tuple[str, ...]]:
    return [
        (folder, one.content[:12], one.inputs.get("semantic_ids", NOTHING)[:12],
         one.inputs.get("teacher", NOTHING)[:12], (one.seen or NOTHING)[:12])
        for folder, one in found.lineages.items()
    ]  # fmt: skip


def _versions(found: ReportSource) -> str:
    first = next(iter(found.lineages.values()), None)
    return "" if first is None else ", ".join(f"{k} {v}" for k, v in first.versions.items())


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}: {key}": one for key, one in value.items()}
        else:
            flat[name] = value
    return flat


def _shown(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings as text, in words that may break; empty values are left out."""
    return [
        (
            name.replace("_", " "),
            ", ".join(map(str, value)) if isinstance(value, list) else f"{value}",
        )
        for name, value in values.items()
        if value not in ({}, [], "")
    ]
