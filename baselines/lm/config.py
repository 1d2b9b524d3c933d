"""Settings of the language-model backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baselines.nn.config import MOST_ITEMS, MOST_WIDE
from semid.checks import require_int, require_real, require_text
from semid.field_types import require_types

Items = Literal["titles", "codes"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal["none", "8bit", "4bit"]

ATTENTION = "q_proj,k_proj,v_proj,o_proj"
"""The layers adapted by TCA4Rec's released code; MSL's adapts ``q_proj,v_proj``."""

TEMPLATE = (
    "Below are the items that a user has chosen, oldest first.\n"
    "Items: {history}\n"
    "Name the item that the user will choose next.\n"
    "Next item: "
)


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters of the base (arXiv:2106.09685), through ``peft``.

    The defaults are those of TCA4Rec's released code.

    Attributes:
        r: Rank of the adapters; 0 trains all weights of the base instead.
        alpha: The adapters' output is multiplied by ``alpha / r``.
        dropout: Dropout on the adapters' input.
        target: Comma-separated names of the adapted layers; ``all-linear`` for all linear layers
            but the output matrix.
        dora: Learn magnitude and direction of each row separately (arXiv:2402.09353).

    Raises:
        ValueError: If a value is out of its range, or DoRA is requested without adapters.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target: str = ATTENTION
    dora: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        require_int("r", self.r, 0, MOST_WIDE)
        require_int("alpha", self.alpha, 1, MOST_WIDE)
        require_real("dropout", self.dropout, low=0, below=1)
        require_text("target", self.target)
        if self.dora and self.r == 0:
            raise ValueError("dora needs adapters, got r 0. Set r, or leave dora out.")


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A language model that generates the next item, and its prompt.

    Attributes:
        model: Folder or hub id of a causal language model with its tokenizer.
        items: How items are generated: ``titles``, in the model's own tokens and ended by the end
            token; or ``codes``, each a token added to the vocabulary.
        title: An item's title, as a template over the catalogue's columns.
        template: The prompt, with ``{history}`` exactly once.
        item: An item of the history, with ``{item}``, its title or codes, exactly once.
        separator: Text between two items of the history.
        chat: Whether to wrap the prompt as a user turn with the tokenizer's chat template.
        max_history: Maximum number of history items; 10 in TCA4Rec.
        max_length: Maximum number of tokens of a prompt and its answer; None for the model's
            context. Longer prompts lose their oldest items.
        prompt_loss: Whether prompt tokens have a loss too, as next tokens over the whole
            vocabulary, in one mean with those of the answer. None follows each recommender's
            released code: true for TALLRec and BIGRec, false for all others.
        init: Initial value of an added token: the mean of the title tokens of its items
            (``titles``), or the mean of the vocabulary plus noise (``vocabulary``).
        lora: Adapters; ``r`` 0 trains the whole base.
        dtype: Type of the frozen weights; ``auto`` is that of the base's files. Trained weights are
            float32.
        quantize: Load the base in 8 or 4 bits (``bitsandbytes``, on a GPU; QLoRA,
            arXiv:2305.14314).
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        shard: Whether to shard the frozen layers over processes while training (FSDP). Validation
            and decoding gather them. Affects memory only, not what is learned.

    Raises:
        ValueError: If a value is out of its range or contradicts another.
    """

    model: str = ""
    items: Items = "titles"
    title: str = "{title}"
    template: str = TEMPLATE
    item: str = '"{item}"'
    separator: str = ", "
    chat: bool = False
    max_history: int = 10
    max_length: int | None = None
    prompt_loss: bool | None = field(default=None, metadata={"before": False})
    init: Literal["titles", "vocabulary"] = "titles"
    lora: LoraSettings = field(default_factory=LoraSettings)
    dtype: Dtype = "auto"
    quantize: Quantization = "none"
    gradient_checkpointing: bool = False
    shard: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)
        if self.max_length is not None:
            require_int("max_length", self.max_length, 1)
        for name, named in (("template", "{history}"), ("item", "{item}")):
            if getattr(self, name).count(named) != 1:
                raise ValueError(
                    f"{name} must contain {named} exactly once, got {getattr(self, name)!r}"
                )
        if self.quantize != "none" and self.lora.r == 0:
            raise ValueError(
                f"a base in {self.quantize} cannot itself be trained, got r 0. "
                "Set lora.r, or leave quantize out."
            )
        if self.shard and (self.lora.r == 0 or self.quantize != "none"):
            raise ValueError(
                f"shard needs a frozen, unquantised base, got r {self.lora.r} and "
                f"quantize {self.quantize}. Set lora.r and leave quantize out, or leave shard out."
            )
