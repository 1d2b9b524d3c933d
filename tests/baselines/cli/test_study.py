"""Studies: runs listed in a file, each done once, and the table of their results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from baselines.cli import main
from baselines.experiments.study import StudyPlan, StudyRun, validation_table

STUDIES = Path(__file__).parents[3] / "studies"
TINY: dict[str, Any] = {
    "title": "A tiny study",
    "budget_hours": 2,
    "defaults": {
        "compare": {
            "data": "synthetic:60x40",
            "seeds": [0],
            "ids": {"codebook_sizes": [4, 4]},
            "teacher": {"sasrec": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}},
            "teacher_training": {"epochs": 1},
            "backbones": {"causal": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}},
            "training": {"epochs": 2},
            "evaluation": {"beam": 20, "validation_beam": 5, "validation_targets": 20},
            "counted": False,
        },
    },
    "runs": {
        "plain": {"command": "compare", "hours": 0.5, "options": {"arms": ["causal:ntp"]}},
        "knn": {
            "command": "teacher train",
            "hours": 0.25,
            "options": {"data": "synthetic:60x40", "teacher": {"model": "itemknn"}},
        },
    },
}
OWN_TABLE = """
def counted(plan, finished):
    rows = [row["arm"] for record in finished.values() for row in record["result"]["rows"]]
    return f"{plan.title}: {', '.join(rows)}"
"""


def write(plan: dict[str, Any], **changes: Any) -> None:
    Path("studies").mkdir(exist_ok=True)
    Path("studies/tiny.yaml").write_text(yaml.safe_dump({**plan, **changes}, sort_keys=False))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write(TINY)
        assert main(["study", "tiny", "--quiet"]) == 0
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study, without the output of its runs, as in a fresh clone."""
    shutil.copytree(finished / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"studies/tiny/{name}.json").read_text())
    return found


def test_results_are_those_of_the_commands(finished: Path, here: Path) -> None:
    comparison = json.loads((finished / "runs/studies/tiny/plain/comparison.json").read_text())
    assert result("plain")["result"] == comparison
    (knn,) = result("knn")["result"]["rows"]
    assert knn["arm"] == "item-kNN"
    table = Path("studies/tiny/table.md").read_text()
    for name, row in [("plain", comparison["rows"][-1]), ("knn", knn)]:
        shown = [f"{row['metrics']['removed'][m]['mean']:.4f}" for m in ("R@10", "N@10")]
        assert f"| {name} | {row['arm']} | 1 | {', '.join(shown)} |" in table


def test_gains_are_those_of_the_comparison(here: Path) -> None:
    write(TINY, table="gains")
    assert main(["study", "tiny"]) == 0
    table = Path("studies/tiny/table.md").read_text()
    measured = result("plain")["result"]["differences"]
    found = {one["metric"]: one for one in measured if one["policy"] == "removed"}
    arm, teacher = found["N@10"]["arm"], found["N@10"]["reference"]
    cells = [
        f"{found[m]['mean']:+.4f} [{found[m]['low']:+.4f}, {found[m]['high']:+.4f}] "
        f"({found[m]['p_holm']:.4f})"
        for m in ("R@10", "N@10")
    ]
    line = f"| plain | {arm} | {teacher} | {' | '.join(cells)} |"
    assert line.replace("0.", ".").replace("(.0000)", "(< .0001)") in table


def test_a_finished_run_is_not_done_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = result("plain")
    assert main(["study", "studies/tiny.yaml"]) == 0
    assert result("plain") == before
    assert not list(Path("runs/studies/tiny").glob("*/"))
    assert "A tiny study" in capsys.readouterr().out


def test_only_the_chosen_run_is_done(here: Path) -> None:
    for name in ("plain", "knn"):
        Path(f"studies/tiny/{name}.json").unlink()
    assert main(["study", "tiny", "--runs", "knn"]) == 0
    assert sorted(path.name for path in Path("studies/tiny").iterdir()) == ["knn.json", "table.md"]
    assert main(["study", "tiny", "--runs", "knn,plain"]) == 0
    assert Path("studies/tiny/plain.json").exists()


