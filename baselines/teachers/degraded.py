"""A teacher made worse on purpose, to see what its students owe to it."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from baselines.contracts.scorer import LeavesOwnOut
from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.degraded_config import DegradedConfig
from baselines.teachers.model import TeacherModel


class Degraded(TeacherModel):
    """Another teacher with weaker, noisy or shuffled scores, or fitted to fewer users.

    With the scores ``s`` of the teacher within, their standard deviation ``sd`` over the items of
    a history, and a permutation ``r`` of the items (the identity unless ``shuffled``)::

        score(i) = signal * s(r(i)) + noise * sd * z(i),   z(i) ~ N(0, 1)

    The noise depends on the seed and the history alone: asked again, the teacher says the same. An
    item at ``-inf`` stays there. With the settings' defaults the scores are those of the teacher.

    Args:
        config: Settings.
        base: The teacher within, fitted to the data that `with_share` returns.
        num_items: Number of items of the catalogue.
        seed: Seed of permutation and noise.
    """

    def __init__(
        self, config: DegradedConfig, base: TeacherModel, num_items: int, seed: int
    ) -> None:
        super().__init__()
        self.config, self.base, self.seed = config, base, seed
        self.label = ", ".join([base.label, *_changes(config)])
        self.max_history = base.max_history
        self.needs_interactions = base.needs_interactions
        order = torch.randperm(num_items, generator=torch.Generator().manual_seed(seed))
        places = order if config.shuffled else torch.arange(num_items)
        self.places = nn.Parameter(places, requires_grad=False)

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """The degraded scores of all items; float32 ``(batch, item)``."""
        return self._degraded(self.base.score(histories), histories)

    def chosen(self) -> dict[str, float]:
        """What the teacher within has chosen on validation."""
        return self.base.chosen()

    def _degraded(self, scores: Tensor, histories: Histories) -> Tensor:
        signal, noise = self.config.signal, self.config.noise
        scores = scores[:, self.places.to(scores.device)]
        if (signal, noise) == (1, 0):
            return scores
        known = scores.isfinite()
        values = scores.masked_fill(~known, 0)
        count = known.sum(dim=1, keepdim=True).clamp_min(1)
        centred = (values - values.sum(dim=1, keepdim=True) / count).masked_fill(~known, 0)
        spread = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
        changed = signal * values
        if noise:
            changed += noise * spread * self._noise(histories).to(scores.device)
        return torch.where(known, changed, scores)

    def _noise(self, histories: Histories) -> Tensor:
        """Standard normal values, drawn anew for each history; float32 ``(batch, item)``."""
        past, generator = (
            histories.last(self.max_history).to(torch.device("cpu")),
            torch.Generator(),
        )
        rows = []
        for items, mask in zip(past.items, past.mask, strict=True):
            generator.manual_seed(crc32(items[mask].numpy().tobytes(), self.seed))
            rows.append(torch.randn(len(self.places), generator=generator))
        return torch.stack(rows)


class DegradedCounted(Degraded):
    """The same of a counted teacher, which can leave a user's own events out."""

    @torch.inference_mode()
    def score_without_own(self, histories: Histories, train: SequenceSet) -> Tensor:
        """The same without the training events of each row's user; float32 ``(batch, item)``."""
        assert isinstance(self.base, LeavesOwnOut)
        counted = of_share(train, self.config.share)
        return self._degraded(self.base.score_without_own(histories, counted), histories)


def with_share(dataset: Dataset, share: float) -> Dataset:
    """The data with the training sequences of a share of the users; see `of_share`."""
    train = of_share(dataset.splits.train, share)
    return replace(dataset, splits=replace(dataset.splits, train=train))


def of_share(train: SequenceSet, share: float) -> SequenceSet:
    """The sequences of a share of the users: random, but fixed, and at least one user.

    Args:
        train: Training sequences.
        share: In (0, 1]; the users of a smaller share are among those of a larger one.
    """
    if share == 1:
        return train

    def chosen() -> SequenceSet:
        users = np.random.default_rng(0).permutation(np.unique(train.users))
        kept = users[: max(1, round(share * len(users)))]
        return train.select(np.isin(train.users, kept))

    return train.derive(("share of users", share), chosen)


def _changes(config: DegradedConfig) -> list[str]:
    """What differs from the teacher within, in words."""
    changes = [
        (config.signal != 1, "flat" if config.signal == 0 else f"signal {config.signal:g}"),
        (config.noise > 0, f"noise {config.noise:g}"),
        (config.shuffled, "shuffled"),
        (config.share < 1, f"{100 * config.share:g} % of users"),
    ]
    return [words for is_changed, words in changes if is_changed]
