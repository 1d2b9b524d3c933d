"""Training objectives behind one interface."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semid.trie import CodeTrie
from tca.alignment import AlphaContext, AlphaGate, TrustFunction, largest_alpha, schedule, trust_of
from tca.candidates import Candidates, Positions, without_last
from tca.config import ObjectiveConfig
from tca.functional import (
    linear_soft_ntp_loss,
    log_probs_over_candidates,
    log_probs_over_vocabulary,
    ntp_loss,
    soft_labels,
    uniform_over_items,
    uniform_over_tokens,
)
from tca.losses import load_loss
from tca.projection import Projection
from tca.temperature import AdaptiveTemperature

_PAD_TO = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectiveOutput:
    """A loss and the values to log with it.

    Attributes:
        loss: Scalar float32, to be differentiated.
        parts: Detached scalars: ``ntp``, the loss of the target tokens alone under the same
            softmax, comparable between objectives; ``alpha``, its mean over the branching
            positions, if it varies; ``tau`` if it is adaptive.
        count: Scalar int64, the number of positions that ``loss`` and ``parts`` are means over.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    count: Tensor


class Objective(nn.Module):
    """Computes the loss that a config names, from logits at the positions of the targets' paths.

    State that a loss keeps between steps, such as a learned gate or a running temperature, is in
    its parameters and buffers, to be trained and saved with the model.

    Attributes:
        unsupervised: Tokens at the end of each path that have no loss.

    Args:
        config: The loss and its settings.
        trust: A custom function that scales alpha at each position, in place of
            ``config.policy.by``, which must then be ``constant``; schedule and cap still apply.
        end_token: Whether every path ends with an appended end token, as titles do; used by the
            reference ``end`` only.

    Raises:
        ValueError: If ``trust`` is given along with a policy or with ``alpha = 0``, or a custom
            loss cannot be imported.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        trust: TrustFunction | None = None,
        end_token: bool = False,
    ) -> None:
        super().__init__()
        if trust is not None and (config.alpha == 0 or config.policy.by != "constant"):
            raise ValueError(
                "a custom trust multiplies a constant alpha above 0, got alpha "
                f"{config.alpha} by {config.policy.by}"
            )
        self.config = config
        self._loss = load_loss(config)
        self.trust = trust
        self.unsupervised = 1 + end_token if "end" in config.reference else 0
        self.gate = AlphaGate(config.alpha) if config.policy.by == "learned" else None
        self.temperature = AdaptiveTemperature() if config.tau == "adaptive" else None

    @property
    def needs_teacher(self) -> bool:
        """Whether ``forward`` needs the teacher's token distributions; false at ``alpha = 0``."""
        return self.config.needs_teacher

    def positions(
        self, trie: CodeTrie, target_items: Tensor, *, pad_to: int = _PAD_TO
    ) -> Positions:
        """The positions at which the loss of these targets depends on the logits.

        Under the mask, a single valid token has probability one whatever the model predicts, so
        loss and gradient are zero there. Positions excluded from the mean are omitted too.

        Args:
            trie: The paths of the catalogue.
            target_items: int64 ``(target,)``, catalogue rows, on the trie's device.
            pad_to: The positions of each depth are padded to a multiple of this.
        """
        config = self.config
        num_children = trie.num_children(trie.path(target_items)[:, :-1])
        num_children = without_last(num_children, self.unsupervised)
        branching = num_children > 1
        everywhere = not config.masked and config.mean == "all"
        targets, sizes, real = [], [], []
        for of_depth in (num_children > 0 if everywhere else branching).T:
            target = of_depth.nonzero().squeeze(1)
            filling = (0, -len(target) % pad_to)
            targets.append(F.pad(target, filling))
            real.append(F.pad(torch.ones_like(target, dtype=torch.bool), filling))
            sizes.append(len(targets[-1]))
        depth = torch.arange(trie.depth, device=trie.device)
        return Positions(
            target=torch.cat(targets),
            pos=depth.repeat_interleave(torch.tensor(sizes, device=trie.device)),
            real=torch.cat(real),
            count=(branching if config.mean == "branching" else num_children > 0).sum(),
        )

    def forward(
        self,
        logits: Tensor | Projection,
        candidates: Candidates,
        teacher: Tensor | None = None,
        context: AlphaContext = AlphaContext(),  # noqa: B008  (immutable)
    ) -> ObjectiveOutput:
        """Compute the loss.

        Args:
            logits: Float ``(target, pos, token)``; position ``j`` has seen the target's first
                ``j`` tokens. Or ``(position, token)``, at the positions of the candidates.
            candidates: Of the same targets and positions.
            teacher: Float ``(target, pos, child)`` or ``(position, child)`` from
                ``CollaborativeTokenizer``; ignored where ``needs_teacher`` is false.
            context: What the alpha policy uses besides the teacher.

        Raises:
            ValueError: If a required teacher or context field is missing, a shape does not fit, or
                a trust leaves ``[0, 1]``.
        """
        config = self.config
        _check_shapes(logits, candidates)
        candidates = candidates.without_last(self.unsupervised)
        logits, candidates, log_total = self._narrowed(logits, candidates)
        tau = self._tau(logits, candidates)
        log_p = self._log_p(logits, candidates, tau, log_total)
        slot, supervised, count = candidates.target_slot, candidates.supervised, candidates.count
        if config.mean == "branching":
            supervised, count = candidates.branching, candidates.num_branching
        share = supervised.sum() / count.clamp_min(1)  # a mean over all positions, not just these
        parts = {"ntp": share * ntp_loss(log_p.detach(), slot, supervised)}
        alpha: float | Tensor = config.alpha
        p, penalty = log_p.new_zeros(()).expand_as(log_p), None
        if config.alpha > 0:
            p = self._label_p(candidates, teacher)
            alpha, penalty = self._alpha(p, candidates, context)
        if self._is_linear:
            of_all = log_p if config.masked else (logits.float() / tau).log_softmax(dim=-1)
            highest, labels = of_all.detach().amax(dim=-1), soft_labels(slot, p, alpha)
            loss = linear_soft_ntp_loss(log_p, labels, supervised, highest)
        else:
            loss = _checked_loss(self._loss(log_p, slot, p, alpha, supervised), config.name)
        loss = share * loss
        if self.temperature is not None:
            loss, parts["tau"] = loss * tau, self.temperature.tau.clone()
        if isinstance(alpha, Tensor):
            parts["alpha"] = _mean_over(alpha.detach(), candidates.branching)
        if penalty is not None:
            total = (penalty * candidates.branching).sum() / count.clamp_min(1)
            loss = loss + config.policy.gate * total
        return ObjectiveOutput(loss=loss, parts=parts, count=count)

    @property
    def _is_linear(self) -> bool:
        return "linear" in self.config.reference

    def _narrowed(
        self, logits: Tensor | Projection, candidates: Candidates
    ) -> tuple[Tensor, Candidates, Tensor | None]:
        """Logits of the tokens in use, candidates indexing them, and the total's log."""
        if isinstance(logits, Tensor):
            return logits, candidates, None
        if self._is_linear and not self.config.masked:
            return logits.logits(), candidates, None
        tau_of_total = None if self.config.masked else float(self.config.tau)
        narrowed, columns, log_total = logits.narrowed(candidates.tokens, tau_of_total)
        return narrowed, dataclasses.replace(candidates, tokens=columns), log_total

    def _log_p(
        self,
        logits: Tensor,
        candidates: Candidates,
        tau: float | Tensor,
        log_total: Tensor | None,
    ) -> Tensor:
        tokens, valid = candidates.tokens, candidates.valid
        if self.config.masked:
            return log_probs_over_candidates(logits, tokens, valid, tau=tau)
        return log_probs_over_vocabulary(logits, tokens, valid, tau=tau, log_total=log_total)

    def _tau(self, logits: Tensor, candidates: Candidates) -> float | Tensor:
        if self.temperature is None:
            return float(self.config.tau)
        tau: Tensor = self.temperature(logits, candidates)
        return tau

    def _label_p(self, candidates: Candidates, teacher: Tensor | None) -> Tensor:
        if self.config.labels == "uniform_tokens":
            return uniform_over_tokens(candidates.valid, candidates.num_children)
        if self.config.labels == "uniform_items":
            return uniform_over_items(candidates.items_below())
        return _checked_teacher(teacher, candidates).float()

    def _alpha(
        self, p: Tensor, candidates: Candidates, context: AlphaContext
    ) -> tuple[float | Tensor, Tensor | None]:
        """Alpha, a number or float ``(target, pos)``, and the penalty of a learned alpha."""
        policy, penalty = self.config.policy, None
        alpha: float | Tensor = self.config.alpha
        if self.gate is not None:
            alpha, penalty = self.gate(p, candidates.num_children)
        elif self.trust is not None:
            trust = self.trust(p, candidates.num_children, context)
            alpha = alpha * _checked_trust(trust, candidates)
        else:
            alpha = alpha * trust_of(policy, p, candidates.num_children, context)
        if policy.start + policy.rise > 0:
            if context.progress is None:
                raise ValueError(
                    "an alpha with a schedule needs the context's progress, got none. "
                    "Give AlphaContext(progress=...)."
                )
            rising = schedule(context.progress, policy.start, policy.rise)
            alpha = alpha * torch.tensor(rising, device=p.device)
        if policy.cap:
            alpha = largest_alpha(p, candidates.target_slot).clamp_max(alpha)  # a number or not
        if isinstance(alpha, Tensor):
            alpha = alpha.expand(candidates.supervised.shape)
        return alpha, penalty


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def _checked_loss(loss: Tensor, name: str) -> Tensor:
    if not isinstance(loss, Tensor) or loss.shape != ():
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            f"objective {name} must return a scalar tensor, the mean over supervised positions, "
            f"got {found}"
        )
    return loss