def test_the_plan_is_printed_and_nothing_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("studies/tiny/plain.json").unlink()
    assert main(["study", "tiny", "--plan"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["plain", "compare", "0.50", "open"] in lines
    assert ["in", "all", "0.75", f"{result('knn')['hours']:.2f}"] in lines
    assert not Path("studies/tiny/plain.json").exists()
    assert not Path("runs").exists()


def test_a_search_shows_validation_and_no_test_figure(here: Path) -> None:
    write(TINY, table="validation")
    assert main(["study", "tiny"]) == 0
    table = Path("studies/tiny/table.md").read_text()
    for row in result("plain")["result"]["rows"]:
        (notes,) = row["evaluations"]
        if "validation_N@10" in notes:
            assert f"| {row['arm']} | 0 | N@10 | {notes['validation_N@10']:.4f} |" in table
        assert f"{row['metrics']['removed']['R@10']['mean']:.4f}" not in table


def test_a_teacher_that_stays_the_same_stands_once(here: Path) -> None:
    plain, other = result("plain"), result("plain")
    (other["result"]["rows"][1]["evaluations"][0])["validation_N@10"] = 0.5
    runs = {"plain": plain, "same": plain, "other": other}
    plan = StudyPlan(title="A search", runs={"plain": StudyRun(command="compare", hours=1)})
    lines = validation_table(plan, runs).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in lines if " N@10 " in line]
    teacher = f"{plain['result']['rows'][1]['evaluations'][0]['validation_N@10']:.4f}"
    assert [row for row in rows if "(teacher)" in row[1]] == [
        ["plain", "SASRec ce (teacher)", "0", "N@10", teacher],
        ["other", "SASRec ce (teacher)", "0", "N@10", "0.5000"],
    ]
    assert [row[0] for row in rows if row[1] == "Causal ntp"] == ["plain", "same", "other"]


def test_a_table_of_your_own(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "own_study_table.py").write_text(OWN_TABLE)
    write(TINY, table="own_study_table:counted")
    assert main(["study", "tiny"]) == 0
    table = Path("studies/tiny/table.md").read_text()
    assert table == "A tiny study: Popularity, SASRec ce (teacher), Causal ntp, item-kNN"


def test_a_run_after_another_ranks_its_models_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    prior = {"evaluation": {"prior": 0.7}}
    options = {"arms": ["causal:ntp"], **prior}
    more = {
        "again": {"command": "compare", "hours": 0.1, "after": "plain", "options": prior},
        "once-more": {"command": "compare", "hours": 0.1, "after": "again"},
        "anew": {"command": "compare", "hours": 0.1, "options": options},
    }
    write(TINY, runs={**TINY["runs"], **more})
    trained = Path("runs/studies/tiny/plain/causal-ntp-0/model.safetensors")
    written = trained.stat().st_mtime_ns
    assert main(["study", "tiny", "--quiet"]) == 0
    assert trained.stat().st_mtime_ns == written
    folders = sorted(path.name for path in Path("runs/studies/tiny").iterdir())
    assert folders == ["anew", "knn", "plain"]
    plain, again, once_more, anew = map(result, ("plain", "again", "once-more", "anew"))
    assert again["options"] == anew["options"] == once_more["options"]
    found = [each["result"]["rows"][-1]["metrics"] for each in (plain, again, once_more, anew)]
    assert found[1] == found[2] == found[3] != found[0]


def _with_options(run: str, **options: Any) -> dict[str, Any]:
    runs = json.loads(json.dumps(TINY["runs"]))
    runs[run]["options"] |= options
    return {"runs": runs}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (_with_options("plain", seeds=[1]), "studies/tiny/plain.json is the result of other"),
        (_with_options("knn", dat="x"), "run knn: "),
        (_with_options("knn", out="x"), "may not name out"),
        ({"runs": {}}, "at least one run"),
        ({"runs": {"a/b": TINY["runs"]["knn"]}}, "names of letters"),
        ({"runs": {"x": {"command": "recommend", "hours": 1}}}, "command must be one of"),
        ({"runs": {"x": {"command": "compare", "hours": -1}}}, "hours"),
        ({"runs": {"x": {"command": "compare"}}}, "hours"),
        ({"runs": {"x": {**TINY["runs"]["plain"], "after": "y"}}}, "compare run above x, got 'y'"),
        (
            {"runs": {**TINY["runs"], "x": {"command": "compare", "hours": 1, "after": "knn"}}},
            "compare run above x, got 'knn'",
        ),
        ({"budget": 3}, "budget"),
        ({"table": "nowhere:table"}, "nowhere"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    changes: dict[str, Any], named: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(TINY, **changes)
    assert main(["study", "tiny"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "\xff"])
def test_a_file_that_is_no_study_is_refused(
    content: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("studies/tiny.yaml").write_bytes(content.encode("latin-1"))
    assert main(["study", "tiny"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "studies/tiny.yaml" in line


def test_no_run_beyond_the_budget(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies/tiny/plain.json").unlink()
    write(TINY, budget_hours=0.4)
    assert main(["study", "tiny"]) == 2
    assert "plain is planned at 0.5 hours" in capsys.readouterr().err
    assert not Path("studies/tiny/plain.json").exists()


def test_a_changed_result_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("studies/tiny/plain.json")
    path.write_text(path.read_text().replace('"hours": ', '"hours": 1'))
    assert main(["study", "tiny"]) == 2
    assert "studies/tiny/plain.json" in capsys.readouterr().err


def test_a_result_without_its_seal_is_computed_again(here: Path) -> None:
    path = Path("studies/tiny/knn.json")
    (before,) = result("knn")["result"]["rows"]
    path.write_text("{}")
    assert main(["study", "tiny", "--runs", "knn"]) == 0
    (after,) = result("knn")["result"]["rows"]
    assert after["metrics"] == before["metrics"]


@pytest.mark.slow
def test_several_processes_do_a_run_together(here: Path) -> None:
    before = result("plain")["result"]["rows"]
    Path("studies/tiny/plain.json").unlink()
    programs = Path(sys.executable).parent
    command = [programs / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*command, programs / "semid", "study", "tiny", "--quiet"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    after = result("plain")["result"]["rows"]
    assert [row["arm"] for row in after] == [row["arm"] for row in before]
    assert after[0]["metrics"] == before[0]["metrics"]  # Popularity: nothing is trained


def test_an_unknown_run_or_study_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "tiny", "--runs", "plane"]) == 2
    assert main(["study", "nothing"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "'plane'" in first
    assert "studies/nothing.yaml" in second


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_committed_studies_are_valid_within_their_budgets(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(path), "--plan"]) == 0
    plan = yaml.safe_load(path.read_text())
    search = plan.get("search", {"trials": 0, "hours": 0})
    hours = sum(run["hours"] for run in plan.get("runs", {}).values())
    assert hours + search["trials"] * search["hours"] <= plan["budget_hours"]


@pytest.mark.parametrize("name", ["alpha", "ablation", "teacher", "backbone", "ids", "sample"])
def test_a_study_that_shows_test_targets_has_two_seeds_of_each_run(name: str) -> None:
    plan = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    shared = plan["defaults"]["compare"]["seeds"]
    for run in plan["runs"].values():
        assert len(run["options"].get("seeds", shared)) >= 2


def test_curves_are_those_of_the_comparison(here: Path) -> None:
    write(TINY, table="curves")
    assert main(["study", "tiny"]) == 0
    table = Path("studies/tiny/table.md").read_text()
    row = result("plain")["result"]["rows"][-1]
    (notes,) = row["evaluations"]
    values = [row["metrics"]["removed"][name]["mean"] for name in ("R@10", "N@10")]
    cells = [f"{value:.4f}" for value in (*values, notes["agreement"]["top-1"])]
    cost = f"{notes['epochs']} | {row['train_seconds']:.0f} |"
    line = f"| plain | {row['arm']} | 1 | {' | '.join(cells)} | {cost}"
    assert line.replace("0.", ".") in table
    assert f"| plain | {result('plain')['result']['rows'][0]['arm']} | 1 | " in table
