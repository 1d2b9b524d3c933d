"""How well a text reads to a language model, and how many written titles exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from baselines.lm.loading import quietly

if TYPE_CHECKING:
    from semid.trie import CodeTrie

IGNORED_LABEL = -100  # what cross_entropy and the losses of transformers leave out


@dataclass(frozen=True, kw_only=True)
class Fluency:
    """How written texts read to a language model.

    Attributes:
        texts: How many.
        tokens: Tokens that were predicted, end tokens included.
        perplexity: ``exp`` of the mean negative log-likelihood of a token; long texts count more.
        text_perplexity: ``exp`` of the mean over texts of their own means over tokens, so that
            each text counts once.
    """

    texts: int
    tokens: int
    perplexity: float
    text_perplexity: float

    @classmethod
    def of(cls, log_p: Tensor, tokens: Tensor) -> Fluency:
        """Sum up what ``log_likelihoods`` gives."""
        return cls(
            texts=len(tokens),
            tokens=int(tokens.sum()),
            perplexity=math.exp(-float(log_p.sum() / tokens.sum())),
            text_perplexity=math.exp(-float((log_p / tokens).mean())),
        )


@dataclass(frozen=True, kw_only=True)
class ValidTitles:
    """How many of the written titles are titles of the catalogue.

    Attributes:
        exact: Share that is one letter by letter.
        normalised: Share that is one once runs of white space are one space and those at the ends
            are gone.
    """

    exact: float
    normalised: float


def fluency(model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int = 32) -> Fluency:
    """Perplexity of texts; the arguments are those of ``log_likelihoods``.

    To judge what a tuned model has written, ask the model it was tuned from (open question 4 of
    TCA4Rec, arXiv:2601.18457). Perplexities compare only under one model and one tokenizer.
    """
    return Fluency.of(*log_likelihoods(model, tokenizer, texts, batch_size=batch_size))


@torch.no_grad()
def log_likelihoods(
    model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int = 32
) -> tuple[Tensor, Tensor]:
    """Log-probability of each text with its end, after the token that begins a text.

    A text is read as ``bos, its tokens, eos``. All but ``bos`` are predicted, and so the end token
    counts as one of the text's tokens: a text that breaks off pays for it. Where a tokenizer has no
    ``bos`` (Qwen, GPT-2), ``eos`` stands in for it, as it does between texts in pre-training. The
    text itself is tokenised without special tokens.

    Args:
        model: A causal language model of ``transformers`` in eval mode.
        tokenizer: Its tokenizer.
        texts: At least one; an empty one is its end alone.
        batch_size: Texts read together.

    Returns:
        Natural logarithms, float64 ``(text,)``, and the number of tokens each is of, int64
        ``(text,)``.

    Raises:
        ValueError: If there is no text, or the tokenizer has no end token.
    """
    if not len(texts):
        raise ValueError("expected at least one text, got none")
    end = _end_token(tokenizer)
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    tokens = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    rows = [torch.tensor([begin, *row, end]) for row in tokens]
    count = torch.tensor([len(row) - 1 for row in rows])
    log_p = torch.zeros(len(rows), dtype=torch.float64)
    for chosen in torch.split(count.argsort(stable=True), batch_size):
        batch = pad_sequence([rows[row] for row in chosen], batch_first=True, padding_value=end)
        real = torch.arange(batch.shape[1]) <= count[chosen].unsqueeze(1)
        target = batch.masked_fill(~real, IGNORED_LABEL)[:, 1:].to(model.device)
        logits = model(
            input_ids=batch.to(model.device), attention_mask=real.long().to(model.device)
        ).logits[:, :-1]
        loss = cross_entropy(
            logits.float().transpose(1, 2), target, ignore_index=IGNORED_LABEL, reduction="none"
        )
        log_p[chosen] = -loss.double().sum(dim=1).cpu()
    return log_p, count


def valid_titles(written: Sequence[str], catalogue: Sequence[str]) -> ValidTitles:
    """Share of written titles that are titles of the catalogue.

    Raises:
        ValueError: If nothing was written.
    """
    if not len(written):
        raise ValueError("expected at least one written title, got none")
    exact, normalised = existing(written, catalogue)
    return ValidTitles(exact=sum(exact) / len(written), normalised=sum(normalised) / len(written))


def existing(written: Sequence[str], catalogue: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Which written titles are titles of the catalogue, exactly and normalised; see above."""
    titles, spaced = set(catalogue), set(map(normalised, catalogue))
    return (
        [title in titles for title in written],
        [normalised(title) in spaced for title in written],
    )


def normalised(title: str) -> str:
    """A title whose runs of white space are one space, with none at the ends."""
    return " ".join(title.split())


@torch.no_grad()
def write_titles(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    within: CodeTrie | None = None,
    **settings: Any,
) -> list[str]:
    """Let ``generate`` write after prompts, freely or within a catalogue.

    Args:
        model: A causal language model of ``transformers`` in eval mode.
        tokenizer: Its tokenizer, with an end token.
        prompts: Token ids of each; shorter ones are padded on the left.
        within: The catalogue's titles in the model's own tokens, if nothing else may be written
            (``TrieLogitsProcessor``). A path begins where the prompt ends, whatever stands there.
        settings: Of ``generate``, such as ``max_new_tokens`` or ``num_beams``. Unless they say
            otherwise, nothing is sampled and repeating costs nothing, whatever the model's own are.

    Returns:
        What was written after each prompt up to the end token, without special tokens; as many for
        a prompt as ``num_return_sequences``, one after another.

    Raises:
        ValueError: If the tokenizer has no end token.
    """
    end = _end_token(tokenizer)
    longest = max(map(len, prompts))
    ids = torch.tensor([[end] * (longest - len(row)) + list(row) for row in prompts])
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
    with quietly():  # of settings of its own that do not apply
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=real.to(model.device),
            logits_processor=[] if within is None else [_AfterPrompts(within, longest, end)],
            eos_token_id=end,
            pad_token_id=end,
            **{"do_sample": False, "repetition_penalty": 1.0, "length_penalty": 1.0, **settings},
        )
    texts: list[str] = tokenizer.batch_decode(
        written[:, longest:], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


class _AfterPrompts:
    """A logits processor that keeps what is written behind prompts of one length to a trie."""

    def __init__(self, trie: CodeTrie, length: int, end: int) -> None:
        from semid.generation import TrieLogitsProcessor

        self._length, self._start = length, trie.num_tokens  # no token of any text
        self._within = TrieLogitsProcessor(trie, start=self._start, end=end)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        written = input_ids[:, self._length :]
        start = written.new_full((len(written), 1), self._start)
        return self._within(torch.cat([start, written], dim=1), scores)


def _end_token(tokenizer: Any) -> int:
    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise ValueError(
            "expected a tokenizer with an end token, got one without. Set tokenizer.eos_token to "
            "the token that ends a text in the model's training."
        )
    return end