def _check_shapes(logits: Tensor | Projection, candidates: Candidates) -> None:
    if isinstance(logits, Projection):
        what, axis, found = "states", "dim", logits.states.shape
    else:
        what, axis, found = "logits", "token", logits.shape
    if found[:-1] != candidates.supervised.shape:
        raise ValueError(
            f"{what} must be of the candidates' targets and positions, "
            f"{(*candidates.supervised.shape, axis)}, got {tuple(found)}"
        )
    if isinstance(logits, Projection) and logits.num_tokens < candidates.trie.num_tokens:
        raise ValueError(
            f"weight must have a row for each of the {candidates.trie.num_tokens} tokens of the "
            f"trie, got {logits.num_tokens}. Is the trie made with the model's own vocabulary?"
        )


def _checked_teacher(teacher: Tensor | None, candidates: Candidates) -> Tensor:
    if teacher is None:
        raise ValueError(
            "this objective has alpha > 0 and needs the teacher's token distributions, got none. "
            "Compute them with CollaborativeTokenizer, or use uniform labels."
        )
    if teacher.shape != candidates.valid.shape:
        raise ValueError(
            f"teacher must be of the candidates' shape {tuple(candidates.valid.shape)}, got "
            f"{tuple(teacher.shape)}. Do both come from the same trie and targets?"
        )
    return teacher


def _checked_trust(trust: Tensor, candidates: Candidates) -> Tensor:
    if trust.shape != candidates.supervised.shape:
        raise ValueError(
            "trust must have the shape of the candidates' positions, "
            f"{tuple(candidates.supervised.shape)}, got {tuple(trust.shape)}"
        )
    bad = ~((trust >= 0) & (trust <= 1)) & candidates.supervised
    if bad.any():
        raise ValueError(
            f"an alpha policy must stay in [0, 1], got {float(trust[bad][0])}. "
            "Clamp what it returns."
        )
    return trust
