"""The code of docs/*.md runs as it stands there; that of get_started.md is run by test_readme.

The ``python`` blocks of a page share their names and begin with those that the page's text speaks
of (``STAGES``), in an empty folder that holds what they read. Of an ``sh`` block each ``semid``
command has its options read and checked (``--print_config``), with a data set for ``FOLDER`` and a
language model for ``FOLDER_OR_HUB_ID``; the comparisons that these name also run, in small, as slow
tests. A block below ``<!-- not run: reason -->`` is left out.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from building import build
from test_readme import RUN, SHOWN, Block, blocks_of, run_python, runnable_lines
from tiny_lm import TITLES, tokenizer_of, write_model
from tiny_models import fit_model
from tiny_shop import compare, write_shop, write_shop_model
from worlds import histories

from baselines.cli import main
from baselines.data.loading import load_catalog
from baselines.lm.config import LanguageModelConfig
from baselines.models.config import BackboneConfigs
from semid.catalog import Catalog
from semid.ids import SemanticIds
from semid.trie import CodeTrie

DOCS = Path(__file__).parents[1] / "docs"
RUN_AS_A_WHOLE = "get_started.md"  # by test_readme
PAGES = {
    path.name: blocks_of(path.read_text(encoding="utf-8"))
    for path in DOCS.glob("*.md")
    if path.name != RUN_AS_A_WHOLE
}
BLOCKS = [(page, block) for page, blocks in sorted(PAGES.items()) for block in blocks]

TINY: dict[str, Any] = {
    "seeds": [0],
    "arms": ["tiger:ntp", "tiger:soft_ntp:0.1"],
    "ids": {"codebook_sizes": [4, 4]},
    "teacher": {"sasrec": {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1, "ff_dim": 8}}},
    "teacher_training": {"epochs": 1},
    "backbones": {
        "tiger": {"num_layers": 1, "dim": 8, "num_heads": 1, "head_dim": 8, "ff_dim": 8},
        "lm": {"template": "{history}>", "max_history": 3},
    },
    "training": {"epochs": 1},
    "evaluation": {"beam": 10, "validation_beam": 5, "validation_targets": 10, "certified": 4},
    "resamples": 20,
}


def _codes() -> tuple[torch.Tensor, tuple[int, ...]]:
    """Codes of the dozen items of ``TITLES``."""
    return torch.cartesian_prod(torch.arange(3), torch.arange(4)), (3, 4)


def _catalog() -> Catalog:
    return Catalog(item_ids=list(range(12)), fields=pl.DataFrame({"title": TITLES}))


def _backbones() -> dict[str, Any]:
    example = next(block for block in PAGES["backbones.md"] if block.language == "python")
    Path("my_backbone.py").write_text(example.code)
    write_shop(Path("shop"))
    command = ["train", "--data", "shop", "--out", "models/mine", "--arm", "my_backbone:Mine:ntp"]
    assert main([*command, "--ids.codebook_sizes", "[4,4]", "--training.epochs", "1"]) == 0
    return {}


def _data() -> dict[str, Any]:
    products = [{"sku": f"s{number}", "name": f"thing {number}"} for number in range(8)]
    orders = [
        {"customer": f"c{user}", "skus": [f"s{(user + day) % 8}"], "date": f"2026-01-0{day + 1}"}
        for user in range(9)
        for day in range(4)
    ]
    Path("orders.json").write_text(json.dumps({"products": products, "orders": orders}))
    return {}


def _decoding() -> dict[str, Any]:
    codes, sizes = _codes()
    backbone, other = (
        build("tiger", BackboneConfigs(), codes, sizes, seed=seed).eval() for seed in (0, 1)
    )
    return {
        "backbone": backbone,
        "other": other,
        "trie": backbone.trie,
        "histories": histories([0, 1], [2, 3, 4]),
        "seen": torch.tensor([[0, 1, -1], [2, 3, 4]]),
        "item_scores": torch.randn(2, 12),
        "counts": torch.arange(12),
        **_generator(backbone.trie),
    }


def _generator(trie: CodeTrie) -> dict[str, Any]:
    from transformers import T5Config, T5ForConditionalGeneration

    end = trie.num_tokens
    size = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    ends = {"decoder_start_token_id": end + 1, "pad_token_id": end + 1, "eos_token_id": end}
    model = T5ForConditionalGeneration(T5Config(vocab_size=end + 2, **size, **ends)).eval()
    return {"model": model, "end": end, "inputs": {"input_ids": torch.tensor([[1, 2], [3, 4]])}}


def _ids() -> dict[str, Any]:
    shop = write_shop(Path("shop"))
    assert main(["build", "--data", "shop", "--out", "ids", "--ids.codebook_sizes", "[4,8]"]) == 0
    ids, catalog = SemanticIds.load("ids"), load_catalog(shop)
    return {
        "catalog": catalog,
        "new_catalog": Catalog(item_ids=[1001, 1002], fields=catalog.fields[:2]),
        "trie": CodeTrie.from_paths(ids.codes, max(ids.sizes)),
        "tokenizer": tokenizer_of(catalog.texts("{title}")),
    }


def _letter() -> dict[str, Any]:
    return {"embeddings": torch.randn(300, 16), "cf": torch.randn(300, 8)}


def _lm() -> dict[str, Any]:
    shop = write_shop(Path("shop"))
    model = write_shop_model(shop, Path("model"))
    assert compare(shop, model, Path("runs/lm"), arms="lm:msl:tau=4.5") == 0
    config = LanguageModelConfig(model=str(model), template="{history}>", max_history=3)
    ids = SemanticIds.load("runs/lm/ids")
    return {"config": config, "ids": ids, "catalog": load_catalog(shop)}


def _small_lm() -> dict[str, Any]:
    write_model(Path("lm"), TITLES, bos_token="<s>")
    return {"titles": TITLES}


def _tca() -> dict[str, Any]:
    codes, sizes = _codes()
    return {
        "codes": codes,
        "num_tokens": sum(sizes),
        "item_scores": torch.randn(2, 12),
        "targets": torch.tensor([3, 7]),
        "logits": torch.randn(2, 2, sum(sizes)),
        "hidden": torch.randn(2, 6, 5),
        "last_of_prompt": torch.tensor([2, 3]),
        "model": SimpleNamespace(
            get_output_embeddings=lambda: SimpleNamespace(weight=torch.randn(sum(sizes), 5))
        ),
    }


def _teachers() -> dict[str, Any]:
    def recommend(users: Any, user_items: Any, N: int, **_: Any) -> Any:
        return np.tile(np.arange(N), (len(users), 1)), np.zeros((len(users), N), np.float32)

    return {
        "scores_of_rows": lambda pasts: torch.zeros(len(pasts), 12),
        "catalog": _catalog(),
        "item_ids": list(range(12)),
        "model": SimpleNamespace(recommend=recommend),
    }


def _models() -> dict[str, Any]:
    fit_model(Path("models")).save(Path("models/best"))
    return {}


def _export() -> dict[str, Any]:
    fit_model(Path("trained"), "tiger", beam=10)
    command = ["export", "trained/model", "--to", "hf", "--out", "models/one-hf"]
    assert main(command) == 0
    return {}


def _batch() -> dict[str, Any]:
    return _models() | _ids()


STAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "backbones.md": _backbones,
    "batch.md": _batch,
    "comparison.md": dict,
    "concepts.md": dict,
    "data.md": _data,
    "decoding.md": _decoding,
    "export.md": _export,
    "ids.md": _ids,
    "letter.md": _letter,
    "lm.md": _lm,
    "models.md": _models,
    "small_lm.md": _small_lm,
    "tca.md": _tca,
    "teachers.md": _teachers,
}
SLOW = {"lm.md"}  # pages whose stage trains
PROGRAMS = [
    pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
    for page, blocks in sorted(PAGES.items())
    if any(block.language == "python" and not block.reason for block in blocks)
]


@pytest.mark.parametrize("page", PROGRAMS)
def test_python_blocks_run_from_top_to_bottom(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    program = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", program)
    vars(program).update(STAGES[page]())
    for block in PAGES[page]:
        if block.language == "python" and not block.reason:
            if module := module_of(page, block):
                monkeypatch.delitem(sys.modules, module, raising=False)
                Path(f"{module}.py").write_text(block.code)
            else:
                run_python(block, vars(program), str(DOCS / page))


def module_of(page: str, block: Block) -> str | None:
    """The module that a block is the file of: it says so itself, or the text before it does."""
    if named := re.match(r"# (\w+)\.py\n", block.code):
        return named[1]
    if not block.code.startswith('"""'):
        return None
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()[: block.line - 1]
    return re.findall(r"`(\w+)\.py`", "\n".join(lines))[-1]


