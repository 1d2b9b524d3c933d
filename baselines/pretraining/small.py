"""A small language model trained from scratch on a catalogue's texts alone."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from baselines.data.dataset import Dataset
from baselines.lm.fluency import fluency
from baselines.lm.loading import quietly
from baselines.pretraining.blocks import Blocks
from baselines.pretraining.config import (
    SmallLMConfig,
    SmallModelConfig,
)
from baselines.pretraining.next_token import train_next_token
from baselines.pretraining.texts import SEPARATOR, Texts, make_texts
from baselines.training.checkpoint import require_lineage
from semid.distributed import distributed_state, once
from semid.provenance import (
    Provenance,
    atomic_dir,
    hash_arrays,
    hash_file,
    hash_json,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
_REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class SmallLMReport:
    """Training data and results of a small language model; ``report.json`` of its folder.

    All perplexities are per token, over the held-out titles with their end tokens, under the same
    vocabulary.

    Attributes:
        titles: Number of distinct training titles.
        further: Number of distinct further texts.
        lists: Number of lists of titles.
        items_without_title: Number of items without a title, which are left out.
        cut: Number of texts truncated to the context.
        held_out: Number of distinct held-out titles.
        vocabulary: Number of tokens.
        parameters: Number of parameters, tied ones counted once.
        best_epoch: The selected epoch, from 1.
        perplexity: Perplexity of the selected model.
        unigram: Perplexity of token frequencies in the training titles, with add-one smoothing.
        uniform: Perplexity of a uniform guess, i.e. the number of tokens.
        history: One entry per epoch, as returned by ``train_next_token``.
    """

    titles: int
    further: int
    lists: int
    items_without_title: int
    cut: int
    held_out: int
    vocabulary: int
    parameters: int
    best_epoch: int
    perplexity: float
    unigram: float
    uniform: float
    history: list[dict[str, float]]


@dataclass(frozen=True)
class _Trained:
    """A language model before it is written, and how its training went."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    history: list[dict[str, float]]
    cut: int


def train_small_lm(
    dataset: Dataset, config: SmallLMConfig, *, seed: int, folder: str | Path
) -> SmallLMReport:
    """Train a byte-pair tokenizer and a small Llama on a catalogue's texts, from scratch.

    The result is an ordinary ``transformers`` folder that ``AutoTokenizer`` and
    ``AutoModelForCausalLM`` load, written atomically. Until then, a checkpoint per epoch is kept in
    ``NAME.training`` next to it. When called again after an interruption, training resumes after
    the last finished epoch and ends with the same weights; after completion, only the report is
    read.

    Training uses ``transformers.Trainer``, across all processes. Its checkpoints contain pickles;
    they are removed at the end.

    Args:
        dataset: Only its catalogue and training sequences are read.
        config: Settings.
        seed: Seed of weights, chosen sequences and data order.
        folder: Output folder.

    Raises:
        ProvenanceError: If the folder was made from other data or settings.
        ValueError: If there are no training texts, the blocks of a batch cannot be divided among
            the processes, or the held-out loss is not finite.
    """
    folder = Path(folder).resolve()
    texts = make_texts(dataset, config.texts, seed=seed)
    lineage = Provenance(
        kind="language_model",
        content="",
        items=dataset.catalog.order_hash,
        inputs={"texts": texts.content_hash},
        seen=dataset.splits.train_hash if texts.lists else None,
        config={"seed": seed, **dataclasses.asdict(config)},
    )
    work = folder.with_name(f"{folder.name}.training")
    report = once(
        lambda: _read(folder, lineage) if folder.exists() and any(folder.iterdir()) else None,
        lambda: _train(texts, config, lineage, seed=seed, work=work),
        lambda trained: _save(folder, trained, texts, lineage),
    )
    if distributed_state().is_main_process:
        shutil.rmtree(work, ignore_errors=True)
    return report


def _read(folder: Path, lineage: Provenance) -> SmallLMReport:
    require_lineage(folder, Provenance.read(folder), lineage)
    report = read_json(folder / _REPORT, take_unsealed=True)
    if report is None:
        raise FileNotFoundError(
            f"expected {_REPORT} in {folder}, but it is missing. Train again in another folder."
        )
    return SmallLMReport(**report)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding (as GPT-2's) learned from ``texts``.

    It can encode any text, since every byte is a token. With special tokens, ``bos`` is prepended
    and nothing appended, as in Llama's tokenizers.

    Args:
        texts: Texts from which merges are learned.
        vocab_size: Maximum number of tokens, special ones included; fewer if nothing is left to
            merge.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    bytes_ = Tokenizer(models.BPE())
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytes_.train_from_iterator(texts, trainer)
    bytes_.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bytes_.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bytes_,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="left",  # a decoder-only model generates after the last column
        clean_up_tokenization_spaces=False,
    )


