"""``semid export``: what it writes, what it refuses in one line, and what it leaves alone."""

from __future__ import annotations

import ast
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from exported import assert_same_lists, own_lists, random_model, random_view
from tiny_models import CONFIGS, fit_model, with_teacher
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import histories

from baselines.cli import main
from baselines.exporting import semantic_ids
from baselines.exporting.config import Server
from baselines.exporting.export import export
from baselines.exporting.flashrec import sid_option
from baselines.exporting.view import ExportView
from baselines.models.trained import TrainedModel
from semid.ids import SemanticIds
from semid.provenance import Provenance

SERVERS: tuple[Server, ...] = get_args(Server)
FILES = {
    "hf": {"config.json", "model.safetensors", "generation_config.json", "semantic_ids.npz"},
    "rtp-llm": {"tree.json", "items_of_paths.json"},
    "static": {"static.npz", "items_of_paths.json"},
    "flashrec": {"sid2vid.json", "items_of_paths.json"},
}


@pytest.fixture(scope="module")
def tiger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained TIGER, with codes of two levels; only to be read."""
    folder = tmp_path_factory.mktemp("tiger")
    fit_model(folder, "tiger", beam=10)
    return folder / "model"


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A causal model, one position an item; only to be read."""
    return fit_model(tmp_path_factory.mktemp("causal"), "causal")


def refused(
    capsys: pytest.CaptureFixture[str], folder: Path, server: str, out: Path, *more: str
) -> str:
    """The one line of a refused export, which writes nothing."""
    before = sorted(path.name for path in out.parent.iterdir())
    assert main(["export", str(folder), "--to", server, "--out", str(out), *more]) == 2
    assert sorted(path.name for path in out.parent.iterdir()) == before
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


@pytest.mark.parametrize("server", FILES)
def test_a_trained_model_becomes_the_folder_of_a_server(
    tiger: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    for _ in range(2):  # a second export replaces the first
        assert main(["export", str(tiger), "--to", server, "--out", str(out)]) == 0
    assert "48 items on" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} >= FILES[server] | {"provenance.json"}
    made = Provenance.read(out)
    assert made.kind == "export"
    assert made.config["server"] == server
    model = TrainedModel.load(tiger)
    assert made.inputs["model"] == model.identity["model"]
    assert made.items == model.items.catalog.order_hash