COMMANDS = [
    pytest.param(block, id=f"{page}-line{block.line}")
    for page, block in BLOCKS
    if block.language == "sh" and not block.reason
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands of all pages name."""
    folder = tmp_path_factory.mktemp("docs")
    shop = write_shop(folder / "shop")
    write_shop_model(shop, folder / "model")
    (folder / "examples").symlink_to(DOCS.parent / "examples")
    mine = {"data": "shop", "out": "runs/mine", "seeds": [0, 1]}
    (folder / "mine.yaml").write_text(json.dumps(TINY | mine))
    (folder / "tiny.yaml").write_text(json.dumps(TINY))
    return folder


def commands_of(block: Block) -> list[list[str]]:
    """The arguments of the block's ``semid`` commands, however they are launched."""
    code = block.code.replace("FOLDER_OR_HUB_ID", "model").replace("FOLDER", "shop")
    lines = shlex.split(runnable_lines(code).replace("\n", " ; "))
    commands: list[list[str]] = []
    while lines:
        end = lines.index(";") if ";" in lines else len(lines)
        command, lines = lines[:end], lines[end + 1 :]
        commands.append(command[command.index("semid") + 1 :])
    return commands


@pytest.mark.parametrize("block", COMMANDS)
def test_commands_have_options_that_can_be_meant(
    block: Block,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    commands = commands_of(block)
    assert commands
    for command in commands:
        assert main([*command, "--print_config"]) == 0, capsys.readouterr().err


def of_recommenders(parameter: Any) -> bool:
    (block,) = parameter.values
    return "FOLDER_OR_HUB_ID" in block.code or "--fusion.controls" in block.code


@pytest.mark.slow
@pytest.mark.parametrize("block", [each for each in COMMANDS if of_recommenders(each)])
def test_comparisons_run_in_small(
    block: Block,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    for verb, *options in commands_of(block):
        small = [] if "mine.yaml" in options else ["--config", "tiny.yaml"]
        assert main([verb, *small, *options]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", sorted(PAGES))
def test_blocks_say_what_they_are(page: str) -> None:
    assert {block.language for block in PAGES[page]} <= {*RUN, *SHOWN}
