"""Hold the figures of ID cards against how well one backbone did on the same IDs.

correlate_cards.py studies/id-card --runs runs/studies/id-card --data ../shared/data/beauty

Reads the validation N@10 of each finished run of a study (one JSON file each) and the card of its
IDs, which lie in the run's folder, and prints the rank correlation of every figure with N@10 over
the ID sets, with a bootstrap interval. A description: nothing was varied alone, and there are few
sets.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from baselines.cli import main as semid

METRIC = "validation_N@10"
FEWEST = 5
"""ID sets that a figure must be known of."""

Values = NDArray[np.float64]


class Correlation(NamedTuple):
    """Spearman's rank correlation over some ID sets, and its 95 % percentile interval."""

    figure: str
    sets: int
    value: float
    low: float
    high: float


def results_of(study: Path) -> dict[str, float]:
    """The validation metric of each finished run with one arm and seed, by name."""
    found = {}
    for path in sorted(study.glob("*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["result"]["rows"]
        arms = [row for row in rows if row["role"] == "arm"]
        if len(arms) != 1 or len(arms[0]["evaluations"]) != 1:
            raise ValueError(f"expected one arm and one seed in {path}, got {len(arms)} arms")
        found[path.stem] = float(arms[0]["evaluations"][0][METRIC])
    return found


def figures_of(sheet: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By figure, its value for each ID set, out of the ``card.csv`` of the sets in this order."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    with sheet.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    letters = list(dict.fromkeys(line["card"] for line in lines))
    name_of = dict(zip(letters, names, strict=True))
    for line in lines:
        found[line["figure"]][name_of[line["card"]]] = float(line["value"])
    return found


def spearman(x: Values, y: Values) -> Values:
    """Rank correlation along the last axis; NaN where all values of one are equal."""
    a, b = rankdata(x, axis=-1), rankdata(y, axis=-1)
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        both = (a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray(both)


def correlations(
    figures: Mapping[str, Mapping[str, float]],
    results: Mapping[str, float],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Correlation]:
    """Of every figure that varies over at least `FEWEST` sets, the strongest first."""
    found = []
    for figure, values in figures.items():
        names = [name for name in results if name in values]
        x = np.array([values[name] for name in names])
        y = np.array([results[name] for name in names])
        if len(names) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
        low, high = np.nanquantile(spearman(x[drawn], y[drawn]), (0.025, 0.975))
        found.append(Correlation(figure, len(names), float(spearman(x, y)), low, high))
    return sorted(found, key=lambda one: -abs(one.value))


def report(found: Sequence[Correlation], results: Mapping[str, float]) -> str:
    """Both tables as Markdown, with what a reader must know of them."""
    told = [one for one in found if one.low > 0 or one.high < 0]
    return "\n".join(
        [
            f"Rank correlation of {len(found)} figures with validation N@10 over "
            f"{len(results)} ID sets. This describes these sets, with one backbone, one seed and "
            "one data set; they differ in many ways at once, and of so many figures some "
            f"correlate by chance: {len(told)} intervals leave out zero, {len(found) * 0.05:.0f} "
            "would be expected to if none were related.",
            "",
            "| figure | ID sets | Spearman | 95 % interval |",
            "| :-- | --: | --: | --: |",
            *(
                f"| {one.figure} | {one.sets} | {one.value:+.2f} | "
                f"{one.low:+.2f} to {one.high:+.2f} |"
                for one in found
            ),
            "",
            "| ID set | validation N@10 |",
            "| :-- | --: |",
            *(
                f"| {name} | {value:.4f} |"
                for name, value in sorted(results.items(), key=lambda one: -one[1])
            ),
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Inspect the IDs of the finished runs, and print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="folder of results, beside the study's file")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs' output")
    parser.add_argument("--data", required=True, help="items and events, as for semid inspect")
    parser.add_argument("--embeddings", default="lsa", help="as for semid inspect")
    parser.add_argument("--out", type=Path, default=Path("runs/id-cards"), help="for the cards")
    given = parser.parse_args(arguments)
    results = results_of(given.study)
    if len(results) < FEWEST:
        parser.error(f"{given.study} has {len(results)} finished runs, expected {FEWEST} or more")
    folders = [str(given.runs / name) for name in results]
    inspect = ["inspect", *folders, "--data", given.data, "--embeddings", given.embeddings]
    if code := semid([*inspect, "--out", str(given.out)]):
        return code
    figures = figures_of(given.out / "card.csv", list(results))
    print(report(correlations(figures, results), results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
