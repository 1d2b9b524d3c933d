"""Settings that language-model recommenders do not share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from baselines.nn.config import MOST_WIDE
from semid.checks import require_int, require_text
from semid.field_types import require_types

ITEM = '"{item}" {vector}'
"""An item of a history: its title, and then its vector."""


def require_slots(name: str, text: str, slots: Sequence[str]) -> None:
    """Refuse a text of a prompt in which one of ``slots`` does not stand once.

    Raises:
        ValueError: Says which.
    """
    for slot in slots:
        if text.count(slot) != 1:
            raise ValueError(f"{name} must hold {slot} once, got {text!r}")


ALLMREC_TEMPLATE = (
    "{user} is a user.\n"
    "Below are the items that the user has chosen, oldest first.\n"
    "Items: {history}\n"
    "Name the item that the user will choose next.\n"
    "Next item: "
)


@dataclass(frozen=True, kw_only=True)
class AllmrecConfig:
    """What A-LLMRec does not share with other language models.

    Attributes:
        template: The prompt, with ``{history}`` and ``{user}`` once.
        item: An item of the history, with ``{item}`` and ``{vector}`` once.
        embeddings: Embeddings of the items' texts: ``lsa``, a sentence-transformers model, an
            artefact folder, or a ``.npy`` file with one row an item.
        text: Text of an item where it is embedded; None for all its text fields.
        targets: What an epoch of either stage learns from: every training target, or the ``last``
            of each user alone, as in the released code.

    Raises:
        ValueError: If one of the slots is missing, or targets are neither.
    """

    template: str = ALLMREC_TEMPLATE
    item: str = ITEM
    embeddings: str = "lsa"
    text: str | None = None
    targets: Literal["all", "last"] = field(default="all", metadata={"before": "all"})

    def __post_init__(self) -> None:
        require_types(self)
        require_text("embeddings", self.embeddings)
        require_slots("template", self.template, ("{history}", "{user}"))
        require_slots("item", self.item, ("{item}", "{vector}"))


@dataclass(frozen=True, kw_only=True)
class BigrecConfig:
    """How BIGRec writes.

    Attributes:
        beams: Of the search for the title that is written; the paper's code takes 4.

    Raises:
        ValueError: If ``beams`` is below 1.
    """

    beams: int = 4

    def __post_init__(self) -> None:
        require_int("beams", self.beams, 1)


COLLM_TEMPLATE = (
    "Below are the items that a user has chosen, oldest first.\n"
    "Items: {history}\n"
    "The preferences of the user are told by the feature {user}.\n"
    "Name the item that the user will choose next.\n"
    "Next item: "
)


@dataclass(frozen=True, kw_only=True)
class CollmConfig:
    """What CoLLM does not share with other language models.

    Attributes:
        template: The prompt of the second stage, with ``{history}`` and ``{user}`` once;
            ``lm.template`` is that of the first.
        item: An item of its history, with ``{item}`` and ``{vector}`` once; ``lm.item`` is that of
            the first.
        expansion: Width of the projector's hidden layer, in widths of the teacher; the released
            settings have 10 or 15, TCA4Rec's port 5.
        together: Learn adapters and projector in one stage, from prompts with vectors, as TCA4Rec's
            ``--use_feature`` does; ``lm.template`` and ``lm.item`` then count for nothing.

    Raises:
        ValueError: If one of them is missing, or the width is below 1.
    """

    template: str = COLLM_TEMPLATE
    item: str = ITEM
    expansion: int = 5
    together: bool = field(default=False, metadata={"before": False})

    def __post_init__(self) -> None:
        require_types(self)
        require_slots("template", self.template, ("{history}", "{user}"))
        require_slots("item", self.item, ("{item}", "{vector}"))
        require_int("expansion", self.expansion, 1, MOST_WIDE)


Curriculum = Literal["paper", "released", "none"]


@dataclass(frozen=True, kw_only=True)
class LlaraConfig:
    """What LLaRA does not share with other language models.

    Attributes:
        item: An item of the history where it has its vector, with ``{item}`` and ``{vector}``
            once; ``lm.item`` is the text-only one.
        curriculum: Which batches have vectors. ``paper``: with the probability that is the share of
            the training done. ``released``: as in the code, whose count of steps restarts with each
            epoch and is divided by the steps of all epochs, so that of five epochs each rises from
            0 to 1/5; drawn for each part of a batch (``accumulate``). ``none``: all of them, from
            the first step, as TCA4Rec's ``--use_feature`` learns projector and adapters together.

    Raises:
        ValueError: If a slot is missing, or there is no such curriculum.
    """

    item: str = ITEM
    curriculum: Curriculum = field(default="paper", metadata={"before": "paper"})

    def __post_init__(self) -> None:
        require_types(self)
        require_slots("item", self.item, ("{item}", "{vector}"))


YES_NO_TEMPLATE = (
    "Below are the items that a user has chosen, oldest first.\n"
    "Items: {history}\n"
    "Will the user choose {candidate} next? Answer Yes or No.\n"
    "Answer: "
)


@dataclass(frozen=True, kw_only=True)
class YesNoConfig:
    """What is asked about a candidate, and about which.

    Attributes:
        template: The question, with ``{history}`` once and ``{candidate}`` once after it.
        yes: The answer about the next item.
        no: The answer about any other.
        candidates: So many of the teacher's best items are asked about when all are ranked.

    Raises:
        ValueError: If a value is out of its range, or the answers are not two.
    """

    template: str = YES_NO_TEMPLATE
    yes: str = "Yes"
    no: str = "No"
    candidates: int = 20

    def __post_init__(self) -> None:
        require_types(self)
        require_int("candidates", self.candidates, 1)
        before, _, after = self.template.partition("{history}")
        if "{candidate}" in before or after.count("{candidate}") != 1 or "{history}" in after:
            raise ValueError(
                "template must hold {history} once and {candidate} once after it, "
                f"got {self.template!r}"
            )
        if self.yes == self.no or not self.yes.strip() or not self.no.strip():
            raise ValueError(f"yes and no must be two answers, got {self.yes!r} and {self.no!r}")
