"""The folder for ``transformers``: ``generate`` ranks items as the model's own search does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exported import Lists, assert_same_lists, own_lists, random_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from worlds import histories

from baselines.exporting.export import export
from baselines.exporting.semantic_ids.catalogue import Catalogue
from baselines.exporting.semantic_ids.trie_logits import TrieLogitsProcessor
from baselines.exporting.view import ExportView
from baselines.models.trained import TrainedModel

PASTS = [[1, 0, 1, 0, 1], [0]]


def generated(folder: Path, model: TrainedModel, k: int) -> Lists:
    """The lists of ``generate`` on what was exported."""
    catalogue, ids = Catalogue(folder), model.items.catalog.item_ids
    prompts = [catalogue.prompt([ids[row] for row in past]) for past in PASTS]
    longest = max(map(len, prompts))
    to_left = model.spec.backbone == "lm"
    rows, masks = [], []
    for prompt in prompts:
        filling = longest - len(prompt)
        rows.append([0] * filling + prompt if to_left else prompt + [0] * filling)
        ones = [1] * len(prompt)
        masks.append([0] * filling + ones if to_left else ones + [0] * filling)
    kind: Any = AutoModelForCausalLM if to_left else AutoModelForSeq2SeqLM
    processor = TrieLogitsProcessor(catalogue, longest if to_left else 1)
    loaded = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        found = loaded.generate(
            torch.tensor(rows),
            attention_mask=torch.tensor(masks),
            logits_processor=[processor],
            num_return_sequences=loaded.generation_config.num_beams,
            return_dict_in_generate=True,
            output_scores=True,
        )
    return processor.items(found, len(PASTS), k)


@pytest.mark.parametrize(
    "seeds",
    [range(12), pytest.param(range(200, 400), marks=pytest.mark.slow)],
    ids=["few", "two hundred"],
)
def test_generate_finds_the_items_of_the_models_own_search_with_their_scores(
    seeds: range, tmp_path: Path
) -> None:
    ragged = 0
    for seed in seeds:
        model = random_model(tmp_path / str(seed), seed)
        view = ExportView.of_model(model, "model")
        ragged += view.is_ragged
        out = tmp_path / "exports" / str(seed)
        export(view, "hf", out)
        beam = model.spec.evaluation.beam
        own = own_lists(model, PASTS, k=beam)
        assert_same_lists(generated(out, model, k=beam), own)
    assert ragged > len(seeds) // 8


@pytest.mark.parametrize("seed", [0, 1, 3])  # TIGER, codes and titles of a language model
def test_prompts_are_those_of_the_model(seed: int, tmp_path: Path) -> None:
    model = random_model(tmp_path / "model", seed)
    backbone: Any = model.backbone
    export(ExportView.of_model(model, "model"), "hf", tmp_path / "out")
    catalogue, number = Catalogue(tmp_path / "out"), len(model.items.catalog)
    past = [row % number for row in range(9)]
    for length in range(1, 10):
        rows = past[-length:]
        make = backbone.encoder_input if seed == 0 else backbone.prompts
        tokens, mask = make(histories(rows).last(backbone.max_history))
        prompt = catalogue.prompt([model.items.catalog.item_ids[row] for row in rows])
        assert prompt == tokens[mask].tolist()
    for history in ([], ["nobody"]):
        with pytest.raises(ValueError, match="IDs of known items"):
            catalogue.prompt(history)


def test_a_row_outside_the_trie_and_scores_that_are_no_numbers_fail_closed(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model", 0)
    view = ExportView.of_model(model, "model")
    export(view, "hf", tmp_path / "out")
    catalogue = Catalogue(tmp_path / "out")
    processor = TrieLogitsProcessor(catalogue, prompt_length=1)
    path, scores = view.paths[0].tolist(), torch.zeros(1, catalogue.num_tokens + 1)
    ended = processor(torch.tensor([[0, *path, 0]]), scores)
    assert ended.isfinite().nonzero().tolist() == [[0, catalogue.end]]
    for strange in ([catalogue.num_tokens], [10**6], [path[0], path[0]], [0]):
        assert (processor(torch.tensor([[0, *strange]]), scores) == -torch.inf).all()
        assert processor.nodes(torch.tensor([[0, *strange]])).tolist() == [-1]
    forbidden = processor(torch.tensor([[0]]), torch.full_like(scores, -torch.inf))
    assert (forbidden == -torch.inf).all()
    with pytest.raises(ValueError, match="got NaN"):
        processor(torch.tensor([[0]]), torch.full_like(scores, torch.nan))
