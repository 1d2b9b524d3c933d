"""Every part from a file of a reader's folder: checked by its contract, trained, compared, used.

The files are those that the pages of docs/ show.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_readme import blocks_of
from test_teacher_and_reader_of_your_own import STAND_IN

from baselines import Recommender, synthetic_dataset, write_plain_layout
from baselines.cli import main
from baselines.testing import (
    check_backbone,
    check_metric,
    check_objective,
    check_reader,
    check_teacher,
)
from semid.ids import SemanticIds
from semid.registry import load_function
from semid.testing import check_collisions, check_tokenizer

DOCS = Path(__file__).parents[1] / "docs"
READER = """
import polars as pl


def load():
    return tuple(pl.read_parquet(f"shop/{table}.parquet") for table in ("items", "interactions"))
"""
TINY = """
teacher_training: {epochs: 1}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
"""
PARTS = [
    *("--data", "my_reader:load", "--teacher.model", "my_adapter:build"),
    *("--tokenizer", "my_scheme:QuantileTokenizer", "--ids.codebook_sizes", "[8,8]"),
    *("--ids.collisions", "my_collisions:lowest_free", "--backbones.settings.dim", "8"),
    *("--evaluation.metrics", "recall,ndcg,my_metrics:Precision"),
]
ARM = "my_backbone:Mine:my_objective:power_loss:0.5"


def shown(page: str, word: str) -> str:
    """The block of Python on a page that holds a word."""
    blocks = blocks_of((DOCS / page).read_text(encoding="utf-8"))
    return next(each.code for each in blocks if each.language == "python" and word in each.code)


FILES = {
    "my_reader.py": READER,
    "my_adapter.py": shown("teachers.md", "# my_adapter.py"),
    "my_scheme.py": shown("ids.md", "class QuantileTokenizer"),
    "my_collisions.py": shown("ids.md", "def lowest_free"),
    "my_objective.py": shown("tca.md", "def power_loss"),
    "my_backbone.py": shown("backbones.md", "class Mine"),
    "my_metrics.py": shown("comparison.md", "class Precision"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, a shop that the reader reads, and a model that the adapter asks."""
    path = tmp_path_factory.mktemp("reader")
    shop = synthetic_dataset(num_users=40, num_items=48, num_categories=4)
    write_plain_layout(shop, path / "shop")
    for name, text in {**FILES, "my_model.py": STAND_IN, "tiny.yaml": TINY}.items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as working directory, whose modules nobody has imported yet."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in ("my_model.py", *FILES):
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    return folder


def test_no_file_is_longer_than_forty_lines_and_an_adapter_has_three() -> None:
    assert all(len(text.splitlines()) <= 40 for text in FILES.values())
    adapter = [line.partition("#")[0].strip() for line in FILES["my_adapter.py"].splitlines()]
    assert len([line for line in adapter if line and "my_model" not in line]) == 3


CHECKS: list[tuple[Callable[[Any], None], str]] = [
    (check_reader, "my_reader:load"),
    (check_teacher, "my_adapter:build"),
    (check_tokenizer, "my_scheme:QuantileTokenizer"),
    (check_collisions, "my_collisions:lowest_free"),
    (check_objective, "my_objective:power_loss"),
    (check_metric, "my_metrics:Precision"),
]


@pytest.mark.parametrize(("check", "part"), CHECKS)
def test_each_keeps_its_contract(check: Callable[[Any], None], part: str, here: Path) -> None:
    check(load_function(part, {}, what="part"))


def test_the_backbone_keeps_its_contract(here: Path) -> None:
    backbone, settings = (
        load_function(f"my_backbone:{name}", {}, what="part") for name in ("Mine", "Settings")
    )
    check_backbone(lambda context: backbone(settings(), context))


def test_one_comparison_of_them_all_resumes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ["--arms", f"my_backbone:Mine:ntp,{ARM}", "--seeds", "0", "--counted", "false"]
    command = ["compare", "--config", "tiny.yaml", "--out", "all", *PARTS, *arms]
    assert main(command) == 0, capsys.readouterr().err
    found = json.loads(Path("all/comparison.json").read_text())
    assert [row["arm"] for row in found["rows"]] == [
        "Popularity",
        "my_adapter:build (teacher)",
        "Mine ntp",
        "Mine+TCA my_objective:power_loss alpha=0.5",
    ]
    ids = SemanticIds.load(Path("all/ids"))
    assert ids.scheme == "my_scheme:QuantileTokenizer"
    assert len({tuple(codes) for codes in ids.codes.tolist()}) == 48
    assert ids.sizes == (8, 8)
    users = pl.read_parquet("all/per_user.parquet")
    assert (users["P@10"] - users["R@10"] / 10).abs().max() < 1e-12

    made = {path: path.stat().st_mtime_ns for path in Path("all").rglob("*.safetensors")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("all").rglob("*.safetensors")} == made


def test_one_model_of_them_all_recommends(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--config", "tiny.yaml", "--out", "model", *PARTS, "--arm", ARM]
    assert main(command) == 0, capsys.readouterr().err
    shop = Recommender.from_pretrained("model", backbone="my_backbone:Mine")
    (best,) = shop.recommend([[12, 7]], k=5).lists
    assert len({each.item_id for each in best} - {12, 7}) == 5
    capsys.readouterr()
    asked = ["--model", "model", "--backbone", "my_backbone:Mine"]
    assert main(["recommend", *asked, "--history", "12,7", "--k", "5", "--out", "best.csv"]) == 0
    assert pl.read_csv("best.csv")["item_id"].to_list() == [each.item_id for each in best]
    assert main(["evaluate", *asked, "--data", "my_reader:load"]) == 0, capsys.readouterr().err
    assert "P@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("loss", "clause"), [("log_p", "scalar"), ("log_p.exp().sum()", "supervised")]
)
def test_an_objective_that_breaks_its_contract_is_refused_by_its_clause(
    loss: str,
    clause: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    Path("broken.py").write_text(
        f"def loss(log_p, slot, p, alpha, supervised):\n    return {loss}\n"
    )
    command = ["train", "--config", "tiny.yaml", "--out", "none", "--data", "shop"]
    assert main([*command, "--arm", "causal:broken:loss:0.5"]) == 2
    err = capsys.readouterr().err
    assert f"loss breaks the contract of objectives, clause {clause!r}" in err
    assert err.count("\n") == 1
    assert not Path("none").exists()
