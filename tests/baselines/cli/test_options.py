"""Options as people write them: lists without brackets, slips, and files that say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baselines.cli import main
from baselines.cli.commands import COMMANDS
from baselines.cli.options import with_first
from baselines.cli.parsing import parser_of, settings_of


def settings(name: str, *argv: str) -> Any:
    command = COMMANDS[name]
    parser = parser_of(command.config, prog="semid", says="")
    return settings_of(parser, command.config, argv, command.second_names)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("semid: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("spelled", ["0,1", "[0,1]", "[0, 1]", "0, 1"])
def test_lists_of_numbers_need_no_brackets(spelled: str) -> None:
    assert settings("compare", "--seeds", spelled).seeds == (0, 1)
    assert settings("compare", f"--seeds={spelled}").seeds == (0, 1)


@pytest.mark.parametrize(
    "spelled", ["tiger:ntp,tiger:soft_ce:0.5", "[tiger:ntp, 'tiger:soft_ce:0.5']"]
)
def test_lists_of_arms_need_no_brackets(spelled: str) -> None:
    assert settings("compare", "--arms", spelled).arms == ("tiger:ntp", "tiger:soft_ce:0.5")


def test_a_list_may_have_one_element_or_none() -> None:
    assert settings("compare", "--arms", "tiger:ntp").arms == ("tiger:ntp",)
    assert settings("compare", "--fusion.arms", "all").fusion.arms == ("all",)
    assert settings("compare", "--fusion.arms", "[]").fusion.arms == ()
    assert settings("build", "--data", "x", "--out", "y", "--ids.codebook_sizes", "256,16").ids == (
        settings("build", "--data", "x", "--out", "y", "--ids.codebook_sizes", "[256,16]").ids
    )


def test_a_comma_is_part_of_a_template() -> None:
    found = settings("lm train", "--data", "x", "--out", "y", "--texts.further", "{title}, {brand}")
    assert found.texts.further == ("{title}, {brand}",)


def test_a_list_of_folders_takes_names_with_brackets() -> None:
    assert settings("inspect", "--ids", "[red]x/ids").ids == ("[red]x/ids",)
    assert settings("inspect", "--ids", '["a", "b"]').ids == ("a", "b")


def test_a_list_may_be_given_first_and_a_single_value_takes_one_word() -> None:
    config = COMMANDS["inspect"].config
    given = with_first(["[a]", "b,c", "--strict"], "ids", config)
    assert settings("inspect", *given).ids == ("[a]", "b,c")
    assert with_first(["--strict"], "ids", config) == ["--strict"]
    assert with_first(["one", "two"], "run", COMMANDS["pick"].config) == ["--run", "one", "two"]


def test_lists_in_a_file_are_yaml_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seeds: [4, 5]\nids: {codebook_sizes: [8, 8]}\narms:\n  - causal:ntp\n")
    found = settings("compare", "--config", str(file), "--seeds", "7")
    assert (found.seeds, found.ids.codebook_sizes, found.arms) == ((7,), (8, 8), ("causal:ntp",))


def test_a_value_may_begin_with_a_dash_and_a_switch_may_stand_alone(tmp_path: Path) -> None:
    assert settings("inspect", "--ids", "-x", "--strict").strict is True
    assert settings("inspect", "--ids", "x", "--strict", "false").strict is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--training.epoch", "3"], "option --training.epoch. Did you mean --training.epochs?"),
        (["--tokeniser", "rqvae"], "option --tokeniser. Did you mean --tokenizer?"),
        (["--xyzzy", "3"], "option --xyzzy. See --help-all for all of them."),
        (["--arms", "tigre:ntp"], "Did you mean tiger?"),
        (["--arms", "tiger:soft_ze:0.5"], "Did you mean soft_ce?"),
        (["--arms", "tiger:ntp:taw=2"], "Did you mean tau?"),
        (["--arms", "tiger@leter:ntp", "--schemes", "{letter: {}}"], "Did you mean letter?"),
        (["--teacher.model", "sasrek"], "Did you mean sasrec?"),
        (["--tokenizer", "rqkmean"], "Did you mean rqkmeans?"),
        (["--split", "leave_one"], "Did you mean leave_one_out?"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert message in refused(capsys, "compare", "--out", str(out), *argv)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epochs: }", "training.epochs must be a whole number, got None"),
        ("evaluation: {beam: }", "evaluation.beam must be a whole number, got None"),
        ("training: 5", "training must be a mapping of settings, got 5"),
        ("training: null", "training must be a mapping of settings, got None"),
        ("arms: null", "arms must be a list, each text, got None"),
        ("seeds: [true]", "seeds must be a list, each a whole number, got"),
        ("schemes: {x: 5}", "schemes must be a mapping, each value a mapping of settings, got"),
        ("schemes: {x: {collisions: }}", "schemes.x.collisions must be text, got None"),
        ("training: {epoch: 3}", "option training.epoch. Did you mean training.epochs?"),
        ("trainin: {epochs: 3}", "option trainin.epochs. Did you mean training.epochs?"),
        ("[1, 2]", "c.yaml"),
        ("training: {epochs: 3", "c.yaml"),
        ("", "c.yaml"),
        ("arms: " + 2000 * "[", "c.yaml"),
        ("backbones: {tiger: {dim: -3}}", "backbones.tiger.dim must be a whole number from 1"),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_cannot_be_meant_is_refused_by_the_name_of_the_option(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    argv = ("compare", "--config", str(file), "--out", str(tmp_path / "out"), "--data", "nowhere")
    assert message in refused(capsys, *argv)
