"""The folder for vLLM, decoded by vLLM where it is at hand, else by a model in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from exported import assert_same_lists, own_lists, random_model, wide_model
from transformers import AutoModelForCausalLM

from baselines.exporting.export import export
from baselines.exporting.semantic_ids.catalogue import Catalogue
from baselines.exporting.semantic_ids.vllm_beam import TrieBeamSearch
from baselines.exporting.view import ExportView
from baselines.models.trained import TrainedModel

PASTS = [[1, 0, 1, 0, 1], [0]]
MOST_AT_ONCE = 128  # tokens of a request, in vllm.sampling_params

RUN = """
import json, os, sys
os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
if __name__ == "__main__":
    folder, beam, k, histories = sys.argv[1], *map(json.loads, sys.argv[2:5])
    sys.path.insert(0, folder)
    from semantic_ids.catalogue import Catalogue
    from semantic_ids.vllm_beam import TrieBeamSearch
    from vllm import LLM

    llm = LLM(folder, dtype="float32", max_logprobs=128, enforce_eager=True, max_model_len=128)
    lists = TrieBeamSearch(llm, Catalogue(folder), beam).recommend(histories, k)
    assert "semid" not in sys.modules
    print("LISTS " + json.dumps(lists))
"""


class InPlaceOfVllm:
    """Answers one-token requests with log-probabilities, within vLLM's limits."""

    def __init__(self, folder: Path) -> None:
        kind: Any = AutoModelForCausalLM
        self.model = kind.from_pretrained(folder).eval()
        self.requests = 0

    @torch.no_grad()
    def generate(self, prompts: list[Any], params: list[Any], *, use_tqdm: bool) -> list[Any]:
        answers = []
        for prompt, asked in zip(prompts, params, strict=True):
            self.requests += 1
            assert asked.max_tokens == 1
            assert 0 < len(asked.logprob_token_ids) <= MOST_AT_ONCE
            tokens = torch.tensor([prompt["prompt_token_ids"]])
            log_probs = self.model(tokens).logits[0, -1].log_softmax(dim=-1)
            of_token = {
                t: SimpleNamespace(logprob=float(log_probs[t])) for t in asked.logprob_token_ids
            }
            answers.append(SimpleNamespace(outputs=[SimpleNamespace(logprobs=[of_token])]))
        return answers


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


def exported(model: TrainedModel, folder: Path) -> Path:
    export(ExportView.of_model(model, "model"), "vllm", folder)
    return folder


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("seed", [1, 3, 5, 7])
def test_the_search_finds_the_items_of_the_models_own_with_their_scores(
    seed: int, tmp_path: Path
) -> None:
    model = random_model(tmp_path / "model", seed)
    beam, ids = model.spec.evaluation.beam, model.items.catalog.item_ids
    folder = exported(model, tmp_path / "export")
    search = TrieBeamSearch(InPlaceOfVllm(folder), Catalogue(folder), beam)
    found = search.recommend([[ids[row] for row in past] for past in PASTS], k=beam)
    assert_same_lists(found, own_lists(model, PASTS, k=beam))


@pytest.mark.usefixtures("vllm")
def test_more_children_than_a_list_of_allowed_tokens_may_have_are_all_compared(
    tmp_path: Path,
) -> None:
    model = wide_model(tmp_path / "model")
    folder = exported(model, tmp_path / "export")
    in_place = InPlaceOfVllm(folder)
    found = TrieBeamSearch(in_place, Catalogue(folder), beam=20).recommend([["i7"]], k=20)
    assert_same_lists(found, own_lists(model, [[7]], k=20))
    assert in_place.requests == 11, "1,300 tokens, 128 at a time; what follows is certain"


def vllm_python() -> str | None:
    """The interpreter that has vLLM: this one, or that which VLLM_PYTHON names."""
    named = os.environ.get("VLLM_PYTHON")
    return named or (sys.executable if find_spec("vllm") else None)


@pytest.mark.slow
@pytest.mark.parametrize("make", ["codes", "titles", "wide"])
def test_vllm_itself_finds_them_too(make: str, tmp_path: Path) -> None:
    python = vllm_python()
    if python is None:
        pytest.skip("vllm is not installed; VLLM_PYTHON names an interpreter that has it")
    if make == "wide":
        model = wide_model(tmp_path / "model")
    else:
        model = random_model(tmp_path / "model", seed=1 if make == "codes" else 3, dim=64)
    beam, ids = model.spec.evaluation.beam, model.items.catalog.item_ids
    folder = exported(model, tmp_path / "export")
    (tmp_path / "run.py").write_text(RUN)
    histories = [[ids[row] for row in past] for past in PASTS]
    given = [str(folder), *map(json.dumps, (beam, beam, histories))]
    done = subprocess.run(
        [python, str(tmp_path / "run.py"), *given], capture_output=True, text=True, cwd=tmp_path
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("LISTS ")]
    assert lines, done.stderr[-3000:]
    found = [[tuple(pair) for pair in each] for each in json.loads(lines[0][6:])]
    assert_same_lists(found, own_lists(model, PASTS, k=beam))