@pytest.mark.parametrize("server", SERVERS)
def test_semantic_ids_alone_are_exported_where_the_trie_is_all_that_is_needed(
    tiger: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, out = tiger / "ids", tmp_path / "out"
    if server not in ("xllm", "static", "flashrec"):
        assert f"{server} needs a model" in refused(capsys, ids, server, out)
        return
    assert main(["export", str(ids), "--to", server, "--out", str(out)]) == 0
    items = SemanticIds.load(ids).item_ids
    if server == "xllm":
        assert (out / "rec_vocab.bin").stat().st_size == 20 * len(items)
        return
    found = json.loads((out / "items_of_paths.json").read_text())
    assert sorted(item for held in found.values() for item in held) == sorted(items)


@pytest.mark.parametrize("server", SERVERS)
def test_what_no_server_can_hold_is_refused_by_name(
    causal: TrainedModel, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, causal.folder, server, tmp_path / "out")
    assert "a Causal" in said
    assert "one position an item" in said
    assert f"{causal.folder}/ids" in said


def test_a_partner_in_the_beam_and_what_else_changes_scores_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_code = replace(CONFIGS, causal=replace(CONFIGS.causal, input="code"))
    model = fit_model(tmp_path / "own", "causal", configs=by_code)
    assert ExportView.of_model(model, "model").trie.num_items == 48
    with_teacher(model, tmp_path).save(tmp_path / "fused")
    assert "a partner in its beam" in refused(capsys, tmp_path / "fused", "static", tmp_path / "o")
    for setting, what in (
        ({"prior": 0.5}, "corrects the scores"),
        ({"slots": 2}, "reserves slots"),
    ):
        evaluation = replace(model.spec.evaluation, **setting)
        changed = replace(model, spec=replace(model.spec, evaluation=evaluation))
        with pytest.raises(ValueError, match=what):
            ExportView.of_model(changed, "model")
    for server, what in (
        ("hf", "hf needs a model of transformers"),
        ("vllm", "vllm holds decoder-only language models"),
        ("rtp-llm", "rtp-llm needs a last token of the prompt"),
    ):
        assert what in refused(capsys, model.folder, server, tmp_path / "o")


def test_two_sets_of_ids_are_refused(causal: TrainedModel) -> None:
    items = replace(causal.items, second=causal.items.ids)
    with pytest.raises(ValueError, match="two sets of semantic ids"):
        ExportView.of_model(replace(causal, items=items), "model")


@pytest.mark.parametrize("server", ["xllm", "static", "flashrec"])
def test_paths_that_a_file_cannot_hold_are_refused(server: Server, tmp_path: Path) -> None:
    ragged = random_view(3, ragged=True)
    with pytest.raises(ValueError, match="titles" if server == "flashrec" else "one length"):
        export(ragged, server, tmp_path / "out")
    short, long = (random_view(3, levels=levels) for levels in (1, 4))
    with pytest.raises(ValueError, match="exactly 3" if server == "xllm" else "two or more"):
        export(short, server, tmp_path / "out")
    if server == "xllm":
        with pytest.raises(ValueError, match="exactly 3 codes an item, got 4"):
            export(long, server, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_flashrec_is_told_where_the_codes_of_four_levels_are(tmp_path: Path) -> None:
    model = random_model(tmp_path / "lm", seed=1, levels=4)
    view = ExportView.of_model(model, "model")
    export(view, "flashrec", tmp_path / "out")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    sizes = model.items.ids.sizes
    first, last = tokenizer.convert_tokens_to_ids(["<a_0>", f"<d_{sizes[-1] - 1}>"])
    assert sid_option(view) == f"--sid {first}:{last}/{','.join(map(str, sizes))}"
    assert sid_option(random_view(3, levels=4)) is None  # no tokens of a language model
    with pytest.raises(ValueError, match="told by --sid, got one code an item"):
        export(random_view(3, levels=1), "flashrec", tmp_path / "short")


def test_a_code_too_large_for_flashrec_is_refused(tmp_path: Path) -> None:
    codes = torch.tensor([[0, 0], [8192, 1]])
    ids = SemanticIds.of(["a", "b"], codes, (9000, 2), scheme="large")
    with pytest.raises(ValueError, match="below 8192, got 8192"):
        export(ExportView.of_ids(ids, "ids"), "flashrec", tmp_path / "out")


def test_only_an_export_is_replaced(
    tiger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, tiger / "ids", "static", tiger)
    assert "an earlier export" in said
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    assert "other files" in refused(capsys, tiger, "static", tmp_path / "notes")
    assert "no such folder" in refused(capsys, tmp_path / "none", "hf", tmp_path / "out")
    assert "trained model" in refused(capsys, tmp_path / "notes", "hf", tmp_path / "out")


def test_removed_items_are_in_no_path_but_keep_their_numbers(tiger: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(tiger)
    whole = ExportView.of_model(model, "model")
    rows = whole.trie.items_below_each(whole.leaves[:1])[1].tolist()
    removed = replace(model, removed=frozenset(rows))
    view = ExportView.of_model(removed, "model")
    assert view.item_ids == whole.item_ids
    assert view.paths.tolist() == whole.paths[1:].tolist()
    assert sorted(view.trie.item_order.tolist()) == sorted(set(range(48)) - set(rows))
    with pytest.raises(ValueError, match="an item that may be recommended"):
        ExportView.of_model(replace(model, removed=frozenset(range(48))), "model")


def test_a_language_model_is_written_beside_the_file_in_its_own_tokens(tmp_path: Path) -> None:
    model = random_model(tmp_path / "lm", seed=1, levels=3)
    view, codes = ExportView.of_model(model, "model"), model.items.ids.codes
    for server in ("rtp-llm", "xllm", "flashrec"):
        export(view, server, tmp_path / server)
        kind: Any = AutoModelForCausalLM
        table = kind.from_pretrained(tmp_path / server).get_input_embeddings()
        assert table.num_embeddings == view.trie.num_tokens
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "xllm")
    names = [f"<{letter}_{code}>" for letter, code in zip("abc", codes[0].tolist(), strict=True)]
    _, *tokens = struct.unpack("<qiii", (tmp_path / "xllm" / "rec_vocab.bin").read_bytes()[:20])
    assert tokens == tokenizer.convert_tokens_to_ids(names)
    keys = json.loads((tmp_path / "flashrec" / "sid2vid.json").read_text())
    assert set(keys) == {",".join(map(str, path)) for path in codes.tolist()}
    tree = json.loads((tmp_path / "rtp-llm" / "tree.json").read_text())
    backbone: Any = model.backbone
    prompt, _ = backbone.prompts(histories([1, 0], [0]))
    assert prompt[:, -1].tolist() == [tree["start_token_id"]] * 2
    assert tree["end_token_id"] == tokenizer.eos_token_id


def test_titles_are_exported_with_their_end_token(tmp_path: Path) -> None:
    model = random_model(tmp_path / "lm", seed=3)
    view = ExportView.of_model(model, "model")
    assert view.is_ragged
    export(view, "rtp-llm", tmp_path / "out")
    tree = json.loads((tmp_path / "out" / "tree.json").read_text())
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    for title in model.items.catalog.texts("{title}"):
        tokens = tokenizer(title, add_special_tokens=False)["input_ids"]
        key = "_".join(map(str, [tree["start_token_id"], *tokens]))
        assert tokenizer.eos_token_id in tree["prefix_dict"][key]
    with pytest.raises(ValueError, match="paths of codes, got titles"):
        export(view, "flashrec", tmp_path / "codes")


RUN = """
import json, sys
folder, history = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, folder)
import torch
from semantic_ids.catalogue import Catalogue
from semantic_ids.trie_logits import TrieLogitsProcessor
from transformers import AutoModelForSeq2SeqLM

catalogue = Catalogue(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
found = model.generate(
    torch.tensor([catalogue.prompt(history)]),
    logits_processor=[TrieLogitsProcessor(catalogue, prompt_length=1)],
    num_return_sequences=5,
    return_dict_in_generate=True,
    output_scores=True,
)
ours = {"semid", "tca", "baselines"} & {name.split(".")[0] for name in sys.modules}
assert not ours, ours
print("LISTS " + json.dumps(TrieLogitsProcessor(catalogue, 1).items(found, 1, 5)))
"""


def test_an_export_runs_without_this_package(tiger: Path, tmp_path: Path) -> None:
    model, out = TrainedModel.load(tiger), tmp_path / "out"
    export(ExportView.of_model(model, "model"), "hf", out)
    ids = model.items.catalog.item_ids
    (tmp_path / "run.py").write_text(RUN)
    given = [str(tmp_path / "run.py"), str(out), json.dumps([ids[3], ids[1]])]
    done = subprocess.run(
        [sys.executable, *given], capture_output=True, text=True, cwd=tmp_path, env={}
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("LISTS "))
    found = [[tuple(pair) for pair in each] for each in json.loads(line[6:])]
    assert_same_lists([found[0][:5]], own_lists(model, [[3, 1]], k=5))


def test_what_is_copied_imports_nothing_of_this_package() -> None:
    (folder,) = map(Path, semantic_ids.__path__)
    known = set(sys.stdlib_module_names) | {"numpy", "torch", "transformers", "vllm"}
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= known
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module is not None
                assert node.module.split(".")[0] in known
