"""The examples of docs/teachers.md and docs/data.md as a reader does them: files of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import blocks_of, runnable_lines

from baselines.cli import main
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.folder import ComparisonFolder

ROOT = Path(__file__).parents[1]
MODULES = ("my_teachers", "my_adapter", "my_model", "my_data")
STAND_IN = """
import numpy as np
import polars as pl

item_ids = pl.read_parquet("shop/items.parquet")["item_id"].to_list()


class ImplicitStandIn:
    # Recommends by summed rows of a matrix, best first, as models of implicit do.
    def recommend(self, userid, user_items, N, filter_already_liked_items, recalculate_user):
        assert recalculate_user and not filter_already_liked_items
        similarity = np.random.default_rng(0).random((len(item_ids), len(item_ids)))
        scores = user_items.toarray() @ similarity
        items = np.argsort(-scores, axis=1, kind="stable")[:, :N]
        return items, np.take_along_axis(scores, items, axis=1)


model = ImplicitStandIn()
"""
TINY = """
seeds: [0]
arms: ["tiger:soft_ce:0.5"]
ids: {scheme: random, codebook_sizes: [4, 4]}
teacher_training: {epochs: 1}
backbones:
  tiger: {num_layers: 1, dim: 8, num_heads: 1, head_dim: 8, ff_dim: 8, max_history: 4}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
resamples: 20
"""


def code_of(page: str, heading: str) -> list[tuple[str, str]]:
    """Language and code of the blocks of a section."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text[text.index(f"## {heading}\n") :]
    following = section.find("\n## ", 3)
    return [(block.language, block.code) for block in blocks_of(section[:following])]


SECTIONS = {
    "class": code_of("teachers.md", "A teacher of your own"),
    "function": code_of("teachers.md", "Models of other libraries"),
    "reader": code_of("data.md", "A reader of your own"),
}
FILES = {
    code.partition("\n")[0].removeprefix("# "): code
    for blocks in SECTIONS.values()
    for language, code in blocks
    if language == "python" and code.startswith("# my_")
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: a shop, a model, and what the pages show."""
    path = tmp_path_factory.mktemp("reader")
    write_plain_layout(
        synthetic_dataset(num_users=40, num_items=64, num_categories=4), path / "shop"
    )
    for name, code in {**FILES, "my_model.py": STAND_IN, "tiny.yaml": TINY}.items():
        (path / name).write_text(code)
    orders = [
        {"customer": f"c{user}", "skus": [f"s{(user + day) % 12}"], "date": f"2024-03-{day + 1:02}"}
        for user in range(9)
        for day in range(5)
    ]
    products = [{"sku": f"s{number}", "name": f"Thing {number}"} for number in range(12)]
    (path / "orders.json").write_text(json.dumps({"products": products, "orders": orders}))
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as working directory, whose modules nobody has imported yet."""
    monkeypatch.chdir(folder)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def commands_of(section: str) -> list[list[str]]:
    (script,) = (runnable_lines(code) for language, code in SECTIONS[section] if language == "sh")
    return [line.split() for line in script.splitlines()]


def test_the_pages_show_files_of_at_most_forty_lines() -> None:
    assert set(FILES) == {"my_teachers.py", "my_adapter.py", "my_data.py"}
    assert all(len(code.splitlines()) <= 40 for code in FILES.values())


@pytest.mark.parametrize(
    ("section", "shown"),
    [("class", "Last item"), ("function", "my_adapter:build"), ("reader", "item-kNN")],
)
def test_the_commands_of_the_pages_run(
    section: str, shown: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((program, *command),) = commands_of(section)
    assert [program, *command[:2]] == ["semid", "teacher", "train"]
    assert main(command) == 0
    assert shown in capsys.readouterr().out


def test_what_the_pages_show_passes_the_checks_of_the_pages(folder: Path) -> None:
    checks = [
        code
        for section in ("class", "reader")
        for language, code in SECTIONS[section]
        if language == "python" and "baselines.testing" in code
    ]
    assert len(checks) == 2
    of_function = "from my_adapter import build\ncheck_teacher(build, dataset=load_dataset('shop'))"
    program = "\n".join(["from baselines.data.loading import load_dataset", *checks, of_function])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), "."])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("teacher", "row"),
    [("my_adapter:build", "my_adapter:build (teacher)"), ("my_teachers:LastItem", "Last item")],
)
def test_a_comparison_learns_from_a_teacher_of_ones_own(
    teacher: str, row: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = here / "runs" / teacher.partition(":")[0]
    command = ["compare", "--config", "tiny.yaml", "--data", "shop", "--out", str(out)]
    assert main([*command, "--teacher.model", teacher]) == 0, capsys.readouterr().err
    assert row in (out / "comparison.md").read_text()
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main([*command, "--teacher.model", teacher]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == made


def test_a_comparison_on_a_reader_is_that_of_its_folder(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain_layout(synthetic_dataset(num_users=40, num_items=40, num_categories=4), "same")
    (here / "my_tables.py").write_text(
        "import polars as pl\n\n\ndef load():\n"
        "    return tuple(pl.read_parquet(f'same/{t}.parquet') for t in ('items', 'interactions'))"
    )
    for data, out in (("same", "of_folder"), ("my_tables:load", "of_reader")):
        command = ["compare", "--config", "tiny.yaml", "--data", data, "--out", out]
        assert main([*command, "--arms", "tiger:ntp"]) == 0, capsys.readouterr().err
    records = [json.loads(Path(out, "data.json").read_text()) for out in ("of_folder", "of_reader")]
    for record in records:
        del record["name"], record["seal"]
    assert records[0] == records[1]
    with pytest.raises(ValueError, match="because a file names it"):
        _ = ComparisonFolder.read("of_reader").dataset


def test_a_teacher_from_outside_is_exported_where_the_caller_names_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["teacher", "train", "--data", "shop", "--out", "exported", "--training.epochs", "1"]
    assert main([*train, "--teacher.model", "my_teachers:LastItem"]) == 0
    export = ["teacher", "export", "--data", "shop", "--teachers", "exported", "--out", "vectors"]
    capsys.readouterr()
    assert main(export) == 2
    said = capsys.readouterr().err
    assert "'my_teachers:LastItem'; code is not run merely because a file names it" in said
    assert said.count("\n") == 1
    assert main([*export, "--model", "my_teachers:LastItem"]) == 0
    assert len(load_dataset("shop").catalog) == 64
    assert "64 item vectors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--teacher.model", "my_adapter"], "or package.module:Name, got 'my_adapter'"),
        (["--teacher.model", "my_adapter:bild"], "has no attribute 'bild'"),
        (["--teacher.model", "nowhere_to_be:found"], "No module named 'nowhere_to_be'"),
        (["--teacher.model", "semid.trie:CodeTrie"], "expected a subclass of"),
        (["--teacher.model", "my_adapter:build", "--teacher.settings.x", "1"], "argument 'x'"),
        (["--teacher.settings.x", "1"], "teacher.settings are for custom teachers"),
        (["--teacher.model", "hybrid", "--teacher.hybrid.cf", "hybrid"], "teacher.hybrid.cf must"),
        (["--data", "my_data:lode"], "has no attribute 'lode'"),
        (["--data", "json:dumps"], "missing 1 required positional argument"),
    ],
)
def test_names_that_lead_nowhere_are_refused_in_one_line(
    options: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [] if "--data" in options else ["--data", "shop"]
    assert main(["teacher", "train", "--out", "nothing", *data, *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not Path("nothing").exists()
