"""Training objectives behind one interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semid.trie import CodeTrie
from tca.functional import (
    log_probs_over_candidates,
    log_probs_over_vocabulary,
    ntp_loss,
    soft_ce_loss,
    soft_labels,
    soft_ntp_loss,
)

ObjectiveName = Literal["ntp", "msl", "letter", "soft_ntp", "soft_ce"]

LETTER_TAU = 0.7
"""Temperature of LETTER's loss: the author's for Instruments, to be tuned in [0.7, 1]."""

_TOGETHER = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Positions:
    """Some positions of the paths of a batch of targets, those of one depth together.

    Attributes:
        target: int64 ``(position,)``, index into the batch.
        pos: int64 ``(position,)``, rising: number of tokens before.
        real: bool ``(position,)``; false where a position only fills up its depth to a multiple of
            64. Every batch has another number of positions, and on CPU a matrix product of a shape
            that is new costs as much again as its work.
        count: int64 ``()``, the positions that a loss is the mean of: all of the paths. Those that
            are left out add nothing to it.
    """

    target: Tensor
    pos: Tensor
    real: Tensor
    count: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What the trie says about a batch of target items, at all positions or at some.

    The first axes are ``(target, pos)``, or ``(position,)`` in the order of ``Positions``.

    Attributes:
        tokens: int64 ``(target, pos, child)``, the tokens that may follow each prefix of the
            target's path; 0 where not valid.
        valid: bool ``(target, pos, child)``.
        target_slot: int64 ``(target, pos)``, the slot of the path's own next token.
        counted: bool ``(target, pos)``; false beyond the end of a shorter path.
        count: int64 ``()``, the positions that a loss is the mean of.
    """

    tokens: Tensor
    valid: Tensor
    target_slot: Tensor
    counted: Tensor
    count: Tensor


def candidates(trie: CodeTrie, target_items: Tensor, at: Positions | None = None) -> Candidates:
    """Look up the candidates along the path of each target.

    Args:
        trie: The paths of the catalogue.
        target_items: int64 ``(target,)``, catalogue rows, on the trie's device.
        at: Positions to look at, all by default.

    Returns:
        The candidates, ``child`` up to ``trie.max_children``: the slots of
        ``CollaborativeTokenizer``.
    """
    nodes = trie.path(target_items)
    prefix, following = nodes[:, :-1], nodes[:, 1:]
    counted = prefix != following
    count = counted.sum()
    if at is not None:
        prefix, following = prefix[at.target, at.pos], following[at.target, at.pos]
        counted = at.real
    child, valid = trie.children(prefix, trie.max_children)
    return Candidates(
        tokens=trie.token_of_node[child].long().masked_fill_(~valid, 0),
        valid=valid,
        target_slot=(following - trie.first_child[prefix]).masked_fill_(~counted, 0),
        counted=counted,
        count=count,
    )


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Which loss to train with.

    Attributes:
        name: ``ntp``, next-token prediction; ``msl``, the same over valid tokens only with a
            temperature (arXiv:2504.04178); ``letter``, the same with or without the mask and a
            temperature of its own, which below 1 presses on the strongest wrong tokens
            (ranking-guided generation loss, arXiv:2405.07314); ``soft_ntp``, TCA4Rec's
            ``-log sum y P`` (arXiv:2601.18457); ``soft_ce``, the soft cross-entropy
            ``-sum y log P``.
        alpha: Weight of the teacher in the soft labels, in ``[0, 1]``. 0 is plain ``ntp``, and the
            default of the released code; its documented run takes .1.
        tau: Temperature of the model's softmax, above 0. TCA4Rec's released code takes 4.5 where
            masked and 1 where not; LETTER's paper ``LETTER_TAU`` to 1, its released scripts 1.
        masked: Whether the softmax runs over the tokens that may follow, or over the vocabulary.
            ``msl`` is masked by definition.

    Raises:
        ValueError: If a value is out of its range or contradicts the name.
    """

    name: ObjectiveName = "ntp"
    alpha: float = 0.0
    tau: float = 1.0
    masked: bool = True

    def __post_init__(self) -> None:
        if self.name not in get_args(ObjectiveName):
            known = ", ".join(get_args(ObjectiveName))
            raise ValueError(f"objective must be one of {known}, got {self.name!r}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")
        if self.alpha > 0 and not self.is_soft:
            raise ValueError(
                f"{self.name} has no teacher, so alpha must be 0, got {self.alpha}. "
                "Take soft_ntp or soft_ce."
            )
        if not self.tau > 0:
            raise ValueError(f"tau must be above 0, got {self.tau}")
        if self.name == "msl" and not self.masked:
            raise ValueError("msl is masked by definition, got masked=False. Take ntp.")

    @property
    def is_soft(self) -> bool:
        """Whether the labels may lean on a teacher."""
        return self.name.startswith("soft_")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectiveOutput:
    """A loss and what to log beside it.

    Attributes:
        loss: Scalar float32, to be differentiated.
        parts: Detached scalars: ``ntp``, the loss of the target tokens alone under the same
            softmax, comparable between objectives.
        count: Scalar int64, the counted positions that ``loss`` and ``parts`` are means of.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    count: Tensor


