"""The report of a tiny comparison: page, figures, LaTeX, CSV, TREC runs, and the command."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from baselines.cli import main
from baselines.experiments.comparison import Comparison
from baselines.reporting import writing
from baselines.reporting.latex import escaped

VOID = {"meta", "br", "img", "hr", "input", "link"}
FIGURES = ("differences", "counting", "training", "strata", "alpha")


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


pytestmark = pytest.mark.usefixtures("with_pages")


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return (finished / "report.html").read_text()


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_page_stands_alone_and_is_small(page: str) -> None:
    assert len(page.encode()) < 5 * 2**20
    found = Page(page)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in found.elements}
    assert "://" not in page
    assert "@import" not in page
    links = [*found.all("href"), *found.all("xlink:href")]
    ids = found.all("id")
    assert len(set(ids)) == len(ids)
    assert links
    assert {f"#{name}" for name in ids}.issuperset(map(str, links))


def test_headings_are_in_order_and_tables_can_be_read_aloud(page: str) -> None:
    found = Page(page)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in found.elements
    scopes = [attributes.get("scope") for tag, attributes in found.elements if tag == "th"]
    assert set(scopes) == {"col", "row", "rowgroup"}
    tags = [tag for tag, _ in found.elements]
    assert tags.count("table") == tags.count("caption") > 3
    named = [each for _, each in found.elements if each.get("role") in ("img", "region")]
    assert len(named) > 2 * len(FIGURES)
    assert all(each["aria-label"] for each in named)


def test_the_page_holds_every_row_the_answer_and_the_commands(page: str, finished: Path) -> None:
    comparison = Comparison.read(finished / "comparison.json")
    for row in comparison.rows:
        assert f'<th scope="row">{row.arm}</th>' in page
        assert f"{row.metrics['removed']['N@10'].mean:.4f}"[1:] in page
    assert "alignment" in re.findall(r'<h2 id="answer-title">(.*?)</h2>', page)[0]
    assert f"semid compare --config {finished}/report/compare.yaml" in page
    for text in ("Learning curves", "Who gains", "The teacher&#39;s weight", "Lineage"):
        assert text in page


def test_the_commands_of_the_page_make_the_same_table(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    settings = str(finished / "report" / "compare.yaml")
    assert main(["compare", "--config", settings, "--out", str(again)]) == 0
    rows = [json.loads((out / "comparison.json").read_text())["rows"] for out in (finished, again)]
    assert [one["metrics"] for one in rows[0]] == [one["metrics"] for one in rows[1]]


def test_the_users_of_the_page_are_chosen_by_their_ids_alone(finished: Path, page: str) -> None:
    found = json.loads((finished / "examples.json").read_text())
    lists = pl.read_parquet(finished / "lists.parquet")
    users = lists["user"].unique().to_list()
    by_hash = sorted(users, key=lambda user: hashlib.sha256(str(user).encode()).hexdigest())
    assert [one["user"] for one in found["users"]] == by_hash[:20]
    assert page.count('<details class="user">') == 20
    ids = {int(row): item["id"] for row, item in found["items"].items()}
    hits = 0
    for user in found["users"]:
        for row, listed in user["lists"].items():
            kept = lists.filter(pl.col("user") == user["user"], pl.col("arm") == row)
            assert kept["items"].to_list()[0] == [ids[item] for item in listed]
            assert kept["target"][0] == ids[user["target"]]
            hits += user["target"] in listed
    assert page.count('<span class="mark hit">') == hits > 0


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_kept_in_three_formats(name: str, finished: Path) -> None:
    beginnings = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    for suffix, begins in beginnings.items():
        content = (finished / "report" / "figures" / f"{name}.{suffix}").read_bytes()
        assert content.startswith(begins)


def test_tables_for_spreadsheets_hold_the_numbers_of_the_comparison(finished: Path) -> None:
    comparison = Comparison.read(finished / "comparison.json")
    with (finished / "report" / "rows.csv").open(newline="") as file:
        rows = {(one["row"], one["policy"], one["metric"]): one for one in csv.DictReader(file)}
    for row in comparison.rows:
        for policy, metrics in row.metrics.items():
            for name, value in metrics.items():
                assert float(rows[row.arm, policy, name]["mean"]) == value.mean
    with (finished / "report" / "differences.csv").open(newline="") as file:
        gains = list(csv.DictReader(file))
    measured = {(one["arm"], one["reference"]) for one in gains}
    assert ("Causal ntp, teacher in the beam", "Causal ntp") in measured
    assert {one.arm for one in comparison.differences} <= {arm for arm, _ in measured}
    with (finished / "report" / "training.csv").open(newline="") as file:
        curves = list(csv.DictReader(file))
    state = json.loads((finished / "causal-ntp-0" / "state.json").read_text())
    of_first = [one for one in curves if (one["row"], one["seed"]) == ("Causal ntp", "0")]
    assert [float(one["validation"]) for one in of_first] == [
        epoch["validation"] for epoch in state["history"] if "validation" in epoch
    ]


def test_the_latex_table_compiles(finished: Path, tmp_path: Path) -> None:
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    table = (finished / "report.tex").read_text()
    assert r"\toprule" in table
    assert r"soft\_ce" in table
    if engine is None:
        pytest.skip("no pdflatex or tectonic here")
    names = escaped("\\ ~ ^ & % $ # _ { }")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"{names}\n{table}\n\\end{{document}}\n"
    )
    stop = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run(
        [engine, *stop, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def scored(folder: Path, run: Path) -> dict[str, dict[str, float]]:
    """Recall and NDCG at ten of each query, by trec_eval."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.txt").read_text().splitlines():
        query, _, item, gain = line.split(" ")
        qrels.setdefault(query, {})[item] = int(gain)
    lists: dict[str, dict[str, float]] = {query: {} for query in qrels}
    for line in run.read_text().splitlines():
        query, _, item, _, score, _ = line.split(" ")
        lists[query][item] = float(score)
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"recall.10", "ndcg_cut.10"})
    found: dict[str, dict[str, float]] = evaluator.evaluate(lists)
    return found


