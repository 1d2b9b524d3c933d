"""Tiny random language models of the real classes, with a tokenizer trained on a few titles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

START, END = "<s>", "</s>"

TITLES = [
    "red lipstick",
    "red lipstick set",  # begins with another title
    "pink lipstick",
    "pink shampoo",
    "nude lipstick",
    "nude",
    "dry shampoo",
    "dry brush",
    "oily shampoo, by Bo",
    "fine brush",
    "fine",
    "brush",
]
"""Of the dozen items of ``tiny_codes``."""


def tokenizer_of(titles: Iterable[str], *, end: str | None = END, **options: Any) -> Any:
    """A byte-pair tokenizer that has merged some of the titles' letters."""
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(titles, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, **options)


def write_model(
    folder: Path,
    titles: Iterable[str],
    *,
    kind: str = "llama",
    tied: bool = False,
    spare: int = 0,
    dim: int = 16,
    context: int = 512,
    seed: int = 0,
    std: float = 0.2,
    **options: Any,
) -> Path:
    """Write a model that nothing was learned by.

    Args:
        folder: Where to.
        titles: What its tokenizer is trained on.
        kind: ``llama``, ``qwen2``, ``gemma`` or ``gemma2``.
        tied: Whether input and output matrix are one.
        spare: Rows of the matrices that no token has.
        dim: Width.
        context: Most positions.
        seed: Of the weights.
        std: Of the weights; large, so that logits differ by more than rounding.
        options: Of the tokenizer.
    """
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        GemmaConfig,
        GemmaForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    kinds: dict[str, Any] = {
        "llama": (LlamaConfig, LlamaForCausalLM, {}),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
        "gemma": (GemmaConfig, GemmaForCausalLM, {"head_dim": dim // 2}),
        "gemma2": (
            Gemma2Config,
            Gemma2ForCausalLM,
            {"head_dim": dim // 2, "sliding_window": 64, "final_logit_softcapping": 3.0},
        ),
    }
    settings, model, more = kinds[kind]
    tokenizer = tokenizer_of(titles, **options)
    config = settings(
        vocab_size=len(tokenizer) + spare,
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=std,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        **more,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
