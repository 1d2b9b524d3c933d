"""A language model as a backbone: it reads a prompt and generates a title or codes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone, BuildContext
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.lm.adapters import adapt
from baselines.lm.config import LanguageModelConfig
from baselines.lm.loading import Base, load_base, load_outline, logit_cap, project
from baselines.lm.prompts import Prompts, positions, words_around
from baselines.lm.tokens import AddedTokens, add_code_tokens, first_rows
from baselines.teachers.model import TeacherModel
from semid.catalog import Catalog
from semid.distributed import distributed_state
from semid.prefixes import Prefixes
from semid.provenance import hash_arrays, hash_json
from semid.titles import title_paths
from tca.candidates import Positions
from tca.objective import ObjectiveOutput
from tca.projection import Projection, next_token_loss

if TYPE_CHECKING:
    from baselines.lm.prefixes import LanguagePrefixes
    from baselines.lm.sharding import SharedLayers

logger = logging.getLogger(__name__)

_AT_ONCE = 4096  # prompts whose lengths are computed at a time


class LanguageBackbone(Backbone):
    """Any causal language model of ``transformers``, with adapters, over titles or codes.

    One pass reads a prompt and its answer. Only the answer has a loss, and only its states are
    projected onto the vocabulary. The end token distinguishes a title from longer ones that start
    with it; items with equal titles share a leaf and its score.

    Args:
        config: Base model, prompt, and what is trained.
        context: Catalogue, semantic IDs and seed. With titles, the catalogue is required and the
            codes are ignored.

    Raises:
        ValueError: If the model, its tokenizer or the titles cannot be used; the message says
            which and why.
    """

    label: ClassVar[str] = "LM"
    config_class: ClassVar[type[Any]] = LanguageModelConfig
    pad_positions_to: ClassVar[int] = 1  # an extra row of vocabulary logits is expensive
    adapted: ClassVar[bool] = True
    """Whether the base is trained as ``lora`` says; else it is frozen."""
    reads_vectors: ClassVar[bool] = False
    """Whether prompts contain vectors, so the language model alone is not the whole."""
    prompt_loss: ClassVar[bool] = False
    """Default of ``prompt_loss`` if the settings do not say."""

    def __init__(self, config: LanguageModelConfig, context: BuildContext) -> None:
        codes, sizes, catalog, seed = context.codes, context.sizes, context.catalog, context.seed
        base = load_base(config)
        rows = base.model.get_input_embeddings().weight.shape[0]
        titles = _titles(config, catalog)
        if config.items == "titles":
            paths, num_tokens = _title_paths(base.tokenizer, config, titles, catalog), rows
        else:
            vocab = add_code_tokens(base.tokenizer, sizes, rows)
            paths, num_tokens = vocab.tokens(codes.cpu()), vocab.num_tokens
        super().__init__(paths, num_tokens)
        self.config = config
        self.end_token = config.items == "titles"
        self.tokenizer = base.tokenizer
        self.added: AddedTokens | None = None
        self.context = base.context
        self.prompts = self.write_prompts(config)
        self._input_hashes = {
            "base": base.content,
            "paths": hash_arrays(paths.numpy()),
            "prompts": self.prompts.content_hash(),
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if config.items == "codes":
                words = titles if config.init == "titles" else None
                self.added = _code_rows(base, vocab.offsets[0], codes, sizes, words, seed)
                self._input_hashes["words"] = hash_json(words)
            self.lm: Any = adapt(base.model, config.lora) if self.adapted else base.model
        if not self.adapted:
            self.lm.requires_grad_(False)
        self._shared: SharedLayers | None = None
        if config.gradient_checkpointing:
            base_model = self.base  # older versions only have the older name
            name = "activation_checkpointing_enable"
            getattr(base_model, name, base_model.gradient_checkpointing_enable)()

    def train(self, mode: bool = True) -> Self:
        """Switch between training and eval mode; sharded layers are gathered for eval.

        With sharded layers, a collective call: every process must make it.
        """
        super().train(mode)
        if (
            mode
            and self._shared is None
            and self.config.shard
            and distributed_state().num_processes > 1
        ):
            from baselines.lm.sharding import SharedLayers

            self._shared = SharedLayers(self.base.get_decoder())
        if self._shared is not None:
            (self._shared.share_out if mode else self._shared.gather)()
        return self

    @classmethod
    def require_fit(cls, config: Any, catalog: Catalog, teacher: type[Any]) -> None:
        """Check that the backbone can be built, without loading weights."""
        cls.require_settings(config, len(catalog))
        require_usable(config, catalog, adapted=cls.adapted)
        if cls.needs_teacher:
            cls.require_teacher(teacher)

    @classmethod
    def learns_prompts(cls, setting: bool | None) -> bool:
        """Whether prompts have a loss: ``setting``, or by default as in the released code."""
        return cls.prompt_loss if setting is None else setting

    @classmethod
    def training_settings(cls, config: Any, extra: Any) -> dict[str, Any]:
        """The settings, with ``prompt_loss`` resolved."""
        config = dataclasses.replace(config, prompt_loss=cls.learns_prompts(config.prompt_loss))
        return super().training_settings(config, extra)

    @classmethod
    def require_settings(cls, config: LanguageModelConfig, num_items: int) -> None:
        """Check, before anything is trained, that the recommender supports these settings.

        Args:
            config: The settings.
            num_items: Size of the catalogue.

        Raises:
            ValueError: If it does not; the message says which setting and what to do.
        """

    @classmethod
    def require_teacher(cls, teacher: type[TeacherModel]) -> None:
        """Check that a class of teachers has what this recommender reads.

        Raises:
            ValueError: If it lacks something; the message says what.
        """

    @property
    def base(self) -> Any:
        """The language model itself, including its adapters."""
        has_adapters = self.adapted and self.config.lora.r > 0
        return self.lm.get_base_model() if has_adapters else self.lm

    @property
    def input_hashes(self) -> dict[str, str]:
        """Hashes of the base, the paths, the prompts and the texts that initialise added tokens."""
        return dict(self._input_hashes)

    @property
    def max_history(self) -> int:
        """Maximum number of history items."""
        return self.config.max_history

    def write_prompts(self, config: LanguageModelConfig, *, slots: Sequence[str] = ()) -> Prompts:
        """Prompts in the wording of ``config``, with items spelled as in the paths."""
        items, answer, context = self.spelled_items(), self.trie.depth, self.context
        return Prompts(self.tokenizer, config, items, answer=answer, context=context, slots=slots)

    def spelled_items(self) -> list[list[int]]:
        """The tokens of each item, without an end token."""
        return _spelled(self.paths, self.end_token)

    def prompts_of(self, batch: TrainBatch | None) -> Prompts:
        """The prompts for the histories of ``batch``, or for decoding (None)."""
        return self.prompts

    def windows(self, data: SequenceSet) -> Windows:
        """One window per target; logs how many prompts are too long and lose items."""
        windows = Windows.per_target(data, self.config.max_history)
        parts = np.array_split(np.arange(len(windows)), len(windows) // _AT_ONCE + 1)
        pasts = (windows.batch(part).windows.without_last() for part in parts if len(part))
        count = sum(int(self.prompts.shortened(past.to(self.paths.device)).sum()) for past in pasts)
        if count:
            logger.warning(
                "%d of %d prompts are too long and lose their oldest items", count, len(windows)
            )
        return windows

    def forward(self, batch: TrainBatch, at: Positions) -> Tensor | Projection:
        """Teacher-forced logits, as a ``Projection`` unless the base caps its logits."""
        return self._projected(self.answer_states(batch, at))

    def _projected(self, states: Tensor) -> Tensor | Projection:
        if logit_cap(self.base) is not None:
            return self.token_logits(states)
        weight, bias = self._output()
        return Projection(states=states.to(weight[0].dtype), weight=weight, bias=bias)

    def loss(
        self,
        batch: TrainBatch,
        at: Positions,
        of_paths: Callable[[Tensor | Projection], ObjectiveOutput],
    ) -> ObjectiveOutput:
        """The loss of the answers, combined with that of the prompts if they have one.

        Every prompt token but the first is then predicted with cross-entropy over the whole
        vocabulary, whatever the answers' loss; slots filled by vectors are excluded. The result is
        one mean over all supervised tokens, as if no label of the sequence were masked.

        Returns:
            The loss; its part ``prompt`` is the loss of the prompts alone.
        """
        if not self.learns_prompts(self.config.prompt_loss):
            return super().loss(batch, at, of_paths)
        states, prompt, mask = self._read_answers(batch, at)
        answers = of_paths(self._projected(_of_answers(states, prompt, at)))
        supervised = mask[:, :-1] & mask[:, 1:] & (prompt[:, 1:] >= 0)
        row, pos = supervised.nonzero(as_tuple=True)
        loss = next_token_loss(self._projected(states[row, pos]), prompt[row, pos + 1])
        count = answers.count + len(row)
        share = len(row) / count.clamp_min(1)
        return ObjectiveOutput(
            loss=answers.loss * (1 - share) + loss * share,
            parts={**answers.parts, "prompt": loss.detach()},
            count=count,
        )

    def answer_states(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Last hidden states at the positions of ``forward``, the input of ``token_logits``.

        Returns:
            Float ``(position, dim)``.
        """
        states, prompt, _ = self._read_answers(batch, at)
        return _of_answers(states, prompt, at)

    def _read_answers(self, batch: TrainBatch, at: Positions) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states of prompts and answers; tokens and mask of the prompts."""
        prompt, real = self.target_prompts(batch)
        steps = (
            int(at.pos.max()) if len(at.pos) else 0
        )  # answer tokens that a supervised position depends on
        answer = self.paths[batch.target_items, :steps].clamp_min(0)
        mask = torch.cat([real, torch.ones_like(answer, dtype=torch.bool)], dim=1)
        past = batch.windows.without_last()
        tokens = torch.cat([prompt, answer], dim=1)
        return self.read(tokens, mask, positions(mask), past=past), prompt, real

    def target_prompts(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Tokens and mask of the prompts that the targets answer.

        Returns:
            int64 and bool ``(target, pos)``; the last position is real.
        """
        prompts: tuple[Tensor, Tensor] = self.prompts_of(batch)(batch.windows.without_last())
        return prompts

    def start(self, histories: Histories) -> Prefixes:
        """Encode each prompt once."""
        tokens, mask = self.prompts_of(None)(histories)
        return self.read_prompts(tokens, mask, histories)

    def read_prompts(self, tokens: Tensor, mask: Tensor, past: Histories) -> LanguagePrefixes:
        """``baselines.lm.prefixes.read_prompts``, with this model."""
        from baselines.lm.prefixes import read_prompts  # lazy: it imports transformers

        return read_prompts(self, tokens, mask, past)

    def embed(self, tokens: Tensor) -> Tensor:
        """Input embeddings of tokens int64 ``(...)``; float ``(..., dim)``."""
        embedding = self.base.get_input_embeddings()
        if self.added is not None:
            return self.added.embed(embedding, tokens)
        vectors: Tensor = embedding(tokens)
        return vectors

    def inputs(self, tokens: Tensor, past: Histories | None) -> dict[str, Tensor]:
        """The language model's inputs for tokens, by argument name.

        Args:
            tokens: int64 ``(batch, pos)``.
            past: The histories of the prompts among them; None if there is no prompt.
        """
        if self.added is None:
            return {"input_ids": tokens}
        return {"inputs_embeds": self.embed(tokens)}

    def read(
        self,
        tokens: Tensor,
        mask: Tensor,
        position: Tensor,
        cache: Any = None,
        *,
        past: Histories | None = None,
    ) -> Tensor:
        """Last hidden states of the language model; float ``(batch, pos, dim)``.

        Args:
            tokens: int64 ``(batch, pos)``.
            mask: Padding mask ``(batch, pos)``, or attention mask ``(batch, 1, pos, seen)``.
            position: int64 ``(batch, pos)``, position ids.
            cache: Keys and values of earlier tokens.
            past: The histories of the prompts among the tokens.
        """
        states: Tensor = self.base.get_decoder()(
            **self.inputs(tokens, past),
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states

    def token_logits(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of ``tokens`` (default: all) from last hidden states.

        Args:
            states: Float ``(..., dim)``.
            tokens: int64 ``(n,)``.

        Returns:
            Float ``(..., n)`` or ``(..., token)``.
        """
        weight, bias = self._output()
        if tokens is None:
            logits = [project(self.base, states, part, bias) for part in weight]
            return logits[0] if self.added is None else torch.cat(logits, dim=-1)
        if self.added is not None:
            head = self.base.get_output_embeddings()
            return project(self.base, states, self.added.output_of(head.weight, tokens), None)
        of_tokens = None if bias is None else bias[tokens]
        return project(self.base, states, weight[0][tokens], of_tokens)

    def _output(self) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The output matrix, split around any added tokens, and its bias."""
        head = self.base.get_output_embeddings()
        if self.added is None:
            return (head.weight,), getattr(head, "bias", None)
        known, own = head.weight, self.added.output_table().to(head.weight.dtype)
        first, last = self.added.first, self.added.first + len(own)
        # slicing trained weights would allocate a gradient of the full size
        before = known if first == len(known) else known[:first]
        return (before, own, *([known[last:]] if last < len(known) else [])), None


def require_usable(config: LanguageModelConfig, catalog: Catalog, *, adapted: bool) -> None:
    """Check, without loading weights, that ``LanguageBackbone`` can be built.

    Args:
        config: Base model, prompt, and what is trained.
        catalog: The items to generate.
        adapted: Whether ``lora`` applies.

    Raises:
        ValueError: If the model, its tokenizer, the titles, the prompt length (with titles) or the
            adapted layers are unusable.
    """
    outline = load_outline(config)
    tokenizer, context = outline.tokenizer, outline.context
    words_around(tokenizer, config)
    if config.items == "titles":
        paths = _title_paths(tokenizer, config, _titles(config, catalog), catalog)
        items = _spelled(paths, end_token=True)
        Prompts(tokenizer, config, items, answer=paths.shape[1], context=context)
    if adapted:
        with torch.random.fork_rng():
            adapt(outline.model, config.lora)


def _of_answers(states: Tensor, prompt: Tensor, at: Positions) -> Tensor:
    return states[at.target, prompt.shape[1] - 1 + at.pos]


def _spelled(paths: Tensor, end_token: bool) -> list[list[int]]:
    own = [row[row >= 0].tolist() for row in paths]
    return [row[:-1] for row in own] if end_token else own


def _titles(config: LanguageModelConfig, catalog: Catalog | None) -> list[str] | None:
    """The title of each item; None if there are none and codes are generated."""
    try:
        return None if catalog is None else catalog.texts(config.title)
    except ValueError as error:
        if config.items == "codes":
            return None
        raise ValueError(
            f"a language model that generates titles needs a catalogue with titles: {error}. Name "
            "their column with --backbones.lm.title, or use --backbones.lm.items codes."
        ) from error


def _title_paths(
    tokenizer: Any, config: LanguageModelConfig, titles: list[str] | None, catalog: Catalog | None
) -> Tensor:
    if titles is None or catalog is None:
        raise ValueError("a language model that generates titles needs a catalogue, got none")
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"expected a tokenizer with an end token, got that of {config.model!r}, without one. "
            "Set eos_token in its tokenizer_config.json, or use --backbones.lm.items codes."
        )
    return title_paths(titles, tokenizer, item_ids=catalog.item_ids).paths


def _code_rows(
    base: Base,
    first: int,
    codes: Tensor,
    sizes: tuple[int, ...],
    titles: list[str] | None,
    seed: int,
) -> AddedTokens:
    """The added tokens, as initialised before training."""
    embedding, head = base.model.get_input_embeddings(), base.model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ValueError(
            f"codes cannot be added to {type(base.model).__name__}, whose output has a bias per "
            "token. Use --backbones.lm.items titles."
        )
    tokens = None
    if titles is not None:
        tokens = base.tokenizer(titles, add_special_tokens=False)["input_ids"]
    generator = torch.Generator().manual_seed(seed)
    tables = [embedding.weight, head.weight]
    rows, output = (first_rows(table, codes, sizes, tokens, generator) for table in tables)
    tied = embedding.weight is head.weight
    return AddedTokens(embedding, first, rows, None if tied else output)
