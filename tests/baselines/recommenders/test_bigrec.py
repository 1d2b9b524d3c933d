"""Written titles, and the distances from them, one text after another."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lm import write_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import histories

from baselines.contracts.backbone import BuildContext
from baselines.contracts.scorer import ItemScorer
from baselines.lm.config import LanguageModelConfig, LoraSettings
from baselines.recommenders.bigrec import BigrecBackbone
from baselines.recommenders.config import BigrecConfig
from semid.catalog import Catalog

PAST = histories([3, 1, 4], [5], [0, 1, 2, 9], padding=1)


@pytest.fixture
def folder(tmp_path: Path, tiny_catalog: Catalog) -> Path:
    return write_model(tmp_path / "llama", tiny_catalog.texts("{title}"))


def config(folder: Path, **options: Any) -> LanguageModelConfig:
    return LanguageModelConfig(model=str(folder), template="had {history}>", **options)


@pytest.fixture
def bigrec(folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog) -> BigrecBackbone:
    """With adapters that have learned something, all of it at random."""
    made = BigrecBackbone(
        config(folder), BuildContext(tiny_codes, (3, 3, 2), 0, tiny_catalog), BigrecConfig()
    ).eval()
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=gen))
    return made


def test_scores_are_minus_the_distances_of_last_states_of_the_plain_base(
    bigrec: BigrecBackbone, folder: Path, tiny_catalog: Catalog
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def state(text: str) -> list[float]:
        row = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        found = model(input_ids=torch.tensor([row]), output_hidden_states=True)
        states: list[float] = found.hidden_states[-1][0, -1].tolist()
        return states

    written = bigrec.write(PAST)
    scores = bigrec.score(PAST)
    assert scores.shape == (3, 12)
    for row, text in zip(scores.tolist(), written, strict=True):
        for score, title in zip(row, tiny_catalog.texts("{title}"), strict=True):
            assert score == pytest.approx(-math.dist(state(text), state(title)), rel=1e-4)
    assert isinstance(bigrec, ItemScorer)


def test_items_of_one_title_tie_and_a_title_itself_is_at_hand(
    bigrec: BigrecBackbone, tiny_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = tiny_catalog.texts("{title}")
    monkeypatch.setattr(bigrec, "write", lambda histories: [titles[7], "", titles[11]])
    scores = bigrec.score(PAST)
    assert scores[0].topk(2).indices.sort().values.tolist() == [6, 7], "both are called so"
    assert scores[2].argmax() == 11
    torch.testing.assert_close(scores[[0, 2], [7, 11]], torch.zeros(2), rtol=0, atol=1e-4)
    for title in set(titles):
        same = [item for item in range(12) if titles[item] == title]
        assert len(scores[:, same].unique(dim=1)[0]) == 1


def test_what_is_written_is_the_beam_search_of_the_adapted_model_from_each_prompt_alone(
    bigrec: BigrecBackbone,
) -> None:
    tokens, mask = bigrec.prompts(PAST)
    end, written = bigrec.tokenizer.eos_token_id, []
    for row, real in zip(tokens, mask, strict=True):
        prompt = row[real].unsqueeze(0)
        found = bigrec.base.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            num_beams=4,
            do_sample=False,
            max_new_tokens=bigrec.trie.depth,
            eos_token_id=end,
            pad_token_id=end,
        )[0, prompt.shape[1] :]
        written.append(bigrec.tokenizer.decode(found, skip_special_tokens=True))
    assert bigrec.write(PAST) == written
    with bigrec.lm.disable_adapter():
        assert bigrec.write(PAST) != written, "adapters write"


def test_adapters_are_on_again_after_titles_are_read_without_them(bigrec: BigrecBackbone) -> None:
    trained = [name for name, value in bigrec.named_parameters() if value.requires_grad]
    states = bigrec.start(PAST).logits()
    bigrec.score(PAST)
    torch.testing.assert_close(bigrec.start(PAST).logits(), states)
    assert [name for name, value in bigrec.named_parameters() if value.requires_grad] == trained


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"items": "codes"}, "got items codes. Use --backbones.lm.items titles"),
        ({"lora": LoraSettings(r=0)}, "Set --backbones.lm.lora.r"),
    ],
)
def test_codes_and_a_base_that_is_trained_itself_are_refused(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, options: dict[str, Any], said: str
) -> None:
    made_by = dataclasses.replace(config(folder), **options)
    with pytest.raises(ValueError, match=said):
        BigrecBackbone(
            made_by, BuildContext(tiny_codes, (3, 3, 2), 0, tiny_catalog), BigrecConfig()
        )


def test_no_beam_is_refused() -> None:
    with pytest.raises(ValueError, match="beams must be a whole number of at least 1, got 0"):
        BigrecConfig(beams=0)
