"""Bad input: one line on standard error, exit code 2, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.cli import main

COMPARE = ["compare", "--config", "tiny.yaml", "--out", "out"]
EXPORT = ["teacher", "export", "--data", "shop", "--teachers", "none", "--out", "out"]
TRAIN = ["teacher", "train", "--data", "shop", "--out", "out", "--teacher.model", "hybrid"]
LM = ["lm", "train", "--data", "shop", "--out", "out"]
BUILD = ["build", "--data", "shop", "--out", "out"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "expected a command out of build, inspect, teacher train"),
        (["bild"], "got bild. Did you mean build?"),
        ([*COMPARE, "--arm", "x"], "unrecognized option --arm. Did you mean --arms?"),
        ([*COMPARE, "x"], "unrecognized argument 'x'"),
        ([*COMPARE, "--seeds"], "--seeds needs a value"),
        (["build", "--out", "out"], "required: data"),
        ([*COMPARE, "--seeds", "[a]"], "seeds must be a list, each a whole number, got"),
        (["compare", "--config", "none.yaml"], "File does not exist"),
        (["compare", "--config", "broken.yaml"], "Problems parsing config"),
        ([*COMPARE, "--data", "nowhere"], "no folder nowhere"),
        ([*COMPARE, "--data", "broken_items"], "items.parquet cannot be read: "),
        ([*COMPARE, "--data", "broken_interactions"], "interactions.parquet cannot be read"),
        ([*COMPARE, "--data", "unnamed_items"], "items.parquet has no column item_id"),
        ([*COMPARE, "--data", "unnamed_interactions"], "has no column item_id"),
        ([*COMPARE, "--split", "windows"], "expected one file train"),
        (
            [*COMPARE, "--arms", "[tigre:ntp]"],
            "expected an arm backbone[@scheme]:obj",
        ),
        ([*COMPARE, "--arms", "[tiger:soft_ce:1.5]"], "alpha must be a number of at least 0"),
        ([*COMPARE, "--seeds", "[0,0]"], "expected every seed once"),
        ([*COMPARE, "--temperature", "0"], "temperature must be a number of at least 1e-06"),
        ([*COMPARE, "--ids.scheme", "kmean"], "expected a tokenizer out of"),
        ([*COMPARE, "--ids.scheme", "file:codes_of_others.json"], "file of another catalogue"),
        ([*BUILD, "--ids.scheme", "file:none.json"], "which does not exist"),
        ([*BUILD, "--ids.scheme", "file:codes.parquet"], "codes.parquet cannot be read"),
        ([*BUILD, "--ids.settings", "{depth: 3}"], "expected settings of rqkmeans"),
        ([*BUILD, "--ids.codebook_sizes", "[0]"], "must be a whole number from 1"),
        ([*BUILD, "--ids.template", "{colour}"], "must name columns in braces"),
        ([*BUILD, "--ids.embeddings", "none.npy"], "which is not there"),
        (["build", "--data", "shop", "--out", "shop"], "holds other files"),
        ([*BUILD, "--tokenizer", "no_such_file:Scheme"], "No module named 'no_such_file'"),
        ([*BUILD, "--tokenizer", "unreadable:Scheme"], "unreadable.py, line 1"),
        ([*BUILD, "--tokenizer", "rqkmeans", "--ids.codebook_sizes", "[64]"], "at most 32"),
        ([*BUILD, "--tokenizer", "rqkmeans", "--ids.embeddings", "same.npy"], "1 distinct"),
        ([*BUILD, "--tokenizer", "rqvae", "--ids.embeddings", "same.npy"], "1 distinct"),
        ([*BUILD, "--ids.embeddings", "nan.npy"], "NaN or infinity in 1 rows, first in row 3"),
        ([*BUILD, "--ids.embeddings", "padded.npy"], "got 33 rows"),
        ([*BUILD, "--ids.embeddings", "none.parquet:v"], "none.parquet, which is not there"),
        ([*BUILD, "--ids.embedding_ids", "ids.txt"], "names the item of each row of a file"),
        (
            [*BUILD, "--ids.embeddings", "same.npy", "--ids.embedding_ids", "none.txt"],
            "none.txt, which is not there",
        ),
        ([*BUILD, "--ids.codebook_sizes", "[99999999999999999999]"], "from 1 to 2147483647"),
        ([*BUILD, "--ids.cf_embeddings", "same.npy"], "expected no cf_embeddings for rqkmeans"),
        ([*BUILD, "--tokenizer", "schemes:Cf"], "expected cf_embeddings for schemes:Cf"),
        ([*BUILD, "--tokenizer", "schemes:Cf", "--ids.cf_embeddings", "padded.npy"], "33 rows"),
        ([*BUILD, "--tokenizer", "schemes:Float"], "clause 'dtype'"),
        (["build", "--data", "one", "--out", "out"], "1 distinct embeddings of 1 items"),
        (["inspect"], "either IDs (semid inspect FOLDER ...) or --tokenizer"),
        (["inspect", "ids", "--json", "true"], "json must end in .json, got 'true'"),
        (["inspect", ""], "ids"),
        (["inspect", "--tokenizer", "random"], "add --data FOLDER to random"),
        (["inspect", "--ids", "shop", "--settings", "{seed: 1}"], "Name a scheme by --tokenizer"),
        (["inspect", "--ids", "ids", "--codebook_sizes", "[4]"], "name it by --tokenizer"),
        (["inspect", "--tokenizer", "schemes:Float", "--data", "shop"], "clause 'dtype'"),
        (
            ["inspect", "--tokenizer", "random", "--data", "shop", "--cf_embeddings", "padded.npy"],
            "got 33 rows",
        ),
        (["inspect", "--ids", "none"], "no folder or file of semantic ids none"),
        (["inspect", "--ids", "codes.json"], "add --data FOLDER"),
        (["inspect", "--ids", "shop"], "expected an artefact folder"),
        (["teacher"], "out of teacher train, teacher export, got teacher"),
        (["teacher", "--data", "shop"], "out of teacher train, teacher export, got teacher --data"),
        (["teacher", "train", "--data", "nowhere", "--out", "out"], "no folder nowhere"),
        (
            ["teacher", "train", "--data", "shop", "--out", "out", "--teacher.model", "bert"],
            "bert4rec",
        ),
        ([*TRAIN, "--teacher.hybrid.cf", "hybrid"], "hybrid.cf"),
        (
            [*TRAIN, "--teacher.hybrid.half_items", "0"],
            "teacher.hybrid.half_items must be a",
        ),
        ([*COMPARE, "--mass.top_k", "33"], "top_k must be at most the 32 items of the catalogue"),
        ([*COMPARE, "--arms", "[tiger:soft_ce:0.5:rise=2]"], "start and rise are shares"),
        (["lm"], "out of lm train, lm fluency, got lm"),
        (["lm", "fluency"], "run"),
        (["lm", "fluency", "--run", "shop"], "expected the folder of a comparison, got shop"),
        (
            [*TRAIN, "--training.accumulate", "0"],
            "training.accumulate must be a whole",
        ),
        (
            [*LM, "--texts.held_out", "0"],
            "texts.held_out must be a number above 0",
        ),
        ([*LM, "--texts.held_out", "0.99999"], "titles to hold out, got 0 and 32 of 32 items"),
        ([*LM, "--texts.title", "{colour}"], "must name columns in braces"),
        ([*LM, "--model.vocab_size", "200"], "model.vocab_size must be a whole number from 259"),
        ([*LM, "--out", "shop"], "expected an artefact folder"),
        ([*EXPORT, "--seed", "7"], "expected a trained teacher of seed 7 in none, got none"),
        ([*COMPARE, "--arms", "[tiger@x:ntp]"], "those in schemes (none), got 'x'"),
        ([*COMPARE, "--schemes", "{x: {scheme: kmean}}", "--arms", "[tiger@x:ntp]"], "a tokenizer"),
        ([*COMPARE, "--schemes", "{x: {depth: 3}}"], "depth"),
    ],
    ids=lambda value: " ".join(value)[-50:] if isinstance(value, list) else "",
)
def test_bad_input_gives_one_line_and_exit_code_2(
    command: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("semid: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("out").exists(), "nothing is half-written"
