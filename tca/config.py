"""Settings of an objective."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from semid.checks import require_choice, require_real
from semid.field_types import require_types

Trust = Literal[
    "constant",
    "entropy",
    "margin",
    "history",
    "short_history",
    "popularity",
    "rarity",
    "learned",
]


HALF = 5.0
"""The count at which a count-based trust is one half."""


@dataclass(frozen=True, kw_only=True)
class AlphaPolicy:
    """How alpha varies across positions and over training.

    Attributes:
        by: What alpha is proportional to: nothing (``constant``); the teacher's confidence, as
            ``entropy_confidence`` or ``margin``; ``history``, ``n / (n + half)`` for ``n`` items
            before the target, or ``short_history``, one minus that; ``popularity``, the same of the
            target's number of training events, or ``rarity``, one minus that; ``learned``, an
            ``AlphaGate``.
        start: Initial share of the training with alpha 0, in ``[0, 1]``.
        rise: Share of the training over which alpha then rises to its value; 0 for a step.
        cap: Whether to cap alpha at ``largest_alpha``, which keeps the target the label's mode.
        half: Count at which a count-based trust is one half, above 0.
        gate: Weight of the learned gate's regulariser, at least 0.

    Raises:
        ValueError: If a value is out of range or does not apply to ``by``.
    """

    by: Trust = "constant"
    start: float = 0.0
    rise: float = 0.0
    cap: bool = False
    half: float = HALF
    gate: float = 1.0

    def __post_init__(self) -> None:
        require_choice("an alpha policy", self.by, get_args(Trust))
        require_types(self)
        if not (self.start >= 0 and self.rise >= 0 and self.start + self.rise <= 1):
            raise ValueError(
                f"start and rise are shares of the training that together lie in [0, 1], got "
                f"start {self.start} and rise {self.rise}"
            )
        require_real("half", self.half, above=0)
        require_real("gate", self.gate, low=0)
        if self.half != HALF and self.by not in TRUST_BY_COUNTS:
            raise ValueError(f"half belongs to {', '.join(TRUST_BY_COUNTS)}, not to {self.by}")
        if self.gate != 1 and self.by != "learned":
            raise ValueError(f"gate belongs to learned, not to {self.by}")


TRUST_BY_COUNTS: dict[str, tuple[str, bool]] = {  # context field, and whether alpha rises with it
    "history": ("history_length", True),
    "short_history": ("history_length", False),
    "popularity": ("popularity", True),
    "rarity": ("popularity", False),
}


_PLAIN = "tca.losses:next_token"

OBJECTIVES = {
    "ntp": _PLAIN,
    "msl": _PLAIN,
    "letter": _PLAIN,
    "soft_ntp": "tca.losses:soft_ntp",
    "soft_ce": "tca.losses:soft_ce",
    "aux_kl": "tca.functional:aux_kl_loss",
}
"""The built-in objectives: by name, the path of a function with the signature of
`tca.losses.LossFunction`."""


LabelSource = Literal["teacher", "uniform_tokens", "uniform_items"]


Mean = Literal["all", "branching"]


Reference = Literal["bfloat16", "end", "linear"]


SMALLEST_TAU = 1e-6
"""Below this, or above its inverse, logits divided by tau leave float32's range."""

LETTER_TAU = 0.7
"""Temperature of LETTER's loss: the author's for Instruments, to be tuned in [0.7, 1]."""


_ALIGNED = tuple(name for name, loss in OBJECTIVES.items() if loss != _PLAIN)