def small_llama(
    tokenizer: PreTrainedTokenizerFast, config: SmallModelConfig, *, seed: int
) -> LlamaForCausalLM:
    """An untrained Llama with tied embeddings for the tokenizer's vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.dim,
        intermediate_size=config.ff_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(shape)


def _train(
    texts: Texts,
    config: SmallLMConfig,
    lineage: Provenance,
    *,
    seed: int,
    work: Path,
) -> _Trained:
    once(
        lambda: Provenance.read(work) if work.exists() else None,
        lambda: None,
        lambda _: _begin(work, lineage),
    )
    require_lineage(work, Provenance.read(work), lineage)
    tokenizer = train_tokenizer([*texts.titles, *texts.further], config.model.vocab_size)
    model = small_llama(tokenizer, config.model, seed=seed)
    alone = [[text] for text in [*texts.titles, *texts.further]]
    rows = _token_rows(tokenizer, [*alone, *texts.lists])
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = _token_rows(tokenizer, [[title] for title in texts.held_out])
    context, pad = config.model.context, int(tokenizer.pad_token_id)
    history = train_next_token(
        model,
        Blocks([rows[row] for row in order], length=context, pad=pad),
        Blocks(held_out, length=context, pad=pad),
        config.training,
        seed=seed,
        work=work,
        title="small language model",
    )
    return _Trained(model, tokenizer, history, cut=sum(len(row) > context for row in rows))


def _begin(work: Path, lineage: Provenance) -> None:
    with atomic_dir(work) as fresh:
        lineage.write(fresh)


def _token_rows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[list[str]]) -> list[list[int]]:
    """Each text as ``bos``, its titles joined by the separator, ``eos``.

    Titles are tokenised separately, as in ``semid.title_paths``, so that a title has the same
    tokens wherever it occurs.
    """
    parts = list(dict.fromkeys(part for text in texts for part in text))
    tokens = tokenizer([SEPARATOR, *parts], add_special_tokens=False)["input_ids"]
    separator, of_part = tokens[0], dict(zip(parts, tokens[1:], strict=True))
    rows = []
    for text in texts:
        row = [tokenizer.bos_token_id, *of_part[text[0]]]
        for part in text[1:]:
            row += separator + of_part[part]
        rows.append([*row, tokenizer.eos_token_id])
    return rows


def _unigram_perplexity(tokenizer: PreTrainedTokenizerFast, texts: Texts) -> float:
    def predicted(titles: list[str]) -> list[int]:
        rows = _token_rows(tokenizer, [[title] for title in titles])
        return [token for row in rows for token in row[1:]]

    seen = Counter(predicted(texts.titles))
    total = sum(seen.values()) + len(tokenizer)
    log_p = [math.log((seen[token] + 1) / total) for token in predicted(texts.held_out)]
    return math.exp(-sum(log_p) / len(log_p))


def _save(folder: Path, trained: _Trained, texts: Texts, lineage: Provenance) -> None:
    model, tokenizer, history = trained.model, trained.tokenizer, trained.history
    report = SmallLMReport(
        titles=len(texts.titles),
        further=len(texts.further),
        lists=len(texts.lists),
        items_without_title=texts.items_without_title,
        cut=trained.cut,
        held_out=len(texts.held_out),
        vocabulary=len(tokenizer),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        best_epoch=1 + min(range(len(history)), key=lambda e: history[e]["held_out"]),
        perplexity=fluency(model, tokenizer, texts.held_out).perplexity,
        unigram=_unigram_perplexity(tokenizer, texts),
        uniform=float(len(tokenizer)),
        history=history,
    )
    with quietly(), atomic_dir(folder) as out:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        weights = dict(sorted(model.named_parameters()))
        arrays = hash_arrays(*(value.detach().cpu().numpy() for value in weights.values()))
        content = hash_json([arrays, hash_file(out / "tokenizer.json")])
        dataclasses.replace(lineage, content=content).write(out)
        write_json(out / _REPORT, dataclasses.asdict(report))