class Objective(nn.Module):
    """Computes the loss that a config names, from logits at the positions of the targets' paths."""

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def needs_teacher(self) -> bool:
        """Whether ``forward`` needs the teacher's token distributions; not at ``alpha = 0``."""
        return self.config.alpha > 0

    def positions(self, trie: CodeTrie, target_items: Tensor) -> Positions:
        """Where the loss of these targets depends on the logits.

        Where a single token may follow and only such tokens compete, its probability is one
        whatever the model says: the loss is zero there and so is its gradient.

        Args:
            trie: The paths of the catalogue.
            target_items: int64 ``(target,)``, catalogue rows, on the trie's device.
        """
        num_children = trie.num_children(trie.path(target_items)[:, :-1])
        rivals = num_children > (1 if self.config.masked else 0)
        targets, sizes, real = [], [], []
        for of_depth in rivals.T:
            target = of_depth.nonzero().squeeze(1)
            filling = (0, -len(target) % _TOGETHER)
            targets.append(F.pad(target, filling))
            real.append(F.pad(torch.ones_like(target, dtype=torch.bool), filling))
            sizes.append(len(targets[-1]))
        depth = torch.arange(trie.depth, device=trie.device)
        return Positions(
            target=torch.cat(targets),
            pos=depth.repeat_interleave(torch.tensor(sizes, device=trie.device)),
            real=torch.cat(real),
            count=(num_children > 0).sum(),
        )

    def forward(
        self, logits: Tensor, candidates: Candidates, teacher: Tensor | None = None
    ) -> ObjectiveOutput:
        """Compute the loss.

        Args:
            logits: Float ``(target, pos, token)``; position ``j`` has seen the target's first
                ``j`` tokens. Or ``(position, token)``, at the positions of the candidates.
            candidates: Of the same targets and positions.
            teacher: Float ``(target, pos, child)`` or ``(position, child)`` from
                ``CollaborativeTokenizer``; ignored where ``needs_teacher`` is false.

        Raises:
            ValueError: If a teacher is needed and missing, or a shape does not fit.
        """
        config = self.config
        _check_shapes(logits, candidates)
        log_probs = log_probs_over_candidates if config.masked else log_probs_over_vocabulary
        log_p = log_probs(logits, candidates.tokens, candidates.valid, tau=config.tau)
        slot, counted, count = candidates.target_slot, candidates.counted, candidates.count
        share = counted.sum() / count.clamp_min(1)  # a mean over all positions, not over these
        if not self.needs_teacher:
            loss = share * ntp_loss(log_p, slot, counted)
            return ObjectiveOutput(loss=loss, parts={"ntp": loss.detach()}, count=count)
        labels = soft_labels(slot, _checked_teacher(teacher, candidates), config.alpha)
        soft_loss = soft_ntp_loss if config.name == "soft_ntp" else soft_ce_loss
        loss = share * soft_loss(log_p, labels, counted)
        parts = {"ntp": share * ntp_loss(log_p.detach(), slot, counted)}
        return ObjectiveOutput(loss=loss, parts=parts, count=count)


def _check_shapes(logits: Tensor, candidates: Candidates) -> None:
    if logits.shape[:-1] != candidates.counted.shape:
        raise ValueError(
            f"logits must be of the candidates' targets and positions, "
            f"{(*candidates.counted.shape, 'token')}, got {tuple(logits.shape)}"
        )


def _checked_teacher(teacher: Tensor | None, candidates: Candidates) -> Tensor:
    if teacher is None:
        raise ValueError(
            "this objective has alpha > 0 and needs the teacher's token distributions, got none. "
            "Compute them with CollaborativeTokenizer."
        )
    if teacher.shape != candidates.valid.shape:
        raise ValueError(
            f"teacher must be of the candidates' shape {tuple(candidates.valid.shape)}, got "
            f"{tuple(teacher.shape)}. Do both come from the same trie and targets?"
        )
    return teacher
