"""A merged model in the hands of ``transformers`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch
from tiny_lm import TITLES, write_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig
from worlds import histories

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.lm.config import LanguageModelConfig
from baselines.models.merging import merge_and_save
from semid.catalog import Catalog
from semid.decoding import beam_search
from semid.generation import TrieLogitsProcessor


def test_a_merged_model_generates_in_the_order_of_its_own_search_whatever_its_base_was_told(
    tiny_codes: Tensor, tmp_path: Path
) -> None:
    base = write_model(tmp_path / "base", TITLES)
    told: Any = GenerationConfig.from_pretrained(base)
    told.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.05)
    told.save_pretrained(base)
    catalog = Catalog(item_ids=list(range(12)), fields=pl.DataFrame({"title": TITLES}))
    config = LanguageModelConfig(
        model=str(base), template="had {history}; next ", max_history=4, items="codes"
    )
    made = LanguageBackbone(config, BuildContext(tiny_codes, (3, 3, 2), 0, catalog)).eval()
    merge_and_save(made, tmp_path / "merged")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    kept = model.generation_config
    assert not kept.do_sample
    assert kept.repetition_penalty in (None, 1.0)
    assert (kept.eos_token_id, kept.pad_token_id) == (told.eos_token_id, told.pad_token_id)

    tokens, mask = made.prompts(histories([3, 1, 4], [9]))
    trie = made.trie
    processor = TrieLogitsProcessor(
        trie, start=int(tokens[0, -1]), end=int(made.tokenizer.eos_token_id)
    )
    written = model.generate(
        input_ids=tokens,
        attention_mask=mask.long(),
        num_beams=12,
        num_return_sequences=12,
        max_new_tokens=trie.depth + 1,
        length_penalty=0.0,
        eos_token_id=processor.end,
        pad_token_id=processor.end,
        logits_processor=[processor],
    )
    with torch.no_grad():
        start = made.start(histories([3, 1, 4], [9]))
        found = beam_search(start, trie, beam=12, renormalize="none")
    expected = trie.item_order[trie.first_item[found.leaves]]
    assert processor.items(written).view(2, 12).tolist() == expected.tolist()
