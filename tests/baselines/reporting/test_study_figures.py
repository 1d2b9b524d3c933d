"""Figures of studies: they show the values of the results, and only those."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from baselines.cli import main
from baselines.experiments.study import StudyPlan, StudyRun
from baselines.reporting.drawing import NARROW, WIDE
from baselines.reporting.study_figures import study_figure

ARMS = ["causal:ntp", "causal:soft_ce:0.3", "causal:soft_ce:0.6", "causal:soft_ce:0.9"]
KNN = {"teacher": {"model": "itemknn"}}
STUDIES = Path(__file__).parents[3] / "studies"


pytestmark = pytest.mark.usefixtures("with_pages")


@pytest.fixture(scope="module")
def results(finished: Path) -> dict[str, Any]:
    """The results of one run twice, as a study keeps them."""
    result = json.loads((finished / "comparison.json").read_text())
    return {name: {"options": {"arms": ARMS}, "result": result} for name in ("one", "two")}


def plan(figure: str, **changes: Any) -> StudyPlan:
    run = StudyRun(command="compare", hours=1)
    return StudyPlan(title="A tiny study", runs={"one": run}, figure=figure, **changes)


def mean(row: dict[str, Any]) -> float:
    return float(row["metrics"]["removed"]["N@10"]["mean"])


def rows(results: dict[str, Any], role: str) -> list[dict[str, Any]]:
    return [row for row in results["one"]["result"]["rows"] if row["role"] == role]


def shown(figure: str, results: dict[str, Any], width: int = WIDE) -> list[Any]:
    picture = study_figure(plan(figure), results)
    assert picture is not None
    return list(picture.draw(width).axes)


@pytest.mark.parametrize("figure", ["alpha", "differences", "teachers", "epochs"])
def test_a_figure_is_a_file_that_tells_what_it_shows(figure: str, results: dict[str, Any]) -> None:
    picture, again = (study_figure(plan(figure), results) for _ in range(2))
    assert picture is not None
    assert again is not None
    assert picture.svg() == again.svg()
    root = ET.fromstring(picture.svg())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "A tiny study"
    assert shown(figure, results, NARROW)
    assert study_figure(plan(figure), {}) is None


def test_alpha_shows_each_weight_from_the_plain_arm_on(results: dict[str, Any]) -> None:
    upper, lower = shown("alpha", results)
    by_label = {row["arm"]: row for row in rows(results, "arm")}
    labels = ["Causal ntp", *(f"Causal+TCA soft_ce alpha={a}" for a in (0.3, 0.6, 0.9))]
    for axes, values in (
        (upper, [mean(by_label[label]) for label in labels]),
        (lower, [by_label[label]["consistency"]["mean"] for label in labels]),
    ):
        first, second = axes.containers
        for line in (first.lines[0], second.lines[0]):
            assert line.get_xdata().tolist() == [0, 0.3, 0.6, 0.9]
            assert line.get_ydata().tolist() == values
    names = [text.get_text() for text in lower.get_legend().get_texts()]
    assert names == ["Causal soft_ce", "Causal soft_ce, two"]


def test_differences_are_those_between_arms_with_their_intervals(results: dict[str, Any]) -> None:
    (axes,) = shown("differences", results)
    arms = {row["arm"] for row in rows(results, "arm")}
    expected = [
        (one["low"], one["high"])
        for one in results["one"]["result"]["differences"]
        if one["policy"] == "removed" and one["metric"] == "N@10"
        and {one["arm"], one["reference"]} <= arms
    ]  # fmt: skip
    assert len(expected) >= 3
    intervals = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert intervals == [*expected, *expected][::-1]
    words = " ".join(text.get_text() for text in axes.texts)
    assert "one: " in words
    assert "two: " in words


def test_students_stand_beside_the_teacher_that_they_learned_from(results: dict[str, Any]) -> None:
    (axes,) = shown("teachers", results)
    arms = rows(results, "arm")
    (teacher,) = rows(results, "teacher")
    students, teachers = axes.containers
    assert students.lines[0].get_xdata().tolist() == [mean(row) for row in arms] * 2
    aligned = [row for row in arms if "+TCA" in row["arm"]]
    assert 0 < len(aligned) < len(arms)
    assert teachers.lines[0].get_xdata().tolist() == [mean(teacher)] * 2 * len(aligned)
    alone = next(row for row in arms if "+TCA" not in row["arm"])
    assert axes.lines[0].get_xdata() == [mean(alone)] * 2
    assert len(axes.get_yticklabels()) == 2 * len(arms)


def test_epochs_and_seconds_are_those_of_training(results: dict[str, Any]) -> None:
    by_epochs, by_seconds = shown("epochs", results)
    arms = [row for row in rows(results, "arm") if "epochs" in row["evaluations"][0]]
    for row, epochs, seconds in zip(arms, by_epochs.containers, by_seconds.containers, strict=True):
        counts = [notes["epochs"] for notes in row["evaluations"]]
        assert epochs.lines[0].get_xdata().tolist() == [sum(counts) / len(counts)] * 2
        assert seconds.lines[0].get_xdata().tolist() == [row["train_seconds"]] * 2
        assert epochs.lines[0].get_ydata().tolist() == [mean(row)] * 2


def test_the_command_draws_it_and_again_the_same(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    study = {
        "title": "Counting",
        "figure": "my_figure:drawn",
        "defaults": {"teacher train": {"data": "synthetic:40x32"}},
        "runs": {"knn": {"command": "teacher train", "hours": 1, "options": KNN}},
    }
    (tmp_path / "studies/tiny.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "my_figure.py").write_text(
        "from baselines.reporting.drawing import Picture, blank\n"
        "def drawn(plan, finished):\n"
        "    return Picture(name='x', title=plan.title, caption='', summary=min(finished),\n"
        "                   draw=lambda width: blank(width, 100))\n"
    )
    assert main(["study", "tiny", "--quiet"]) == 0
    before = (tmp_path / "studies/tiny/figure.svg").read_bytes()
    assert b"Counting" in before
    assert b"knn" in before
    assert main(["study", "tiny", "--quiet"]) == 0
    assert (tmp_path / "studies/tiny/figure.svg").read_bytes() == before


def test_a_search_may_have_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (STUDIES / "search.yaml").read_text().replace("table:", "figure: alpha\ntable:")
    (tmp_path / "s.yaml").write_text(text)
    assert main(["study", str(tmp_path / "s.yaml"), "--plan"]) == 2
    assert "figures show test targets" in capsys.readouterr().err


def test_the_studies_of_the_paper_have_figures() -> None:
    found = {
        path.stem: yaml.safe_load(path.read_text()).get("figure") for path in STUDIES.glob("*.yaml")
    }
    wanted = {
        "alpha": "alpha",
        "ablation": "differences",
        "teacher": "teachers",
        "sample": "epochs",
    }
    assert wanted.items() <= found.items()