_LINEAR = ("ntp", "msl", "soft_ntp")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Which loss to train with.

    Attributes:
        name: ``ntp``, next-token prediction; ``msl``, the same over valid tokens only with a
            temperature (arXiv:2504.04178); ``letter``, the same with or without the mask and a
            temperature of its own, which below 1 penalises the strongest wrong tokens most
            (ranking-guided generation loss, arXiv:2405.07314); ``soft_ntp``, TCA4Rec's
            ``-log sum y P`` (arXiv:2601.18457); ``soft_ce``, the soft cross-entropy
            ``-sum y log P``; ``aux_kl``, ``-log P(target) + alpha KL(p, P)``, TCA4Rec without soft
            alignment; or ``package.module:function`` with the signature of
            `tca.losses.LossFunction`.
        alpha: Weight of the teacher, in ``[0, 1]``. 0, the default of the released code, is plain
            ``ntp``; its documented run uses 0.1.
        policy: How alpha varies across positions and over training.
        labels: Source of the distribution ``p`` in the soft labels: the teacher or, without one, a
            uniform distribution over the valid tokens or over the items below (TCA4Rec without its
            Collaborative Tokenizer).
        tau: Temperature of the model's softmax, from 1e-6 to 1e6. TCA4Rec's released code uses 4.5
            with the mask and 1 without; LETTER's paper ``LETTER_TAU`` to 1, its scripts 1.
            ``adaptive`` is MSL's ATS: a running temperature (``AdaptiveTemperature``) that also
            multiplies the loss; it needs the mask, and its authors use the ``branching`` mean.
        masked: Whether the softmax is over the valid tokens or the whole vocabulary. ``msl`` is
            masked by definition.
        mean: Positions that the loss averages over: ``all`` of the paths, as in TCA4Rec's released
            code, or only ``branching`` ones, which have more than one valid token. Under the mask
            the others have zero loss and only scale the mean; over the vocabulary their loss is
            nonzero and ``branching`` omits it.
        reference: Choices of TCA4Rec's released code to reproduce. ``bfloat16``: the teacher's
            vectors and scores are rounded (by the caller that computes them, not by ``Objective``).
            ``end``: neither the last token of an item nor the end token, which that code does not
            append, has a loss; a title of one token has none at all. ``linear``: probabilities are
            summed outside log space (``linear_soft_ntp_loss``).
        on_policy: Share of the targets at which the student also writes a path itself; below its
            prefixes that are not the target's it learns the teacher's distribution alone (by the
            caller that can write paths, not by ``Objective``). Needs a teacher and a fixed ``tau``.

    Raises:
        ValueError: If a value is out of range or contradicts the name.
    """

    name: str = "ntp"
    alpha: float = 0.0
    policy: AlphaPolicy = field(default_factory=AlphaPolicy)
    labels: LabelSource = "teacher"
    tau: float | Literal["adaptive"] = 1.0
    masked: bool = True
    mean: Mean = "all"
    reference: tuple[Reference, ...] = ()
    on_policy: float = field(default=0.0, metadata={"before": 0.0})

    def __post_init__(self) -> None:
        require_types(self)
        if ":" not in self.name:
            require_choice("objective", self.name, tuple(OBJECTIVES))
        require_real("alpha", self.alpha, low=0, high=1)
        if not self.is_aligned and self.alpha > 0:
            raise ValueError(
                f"{self.name} has no teacher, so alpha must be 0, got {self.alpha}. "
                f"Take {', '.join(_ALIGNED[:-1])} or {_ALIGNED[-1]}."
            )
        if not self.is_aligned and (self.labels != "teacher" or self.policy != AlphaPolicy()):
            raise ValueError(f"{self.name} has no teacher, so it takes no labels or alpha policy")
        if self.policy.by == "learned" and not 0 < self.alpha < 1:
            raise ValueError(f"a learned alpha starts strictly between 0 and 1, got {self.alpha}")
        if self.policy.cap and self.name == "aux_kl":
            raise ValueError("aux_kl keeps the target its mode at every alpha; leave out the cap")
        if self.tau == "adaptive":
            if not self.masked:
                raise ValueError("an adaptive tau needs the mask, got masked=False")
        else:
            require_real("tau", self.tau, low=SMALLEST_TAU, high=1 / SMALLEST_TAU)
        if self.name == "msl" and not self.masked:
            raise ValueError("msl is masked by definition, got masked=False. Take ntp.")
        if "bfloat16" in self.reference and not self.needs_teacher:
            raise ValueError(
                f"reference bfloat16 rounds a teacher's scores, and {self.name} at alpha "
                f"{self.alpha} with labels of {self.labels} takes none. Leave it out."
            )
        if "linear" in self.reference and self.name not in _LINEAR:
            raise ValueError(
                f"reference linear applies to {', '.join(_LINEAR)}, got {self.name}. Leave it out."
            )
        require_real("on_policy", self.on_policy, low=0, high=1)
        if self.on_policy and (not self.needs_teacher or self.tau == "adaptive"):
            raise ValueError(
                f"on_policy needs a teacher's labels at an alpha above 0 and a fixed tau, got "
                f"{self.name} at alpha {self.alpha} with labels of {self.labels} and tau "
                f"{self.tau}. Leave it out."
            )

    @property
    def is_aligned(self) -> bool:
        """Whether the loss can use a teacher or its substitute."""
        return OBJECTIVES.get(self.name) != _PLAIN

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss needs a teacher's token distributions; false at ``alpha = 0``."""
        return self.alpha > 0 and self.labels == "teacher"
