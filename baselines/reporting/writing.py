"""Writes the report of a finished comparison into its folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import yaml

from baselines.experiments.folder import CONFIG
from baselines.reporting.figures import pictures
from baselines.reporting.latex import latex_table
from baselines.reporting.page import report_page
from baselines.reporting.source import ReportSource
from baselines.reporting.tables import write_csv
from semid.atomic import atomic_write
from semid.provenance import read_json

PAGE, LATEX, PARTS = "report.html", "report.tex", "report"
SETTINGS = "compare.yaml"
_NEEDED = ("jinja2", "matplotlib", "squarify")


def missing_packages() -> list[str]:
    """Packages that the page needs and that are not installed."""
    return [name for name in _NEEDED if find_spec(name) is None]


def write_report(found: ReportSource) -> Path | None:
    """Write ``report.tex``, the tables in ``report/`` and, if they can be drawn, figures and page.

    ``report/compare.yaml`` holds the settings, for ``semid compare --config``. Figures are in
    ``report/figures`` as SVG, PNG and PDF. Nothing of the folder is changed besides.

    Returns:
        The page, ``report.html``; None if `missing_packages` names some.
    """
    folder = found.run.folder
    tables, figures = folder / PARTS, folder / PARTS / "figures"
    tables.mkdir(exist_ok=True)
    atomic_write(folder / LATEX, latex_table(found))
    write_csv(found, tables)
    settings = read_json(folder / CONFIG, take_unsealed=True)
    atomic_write(tables / SETTINGS, yaml.safe_dump(settings, sort_keys=False))
    if missing_packages():
        return None
    figures.mkdir(exist_ok=True)
    drawn = pictures(found)
    for picture in drawn:
        picture.save(figures)
    atomic_write(folder / PAGE, report_page(found, drawn))
    return folder / PAGE
