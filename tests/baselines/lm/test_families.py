"""Tiny random models of the classes and tokenizer kinds that people name most.

What is particular about Llama-3.2-3B and Qwen2.5-0.5B is here: grouped heads, tied matrices, scaled
rotations, weights in bfloat16, rows that no token has, a beginning that the tokenizer puts or has
not, no pad token or one that is the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as bpe
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)
from worlds import histories, random_sequences

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import TrainBatch, Windows
from baselines.lm.config import LanguageModelConfig
from baselines.lm.loading import load_base
from baselines.models.merging import merge_and_save
from semid.catalog import Catalog
from semid.decoding import beam_search, rank_items
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective

TITLES = [
    f"{colour} {thing}" for colour in ("Red", "café", "dry") for thing in ("set", "set 2", "")
]
TITLES = [title.strip() for title in TITLES]
CATALOG = Catalog(item_ids=list(range(9)), fields=pl.DataFrame({"title": TITLES}))
SIZES = (3, 3, 2)
WORDS = r"'s|'t|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"

TEMPLATES = {
    "llama3": (
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
        "<|end_header_id|>\n\n{{ message['content'] }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "qwen2": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}"
        "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


def byte_pairs(special: list[str], normalizer: Any = None) -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizer
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = bpe.BpeTrainer(
        vocab_size=290,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(TITLES, trainer)
    raw.add_special_tokens(special)  # they come after all others, as theirs do
    return raw


def llama3(folder: Path) -> Path:
    """Llama-3.2-3B in small: the tokenizer begins a text and has no pad token."""
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    headers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    raw = byte_pairs([begin, end, *headers])
    raw.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, raw.token_to_id(begin))]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=begin, eos_token=end)
    tokenizer.chat_template = TEMPLATES["llama3"]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
        },
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return saved(LlamaForCausalLM(config), tokenizer, folder)


def qwen2(folder: Path) -> Path:
    """Qwen2.5-0.5B in small: no beginning, padding is the end, and rows that no token has."""
    end, turns = "<|endoftext|>", ["<|im_start|>", "<|im_end|>"]
    raw = byte_pairs([end, *turns], normalizers.NFC())
    tokenizer = Qwen2Tokenizer(tokenizer_object=raw, eos_token=end, pad_token=end)
    tokenizer.chat_template = TEMPLATES["qwen2"]
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 13,
        hidden_size=28,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        sliding_window=32768,
        use_sliding_window=False,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return saved(Qwen2ForCausalLM(config), tokenizer, folder)


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


FAMILIES = {"llama3": llama3, "qwen2": qwen2}


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write: Callable[[Path], Path] = FAMILIES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return write(tmp_path_factory.mktemp("families") / request.param)


@pytest.fixture
def nine_codes(tiny_codes: Tensor) -> Tensor:
    return tiny_codes[:9]


def made_of(folder: Path, codes: Tensor, **options: Any) -> LanguageBackbone:
    config = LanguageModelConfig(model=str(folder), template="had {history}, next ", **options)
    return LanguageBackbone(config, BuildContext(codes, SIZES, 0, CATALOG))


def test_files_load_as_they_are(folder: Path) -> None:
    base = load_base(LanguageModelConfig(model=str(folder)))
    llama = folder.name == "llama3"
    assert type(base.model).__name__ == ("LlamaForCausalLM" if llama else "Qwen2ForCausalLM")
    assert base.model.dtype == torch.bfloat16
    assert base.model.get_input_embeddings().weight is base.model.get_output_embeddings().weight
    assert base.context == (131072 if llama else 32768)  # a window that is not used is none
    assert (base.tokenizer.bos_token is None) is not llama
    assert (base.tokenizer.pad_token is None) is llama


def test_a_text_begins_as_the_tokenizer_begins_one(folder: Path, nine_codes: Tensor) -> None:
    made = made_of(folder, nine_codes)
    tokens, mask = made.prompts(histories([0, 3], [8]))
    assert mask[1].tolist() == sorted(mask[1].tolist())
    begin = "<|begin_of_text|>" if folder.name == "llama3" else ""
    text = made.tokenizer.decode(tokens[1][mask[1]])
    assert text == f'{begin}had "{TITLES[8]}", next '


def test_a_chat_is_theirs(folder: Path, nine_codes: Tensor) -> None:
    made = made_of(folder, nine_codes, chat=True)
    tokens, mask = made.prompts(histories([4]))
    asked = f'had "{TITLES[4]}", next '
    turns = [{"role": "user", "content": asked}]
    theirs = made.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert made.tokenizer.decode(tokens[0][mask[0]]) == theirs
    assert theirs.count("<|begin_of_text|>") == (folder.name == "llama3")


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_training_and_decoding_work_and_merge_back(
    folder: Path, nine_codes: Tensor, items: str, tmp_path: Path
) -> None:
    made = made_of(folder, nine_codes, items=items)
    batch = some_batch()
    objective = Objective(ObjectiveConfig(name="soft_ntp", alpha=0.1, tau=4.5))
    at = objective.positions(made.trie, batch.target_items, pad_to=1)
    choices = candidates(made.trie, batch.target_items, at)
    p = choices.valid / choices.num_children.unsqueeze(1).clamp_min(1)
    before = {name: value.clone() for name, value in made.named_parameters()}
    optimizer = torch.optim.AdamW([w for w in made.parameters() if w.requires_grad], lr=0.01)
    for _ in range(3):
        objective(made(batch, at), choices, p).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, value in made.named_parameters():
        assert torch.equal(value, before[name]) is not value.requires_grad, name
        assert value.dtype == (torch.float32 if value.requires_grad else torch.bfloat16), name
    made.eval()
    with torch.inference_mode():
        found = beam_search(made.start(histories([0, 3], [8])), made.trie, beam=9)
    ranked = rank_items(found, made.trie, k=9)
    assert [sorted(row) for row in ranked.items.tolist()] == [list(range(9))] * 2

    merge_and_save(made, tmp_path / "merged")
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert again.dtype == torch.bfloat16
    assert tokenizer("Red set")["input_ids"] == made.tokenizer("Red set")["input_ids"]
    tokens, mask = made.prompts(histories([0, 3]))
    with torch.inference_mode():
        ours = made.start(histories([0, 3])).logits()[0, 0].float()
        theirs = again(input_ids=tokens, attention_mask=mask).logits[0, -1].float()
    assert torch.corrcoef(torch.stack([ours, theirs[: len(ours)]]))[0, 1] > 0.995  # bfloat16 rounds


def some_batch() -> TrainBatch:
    windows = Windows.per_target(random_sequences(9, 4, longest=6), 4)
    return windows.batch(np.arange(len(windows)))