def test_the_cost_of_a_comparison_has_its_memory(finished: Path, page: str) -> None:
    settings = json.loads((finished / "comparison.json").read_text())["settings"]
    assert re.fullmatch(r"\d+\.\d\d GiB", settings["peak memory"])
    cost = page[page.index('<section id="cost"') : page.index('<section id="ids"')]
    assert f"Peak memory: {settings['peak memory']}." in cost


def test_trec_eval_finds_the_same_metrics(copied: Path) -> None:
    assert main(["report", str(copied), "--trec"]) == 0
    folder = copied / "report" / "trec"
    per_user = pl.read_parquet(copied / "per_user.parquet").filter(policy="removed")
    compared = 0
    for (arm, seed), ours in per_user.group_by("arm", "seed", maintain_order=True):
        if seed is None:
            continue  # counted scorers tie, and ties are shared out in our metrics
        tag = re.sub(r"[^\w.=+@-]+", "_", str(arm))
        theirs = scored(folder, folder / f"{tag}-{seed}.run")
        for query, (recall, ndcg) in enumerate(zip(ours["R@10"], ours["N@10"], strict=True)):
            values = theirs.get(str(query), {"recall_10": 0.0, "ndcg_cut_10": 0.0})
            assert values["recall_10"] == pytest.approx(recall, abs=1e-9)
            assert values["ndcg_cut_10"] == pytest.approx(ndcg, abs=1e-9)
            compared += 1
    assert compared == 40 * 2 * 6  # users, seeds, and five arms with their teacher


def test_the_command_prints_the_answer_and_says_where_the_page_is(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "report.html").unlink()
    assert main(["report", str(copied)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "alignment" in lines[0]
    assert lines[-1] == f"report: {copied}/report.html"
    assert (copied / "report.html").exists()
    assert main(["report", str(copied), "--wide"]) == 0
    wide = capsys.readouterr().out
    again = ["compare", "--config", f"{copied}/report/compare.yaml", "--out", str(copied)]
    assert main([*again, "--wide", "--quiet"]) == 0
    assert wide in capsys.readouterr().out
    assert main([*again, "--wide", "false", "--quiet"]) == 0, "the folder takes both"
    assert "N@10 by stratum" not in capsys.readouterr().out
    for text in ("Seen items removed", "Seen items kept", "N@10 by stratum"):
        assert text in wide


def test_without_the_packages_of_the_page_one_line_says_how_to_get_it(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report.html", "report.tex"):
        (copied / name).unlink()
    monkeypatch.setattr(writing, "_NEEDED", ("jinja2", "no_such_package"))
    assert main(["report", str(copied)]) == 0
    assert "no report.html: it needs no_such_package: pip install 'semid[report]'" in (
        " ".join(capsys.readouterr().out.split())
    )
    assert not (copied / "report.html").exists()
    assert (copied / "report.tex").exists()


def test_a_folder_of_an_earlier_version_has_a_page_without_users(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("examples.json", "lists.parquet"):
        (copied / name).unlink()
    assert main(["report", str(copied)]) == 0
    assert "kept no lists" in (copied / "report.html").read_text()
    capsys.readouterr()
    assert main(["report", str(copied), "--trec"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Run the same semid compare once more" in line


def test_a_folder_of_no_comparison_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected the folder of a comparison" in line


def test_a_comparison_comes_back_from_its_file(finished: Path, tmp_path: Path) -> None:
    comparison: Any = Comparison.read(finished / "comparison.json")
    comparison.to_json(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (finished / "comparison.json").read_text()
    with pytest.raises(FileNotFoundError, match="no file"):
        Comparison.read(tmp_path / "none.json")
