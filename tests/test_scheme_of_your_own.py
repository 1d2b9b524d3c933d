"""The example of docs/ids.md as a reader does it: a file of theirs, and the console command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import Block, blocks_of, runnable_lines

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from semid.ids import SemanticIds

ROOT = Path(__file__).parents[1]
SEMID = Path(sys.executable).with_name("semid")
TINY = """
seeds: [0]
arms: ["tiger:ntp"]
teacher: {sasrec: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}}
teacher_training: {epochs: 1}
backbones:
  tiger: {num_layers: 1, dim: 8, num_heads: 1, head_dim: 8, ff_dim: 8, max_history: 4}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
resamples: 20
"""
BROKEN = """
from semid import SemanticIdTokenizer


class Unsettled(SemanticIdTokenizer):
    def __init__(self, codebook_sizes=(2,), depth=1):
        self.codebook_sizes = codebook_sizes

    def _fit(self, embeddings, cf_embeddings):
        raise AssertionError("was fitted")

    def _encode(self, embeddings, learned):
        return (embeddings[:, :1] > 0).long()


class Settled(Unsettled):
    def __init__(self, codebook_sizes=(2,)):
        self.codebook_sizes = codebook_sizes

    def _fit(self, embeddings, cf_embeddings):
        return {}


class CountsFromOne(Settled):
    def _encode(self, embeddings, learned):
        return super()._encode(embeddings, learned) + 1


class NumbersRows(Settled):
    def _encode(self, embeddings, learned):
        codes = super()._encode(embeddings, learned)
        codes[::2] = 0
        return codes
"""


def section() -> list[Block]:
    text = (ROOT / "docs" / "ids.md").read_text(encoding="utf-8")
    text = text[text.index("## A scheme of your own") :]
    return blocks_of(text[: text.index("### A scheme that asks for fields")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: nothing of ours in it but what the page shows."""
    path = tmp_path_factory.mktemp("reader")
    write_plain_layout(
        synthetic_dataset(num_users=40, num_items=64, num_categories=4), path / "shop"
    )
    (path / "my_scheme.py").write_text(section()[0].code)
    (path / "broken_schemes.py").write_text(BROKEN)
    (path / "tiny.yaml").write_text(TINY)
    return path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own that finds our packages, but not the reader's folder, on its path."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_commands_of_the_page_run_from_the_readers_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last as a reader runs it; those before it in this process, which is there already."""
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_scheme", raising=False)  # of another test's folder
    (commands,) = (runnable_lines(block.code) for block in section() if block.language == "sh")
    inspected, built, compared = (line.split() for line in commands.splitlines())
    assert [inspected[:2], built[:2], compared[:2]] == [
        ["semid", "inspect"],
        ["semid", "build"],
        ["semid", "compare"],
    ]
    before = set(folder.rglob("*.parquet"))
    assert main(inspected[1:]) == 0
    assert "colliding items" in capsys.readouterr().out
    assert set(folder.rglob("*.parquet")) == before, "inspect writes nothing"

    assert main(built[1:]) == 0
    ids = SemanticIds.load(folder / "ids")
    assert ids.scheme == "my_scheme:QuantileTokenizer"
    assert ids.sizes[:3] == (8, 8, 8)

    done = run([str(SEMID), *compared[1:], "--config", "tiny.yaml"], folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "runs" / "mine" / "comparison.json").read_text())
    assert found["settings"]["ids"].startswith("my_scheme:QuantileTokenizer")


def test_the_scheme_of_the_page_passes_the_check_of_the_page(folder: Path) -> None:
    check = section()[1]
    assert "check_tokenizer(QuantileTokenizer)" in check.code
    program = f"import sys; sys.path.append('.')\n{check.code}"
    done = run([sys.executable, "-c", program], folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        ("Unsettled", r"Unsettled breaks .* clause 'settings': .* 'depth'"),
        ("CountsFromOne", r"clause 'range': codes at level 0 must lie in \[0, 2\), got 2"),
        ("NumbersRows", "clause 'row order': .* from the item's own embedding"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused_with_its_clause(
    scheme: str,
    says: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    command = ["build", "--data", "shop", "--out", "out", "--ids.codebook_sizes", "[2]"]
    assert main([*command, "--tokenizer", f"broken_schemes:{scheme}"]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert said.count("\n") == 1
    assert not (folder / "out").exists()
