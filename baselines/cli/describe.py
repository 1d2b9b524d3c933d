"""``semid data describe``: the figures of a data set, as a table, JSON and a data card."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.cli.config import DescribeConfig
from baselines.cli.inputs import read_data

if TYPE_CHECKING:
    from rich.console import Console

    from baselines.data.dataset import Dataset
    from baselines.data.describing.description import Section

_SHARES = ("share", "coverage", "density", "html")


def data_describe(config: DescribeConfig, console: Console) -> None:
    """Describe a data set: sizes, long tail, repeats, times, splits, leakage and texts."""
    from rich.markdown import Markdown

    from baselines.data.describing.description import describe
    from baselines.data.describing.figures import require_matplotlib, write_figures
    from semid.atomic import atomic_write

    if config.figures is not None:
        require_matplotlib()
    dataset = read_data(config)
    sections = describe(dataset)
    console.print(Markdown(_sections(sections)))
    if config.out is not None:
        record = {"name": dataset.name, "split": dataset.splits.protocol, **sections}
        atomic_write(config.out, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        console.print(f"figures: {config.out}")
    drawn: dict[str, Path] = {}
    if config.figures is not None:
        drawn = write_figures(dataset, Path(config.figures))
        console.print(f"drawn: {', '.join(map(str, drawn.values()))}")
    if config.card is not None:
        atomic_write(config.card, _card(config, dataset, sections, drawn))
        console.print(f"data card: {config.card}")


def _card(
    config: DescribeConfig,
    dataset: Dataset,
    sections: Mapping[str, Section],
    drawn: Mapping[str, Path],
) -> str:
    read = {
        "split": dataset.splits.protocol,
        "order of equal times": config.ties,
        "repeated events": config.repeats,
        "items": f"`{dataset.catalog.order_hash}`",
        "training sequences": f"`{dataset.splits.train_hash}`",
        "test sequences": f"`{dataset.splits.test.content_hash()}`",
    }
    listed = "\n".join(f"- {what}: {value}" for what, value in read.items())
    shown = "".join(
        f"\n![{title}](<{_from_card(path, str(config.card))}>)\n" for title, path in drawn.items()
    )
    return f"# {dataset.name}\n\n{listed}\n\n{_sections(sections)}\n{shown}"


def _from_card(path: Path, card: str) -> str:
    """The path of a figure as the card, in its own folder, names it."""
    return Path(os.path.relpath(path, Path(card).parent)).as_posix()


def _sections(sections: Mapping[str, Section]) -> str:
    """Sections as Markdown, a table each."""
    from baselines.experiments.tables import markdown_table

    parts = []
    for name, section in sections.items():
        if all(isinstance(row, Mapping) for row in section.values()):
            columns = list(dict.fromkeys(column for row in section.values() for column in row))
            lines = [
                [_words(name), *(_figure(name, row.get(name)) for row in section.values())]
                for name in columns
            ]
            header = ["", *section]
        else:
            header = ["", "value"]
            lines = [[_words(row), _figure(row, value)] for row, value in section.items()]
        parts.append(f"## {_words(name).capitalize()}\n\n{markdown_table(header, lines)}")
    return "\n\n".join(parts)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(name: str, value: Any) -> str:
    """A figure to read: shares in percent, and numbers with thousands separated."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {share:.1%}" for key, share in value.items())
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2%}" if any(word in name for word in _SHARES) else f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
