"""A collision strategy from outside: the page's example, its contract, and each way to break it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from semid.collisions import STRATEGIES, load_strategies, resolve_collisions
from semid.ids import SemanticIds
from semid.testing import ContractError, check_collisions

PAGE = (Path(__file__).parents[2] / "docs" / "ids.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder with the example of the page."""
    section = PAGE[PAGE.index("### A strategy of your own") : PAGE.index("## New items")]
    example, check = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(example.splitlines()) <= 40
    (tmp_path / "my_collisions.py").write_text(example)
    (tmp_path / "check.py").write_text(check)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_collisions", raising=False)
    return tmp_path


def test_the_strategy_of_the_page_passes_the_check_of_the_page(folder: Path) -> None:
    exec((folder / "check.py").read_text(), {})


def test_the_strategy_of_the_page_builds_and_extends_ids(folder: Path) -> None:
    dataset = synthetic_dataset(num_users=40, num_items=64, num_categories=4)
    write_plain_layout(dataset, folder / "shop")
    build = ["build", "--data", "shop", "--out", "ids", "--ids.codebook_sizes", "[8,16]"]
    assert main([*build, "--ids.collisions", "my_collisions:lowest_free"]) == 0
    ids = SemanticIds.load("ids")
    assert ids.sizes == (8, 16)
    assert len(torch.unique(ids.codes, dim=0)) == 64
    made = ids.provenance.config["collisions"]
    assert (made["strategy"], made["left"]) == ("my_collisions:lowest_free", 0)
    assert made["colliding_items"] > made["moved"] > 0


def test_one_from_outside_is_joined_with_others(folder: Path) -> None:
    codes = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]])
    found = resolve_collisions(codes, (2, 3), "my_collisions:lowest_free+extra_level")
    assert found.codes.tolist() == [[0, 0], [0, 1], [1, 1], [1, 0], [0, 2]]
    assert found.sizes == (2, 3)
    few = resolve_collisions(codes, (2, 3), "keep+my_collisions:lowest_free", taken=codes[:1])
    assert few.codes.tolist() == [[0, 1], [0, 2], [1, 1], [1, 0], [1, 2]]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_those_that_ship_keep_the_contract(name: str) -> None:
    if name == "extra_level":
        return check_collisions(_without_extra)
    (strategy,) = load_strategies(name).values()
    check_collisions(strategy)


def _without_extra(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    return load_strategies("extra_level")["extra_level"](codes, sizes, costs, taken)


def _writes(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    codes[0] = 0
    return codes, sizes


def _moves_all(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    return (codes + 1) % torch.tensor(sizes), sizes


def _grows(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    return codes, (*sizes[:-1], sizes[-1] + 1)


def _needs_costs(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    costs(torch.arange(len(codes)), codes[:, :0])
    return codes, sizes


def _draws(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    torch.rand(1)
    return codes, sizes


def _appends_to_old(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    return torch.cat([codes, codes[:, :1] * 0], dim=1), (*sizes, 1)


def _takes_what_is_taken(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
    codes = codes.clone()
    held = {tuple(path) for path in taken.tolist()}
    for row, path in enumerate(codes.tolist()):
        if tuple(path) in held:
            codes[row] = taken[-1] if path != taken[-1].tolist() else taken[0]
    return codes, sizes


@pytest.mark.parametrize(
    ("strategy", "clause"),
    [
        (lambda codes, sizes, costs, taken: codes, "result"),
        (lambda codes, sizes: (codes, sizes), "call"),
        (lambda codes, sizes, costs, taken: (codes.float(), sizes), "dtype"),
        (lambda codes, sizes, costs, taken: (codes[:, :1], sizes), "shape"),
        (lambda codes, sizes, costs, taken: (codes * 0 + 4, sizes), "range"),
        (_grows, "sizes"),
        (_appends_to_old, "sizes"),
        (_writes, "inputs untouched"),
        (_draws, "global randomness"),
        (_needs_costs, "call"),
        (_moves_all, "others stay"),
        (_takes_what_is_taken, "taken"),
    ],
)
def test_a_broken_clause_is_named(strategy: Callable[..., Any], clause: str) -> None:
    with pytest.raises(ContractError, match="contract of collision strategies") as raised:
        check_collisions(strategy)
    assert raised.value.clause == clause


def test_chance_is_a_broken_clause() -> None:
    generator = np.random.default_rng(0)

    def chance(codes: Any, sizes: Any, costs: Any, taken: Any) -> Any:
        codes, paths = codes.clone(), codes.tolist()
        for row, path in enumerate(paths):
            if paths.count(path) > 1:
                codes[row, 1] = int(generator.integers(sizes[1]))
        return codes, sizes

    with pytest.raises(ContractError) as raised:
        check_collisions(chance)
    assert raised.value.clause == "determinism"


def test_bad_strategies_are_one_line_from_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain_layout(synthetic_dataset(num_users=9, num_items=32, num_categories=4), "shop")
    (folder / "bad.py").write_text("def fewer(codes, sizes, costs, taken): return codes[1:], sizes")
    build = ["build", "--data", "shop", "--out", "ids", "--ids.collisions"]
    for strategy, says in (
        ("bad:fewer", r"bad:fewer breaks the contract of collision strategies, clause 'shape'"),
        ("bad:none", "expected an importable collision strategy package.module:function"),
        ("nextnearest", "expected a collision strategy out of .* Did you mean next_nearest"),
        ("keep+keep", "expected each collision strategy once"),
    ):
        assert main([*build, strategy]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert re.search(says, said), said
    assert not Path("ids").exists()
