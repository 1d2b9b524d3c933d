"""Settings specific to single language-model recommenders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from baselines.nn.config import MOST_WIDE
from semid.checks import require_int, require_text
from semid.field_types import require_types

ITEM = '"{item}" {vector}'
"""An item of the history: its title, followed by its vector."""


def require_slots(name: str, text: str, slots: Sequence[str]) -> None:
    """Raise unless each of ``slots`` occurs exactly once in a text of the prompt.

    Raises:
        ValueError: Names the slot.
    """
    for slot in slots:
        if text.count(slot) != 1:
            raise ValueError(f"{name} must contain {slot} exactly once, got {text!r}")


ALLMREC_TEMPLATE = (
    "{user} is a user.\n"
    "Below are the items that the user has chosen, oldest first.\n"
    "Items: {history}\n"
    "Name the item that the user will choose next.\n"
    "Next item: "
)


@dataclass(frozen=True, kw_only=True)
class AllmrecConfig:
    """Settings specific to A-LLMRec.

    Attributes:
        template: The prompt, with ``{history}`` and ``{user}`` exactly once each.
        item: An item of the history, with ``{item}`` and ``{vector}`` exactly once each.
        embeddings: Embeddings of the items' texts, as for ``--ids.embeddings``.
        text: Template of the text to embed; None for all text fields.
        targets: Targets of an epoch in both stages: ``all`` training targets, or only the ``last``
            of each user, as in the released code.

    Raises:
        ValueError: If a slot is missing, or ``targets`` is unknown.
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
    """Settings specific to BIGRec.

    Attributes:
        beams: Beam width when generating a title; 4 in the paper's code.

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
    """Settings specific to CoLLM.

    Attributes:
        template: Prompt of the second stage, with ``{history}`` and ``{user}`` exactly once each;
            the first stage uses ``lm.template``.
        item: An item of its history, with ``{item}`` and ``{vector}`` exactly once each; the first
            stage uses ``lm.item``.
        expansion: Width of the projector's hidden layer, as a multiple of the teacher's width; 10
            or 15 in the released settings, 5 in TCA4Rec's port.
        together: Learn adapters and projector in one stage, from prompts with vectors, as TCA4Rec's
            ``--use_feature`` does; ``lm.template`` and ``lm.item`` are then ignored.

    Raises:
        ValueError: If a slot is missing, or ``expansion`` is below 1.
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
    """Settings specific to LLaRA.

    Attributes:
        item: An item of the history with its vector, with ``{item}`` and ``{vector}`` exactly once
            each; text-only prompts use ``lm.item``.
        curriculum: Which batches contain vectors. ``paper``: a batch does with probability equal to
            the completed share of training. ``released``: as in the released code, whose step
            counter restarts every epoch but is divided by the steps of all epochs, so that with
            five epochs the probability rises from 0 to 1/5 in each; drawn per micro-batch
            (``accumulate``). ``none``: every batch from the first step, as TCA4Rec's
            ``--use_feature`` learns projector and adapters jointly.

    Raises:
        ValueError: If a slot is missing, or the curriculum is unknown.
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
    """Settings of the yes/no questions.

    Attributes:
        template: The question, with ``{history}`` exactly once and then ``{candidate}`` exactly
            once.
        yes: The answer for the next item.
        no: The answer for any other item.
        candidates: Number of the teacher's best items that are re-ranked by questions.

    Raises:
        ValueError: If a value is out of its range, or the answers are not distinct.
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
                "template must contain {history} exactly once, and {candidate} exactly once "
                f"after it, got {self.template!r}"
            )
        if self.yes == self.no or not self.yes.strip() or not self.no.strip():
            raise ValueError(
                f"yes and no must be two different answers, got {self.yes!r} and {self.no!r}"
            )
