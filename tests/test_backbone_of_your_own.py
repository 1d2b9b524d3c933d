"""The example of docs/backbones.md as a reader does it: a file of theirs, and the commands."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import blocks_of, runnable_lines

from baselines import Recommender, synthetic_dataset, write_plain_layout
from baselines.cli import main

ROOT = Path(__file__).parents[1]
BLOCKS = blocks_of((ROOT / "docs" / "backbones.md").read_text(encoding="utf-8"))
EXAMPLE, CHECK, USE = (block.code for block in BLOCKS if block.language == "python")
COMMANDS = [
    shlex.split(line)[1:]
    for block in BLOCKS
    if block.language == "sh"
    for line in runnable_lines(block.code).splitlines()
]
TINY = """
ids: {scheme: random, codebook_sizes: [4, 4]}
teacher_training: {epochs: 1}
backbones: {causal: {max_history: 4, encoder: {num_layers: 1, dim: 8, num_heads: 1, ff_dim: 8}}}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
"""
ONE_SEED = ["--seeds", "0", "--resamples", "20"]
BROKEN = """
import dataclasses

from baselines import CodeBackbone
from my_backbone import Mine


class NoStart(CodeBackbone):
    label, config_class, max_history = "No start", Mine.config_class, 3

    def forward(self, batch, at):
        return None


class NoName(Mine):
    label = None


class Namesake(Mine):
    label = "Causal"


class NoSettings(Mine):
    config_class = dict


class Peeks(Mine):
    def forward(self, batch, at):
        return super().forward(batch, at) + batch.target_items[at.target, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Even:
    dim: int = 2

    def __post_init__(self):
        if self.dim % 2:
            raise ValueError(f"dim must be even, got {self.dim}")


class Picky(Mine):
    config_class = Even


class Taught(Mine):
    label, needs_teacher = "Taught", True

    def __init__(self, config, context):
        assert context.teacher is not None
        super().__init__(config, context)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: a shop, the file of the page, and classes that are none."""
    path = tmp_path_factory.mktemp("reader")
    shop = synthetic_dataset(num_users=40, num_items=64, num_categories=4)
    write_plain_layout(shop, path / "shop")
    files = {"my_backbone.py": EXAMPLE, "broken_backbones.py": BROKEN, "tiny.yaml": TINY}
    for name, text in files.items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as working directory, whose modules nobody has imported yet."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in ("my_backbone", "broken_backbones"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def small(command: list[str]) -> list[str]:
    """A command of the page, tiny."""
    verb, *options = command
    only = {"train": ["--config", "tiny.yaml"], "compare": ["--config", "tiny.yaml", *ONE_SEED]}
    return [verb, *only.get(verb, []), *options]


def test_the_page_shows_a_file_of_at_most_forty_lines() -> None:
    assert len(EXAMPLE.splitlines()) <= 40


def test_the_commands_of_the_page_run_and_the_model_recommends(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [command[0] for command in COMMANDS] == ["train", "compare", "recommend", "pick"]
    for command in COMMANDS:
        assert main(small(command)) == 0, capsys.readouterr().err
    rows = json.loads(Path("runs/mine/comparison.json").read_text())["rows"]
    assert [row["arm"] for row in rows if "Mine" in row["arm"]] == [
        "Mine ntp",
        "Mine+TCA soft_ce alpha=0.5",
    ]
    weights = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.safetensors")}
    assert Path("runs/mine/my_backbone.Mine-ntp-0/model.safetensors") in weights
    assert main(small(COMMANDS[1])) == 0
    assert {
        path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.safetensors")
    } == weights

    capsys.readouterr()
    assert main(["pick", "runs/mine", "--out", "models/nothing"]) == 2
    err = capsys.readouterr().err
    assert "'my_backbone:Mine'; code is not run merely because a file names it" in err
    assert err.count("\n") == 1

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), "."])}
    program = [sys.executable, "-c", f"{CHECK}\n{USE}"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3

    trained, arm, picked = (
        Recommender.from_pretrained(model, backbone="my_backbone:Mine")
        for model in ("models/mine", "runs/mine/my_backbone.Mine-ntp-0", "models/best")
    )
    assert trained.recommend([[12, 7]]).lists == arm.recommend([[12, 7]]).lists
    assert picked.recommend([[12, 7]]).lists == arm.recommend([[12, 7]]).lists
    assert trained.model.spec.config.dim == 16
    with pytest.raises(ValueError, match="not run merely because a file names it"):
        Recommender.from_pretrained("models/mine")


def test_settings_are_a_part_of_what_a_model_is_made_from(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", "shop", "--out", "one", "--arm", "my_backbone:Mine:ntp"]
    assert main(small([*command, "--backbones.settings.dim", "8"])) == 0
    lineage = json.loads(Path("one/provenance.json").read_text())["config"]
    assert (lineage["backbone"], lineage["shape"]) == ("my_backbone:Mine", {"dim": 8})
    capsys.readouterr()
    assert main(small([*command, "--backbones.settings.dim", "12"])) == 2
    assert "backbones" in capsys.readouterr().err


def test_one_that_reads_a_teacher_gets_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--data", "shop", "--out", "taught", "--arm", "broken_backbones:Taught:ntp"]
    assert main(small(command)) == 0, capsys.readouterr().err
    shop = Recommender.from_pretrained("taught", backbone="broken_backbones:Taught")
    assert len(shop.recommend([[12, 7]], k=3)[0]) == 3


def test_two_backbones_of_one_label_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--arms", "causal:ntp,broken_backbones:Namesake:ntp"]
    assert main(small(["compare", "--data", "shop", "--out", "nothing", *arms])) == 2
    assert "got 'Causal' of causal and broken_backbones:Namesake" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arm", "nowhere:Mine:ntp"], "No module named 'nowhere'"),
        (["--arm", "my_backbone:Thine:ntp"], "has no attribute 'Thine'"),
        (["--arm", "my_backbone:Settings:ntp"], "expected a subclass of"),
        (["--arm", "broken_backbones:NoStart:ntp"], "without start. Write it."),
        (["--arm", "broken_backbones:NoName:ntp"], "NoName to set label"),
        (["--arm", "broken_backbones:NoSettings:ntp"], "NoSettings to set config_class"),
        (["--arm", "broken_backbones:Peeks:ntp"], "Peeks breaks the contract of backbones, clause"),
        (["--arm", "my_backbone:Mine:ntp", "--backbones.settings.dum", "1"], "argument 'dum'"),
        (["--arm", "my_backbone:Mine:ntp", "--backbones.settings.dim", "x"], "dim must be a whole"),
        (["--arm", "my_backbone:Mine:ntp", "--backbones.settings.dim", "-1"], "clause 'build'"),
        (["--arm", "broken_backbones:Picky:ntp", "--backbones.settings.dim", "3"], "must be even"),
        (["--arm", "causal:ntp", "--backbones.settings.dim", "1"], "a backbone of your own"),
    ],
)
def test_what_is_no_backbone_is_refused_in_one_line(
    options: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(["train", "--data", "shop", "--out", "nothing", *options])) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not Path("nothing").exists()
