"""From a model to the rank of every target: items are ranked, never codes or strings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from baselines.backbones.backbone import Backbone
from baselines.data.batches import Histories, histories_of_targets
from baselines.data.sequences import IntArray, SequenceSet
from baselines.metrics import MISS, TieRule, metric_values, ranks_from_scores
from baselines.parallel import add_up, is_my_turn
from baselines.progress import track
from baselines.teachers.scorer import ItemScorer
from semid.decoding import beam_search, rank_items
from semid.provenance import atomic_write
from semid.successors import Renormalize

SeenPolicy = Literal["removed", "kept"]
POLICIES: tuple[SeenPolicy, ...] = ("removed", "kept")
_COLUMNS = ("top", *(f"{kind}/{policy}" for kind in ("better", "tied") for policy in POLICIES))


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How models are ranked; every choice is part of the result.

    Attributes:
        beam: Paths kept while decoding the test targets; an item outside the beam is a miss.
        renormalize: Whether a token's probability is relative to its legal siblings or to all.
        ties: Where a target stands among items of exactly its score.
        validation_beam: Paths kept while decoding validation targets during training.
        validation_targets: A fixed random subset of so many validation targets chooses the epoch
            of a generator; the test split never does.
        batch_size: Histories decoded at a time.
        certified: Test histories on which the beam is held against exact scoring.

    Raises:
        ValueError: If a number is below 1.
    """

    beam: int = 50
    renormalize: Renormalize = "children"
    ties: TieRule = "expected"
    validation_beam: int = 20
    validation_targets: int = 4000
    batch_size: int = 256
    certified: int = 16

    def __post_init__(self) -> None:
        for name in ("beam", "validation_beam", "validation_targets", "batch_size", "certified"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranks:
    """Where each target of a split was ranked, under both policies for items seen before.

    Attributes:
        better: By policy, int64 ``(target,)``: candidates with a higher score; ``MISS`` where
            the target is not listed. A target that its own history holds is a miss once seen items
            are removed.
        tied: By policy, int64 ``(target,)``: other candidates with exactly the target's score.
        top: int64 ``(target,)``, the best unseen item of each target's user; -1 where none is left.
        seconds: Wall time.
    """

    better: dict[str, IntArray]
    tied: dict[str, IntArray]
    top: IntArray
    seconds: float

    def metrics(self, policy: SeenPolicy, ties: TieRule) -> dict[str, np.ndarray]:
        """Every metric's value of each target; float64 ``(target,)``."""
        return metric_values(self.better[policy], self.tied[policy], ties=ties)

    def save(self, path: Path) -> None:
        """Write the ranks to one file."""
        tensors = {"top": self.top} | {
            f"{kind}/{policy}": values[policy]
            for kind, values in (("better", self.better), ("tied", self.tied))
            for policy in POLICIES
        }
        data = {name: torch.from_numpy(array) for name, array in tensors.items()}
        atomic_write(path, save(data, metadata={"seconds": str(self.seconds)}))

    @classmethod
    def load(cls, path: Path) -> Ranks:
        """Read what ``save`` wrote."""
        with safe_open(path, framework="np") as file:
            return cls(
                better={policy: file.get_tensor(f"better/{policy}") for policy in POLICIES},
                tied={policy: file.get_tensor(f"tied/{policy}") for policy in POLICIES},
                top=file.get_tensor("top"),
                seconds=float(file.metadata()["seconds"]),
            )


RankBatch = Callable[[Histories, Tensor], dict[str, Tensor]]


def rank_by_scores(
    scorer: ItemScorer, data: SequenceSet, *, batch_size: int = 512, title: str = "ranking"
) -> Ranks:
    """Rank every target exactly, by a model that scores the whole catalogue.

    Args:
        scorer: The model.
        data: Sequences with targets.
        batch_size: Histories scored at a time.
        title: Shown beside the progress bar.
    """

    def rank(histories: Histories, targets: Tensor) -> dict[str, Tensor]:
        scores = scorer.score(histories)
        histories, targets = histories.to(scores.device), targets.to(scores.device)
        seen = torch.zeros_like(scores, dtype=torch.bool)
        row = torch.arange(len(targets), device=scores.device).unsqueeze(1)
        row = row.expand_as(histories.items)
        seen[row[histories.mask], histories.items[histories.mask]] = True
        better, tied = ranks_from_scores(scores, targets)
        unseen_better, unseen_tied = ranks_from_scores(scores, targets, seen)
        repeated = seen.gather(1, targets[:, None]).squeeze(1)
        top = scores.masked_fill(seen, -torch.inf).argmax(dim=1)
        return {
            "better/kept": better,
            "tied/kept": tied,
            "better/removed": unseen_better.masked_fill(repeated, MISS),
            "tied/removed": unseen_tied.masked_fill(repeated, 0),
            "top": top.masked_fill(seen.all(dim=1), -1),
        }

    return _rank_all(rank, data, batch_size=batch_size, title=title)


def rank_by_beam(
    backbone: Backbone,
    data: SequenceSet,
    *,
    beam: int,
    renormalize: Renormalize = "children",
    batch_size: int = 256,
    subset: IntArray | None = None,
    title: str = "ranking",
) -> Ranks:
    """Rank targets by constrained beam search; all that a beam returns are items.

    Args:
        backbone: The generator, in eval mode.
        data: Sequences with targets.
        beam: Paths kept.
        renormalize: As in ``semid.decoding``.
        batch_size: Histories decoded at a time.
        subset: Target ids to rank, all by default; the result is in their order.
        title: Shown beside the progress bar.
    """
    trie = backbone.trie
    twins = int((trie.last_item - trie.first_item)[trie.node_of_item].max())

    def rank(histories: Histories, targets: Tensor) -> dict[str, Tensor]:
        histories, targets = histories.to(trie.device), targets.to(trie.device)
        found = beam_search(backbone.start(histories), trie, beam=beam, renormalize=renormalize)
        ranked = rank_items(found, trie, k=beam * twins)
        listed = ranked.items >= 0
        past = histories.items.masked_fill(~histories.mask, -1)
        unseen = listed & ~(ranked.items[:, :, None] == past[:, None, :]).any(dim=-1)
        first = unseen.to(torch.uint8).argmax(dim=1, keepdim=True)
        top = ranked.items.gather(1, first).masked_fill(~unseen.any(dim=1, keepdim=True), -1)
        result = {"top": top.squeeze(1)}
        for policy, candidates in (("kept", listed), ("removed", unseen)):
            hit = candidates & (ranked.items == targets[:, None])
            own = ranked.scores.masked_fill(~hit, torch.inf).amin(dim=1, keepdim=True)
            better = ((ranked.scores > own) & candidates).sum(dim=1)
            tied = ((ranked.scores == own) & candidates).sum(dim=1) - 1
            missed = ~hit.any(dim=1)
            result[f"better/{policy}"] = better.masked_fill(missed, MISS)
            result[f"tied/{policy}"] = tied.masked_fill(missed, 0)
        return result

    with torch.inference_mode():
        return _rank_all(rank, data, batch_size=batch_size, subset=subset, title=title)


def _rank_all(
    rank: RankBatch,
    data: SequenceSet,
    *,
    batch_size: int,
    title: str,
    subset: IntArray | None = None,
) -> Ranks:
    started = time.perf_counter()
    target_items = data.items[data.targets()[1]]
    wanted = np.arange(len(target_items)) if subset is None else subset
    longest = int(data.lengths.max())
    batches = histories_of_targets(data, longest, batch_size, subset=wanted)
    found = torch.zeros(len(_COLUMNS), len(wanted), dtype=torch.int64)
    with track(title, len(wanted)) as progress:
        for turn, (position, histories) in enumerate(batches):
            if is_my_turn(turn):
                values = rank(histories, torch.from_numpy(target_items[wanted[position]]))
                rows = [values[name] for name in _COLUMNS]
                found[:, torch.from_numpy(position)] = torch.stack(rows).cpu()
            progress.advance(len(position))
    results = dict(zip(_COLUMNS, add_up(found).numpy(), strict=True))
    return Ranks(
        better={policy: results[f"better/{policy}"] for policy in POLICIES},
        tied={policy: results[f"tied/{policy}"] for policy in POLICIES},
        top=results["top"],
        seconds=time.perf_counter() - started,
    )
