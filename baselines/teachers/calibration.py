"""Calibration of a teacher's softmax temperature on held-out targets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer, checked_scores, without_seen
from baselines.data.batches import histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.runtime.progress import track
from semid.distributed import all_reduce, is_my_turn, once
from semid.provenance import (
    Provenance,
    atomic_dir,
    hash_json,
    read_json,
    require_same,
    write_json,
)

_FILE = "calibration.json"
_RANGE = (1e-3, 1e3)  # searched range of temperatures
_PRECISION = 1e-4  # of the log temperature
_PASSES = 30  # at most; a dozen usually suffice


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fit of a teacher's softmax to held-out targets.

    Attributes:
        temperature: The best temperature; scores are divided by it.
        nll: Mean ``-log p(target)`` over the whole catalogue at this temperature, in nats.
        nll_at_one: The same at temperature 1.
        targets: Number of targets.
    """

    temperature: float
    nll: float
    nll_at_one: float
    targets: int


def calibrate(
    scorer: ItemScorer, data: SequenceSet, *, mask_history: bool = False, batch_size: int = 256
) -> Calibration:
    """The temperature that minimises the negative log-likelihood of held-out targets.

    The likelihood is that of the target under a softmax over the whole catalogue. Its negative
    logarithm is convex in ``1 / temperature``, so its slope, ``E_p[s] - s(target)``, has a single
    root, found by bracketing. Every evaluation scores all histories again, so only one block of
    scores is in memory. Several processes share the blocks.

    Args:
        scorer: The frozen teacher.
        data: Held-out sequences with targets, such as the validation split.
        mask_history: Exclude items that the user has seen, except the target itself.
        batch_size: Histories scored at a time.

    Raises:
        ValueError: If there are no targets, a score is NaN or a target's score is not finite, or
            the optimum is outside [0.001, 1000]: the scores are uninformative or perfect.
    """
    from scipy.optimize import brentq

    if data.num_targets == 0:
        raise ValueError("expected validation targets to calibrate the teacher on, got none")
    likelihood = _Likelihood(scorer, data, mask_history, batch_size)
    low, high = (math.log(edge) for edge in _RANGE)
    with track("temperature", _PASSES) as progress:

        def slope(log_temperature: float) -> float:
            progress.advance(1)
            return likelihood(math.exp(log_temperature))[1]

        if not slope(low) > 0 > slope(high):
            raise ValueError(
                f"no temperature between {_RANGE[0]:g} and {_RANGE[1]:g} fits the validation "
                "targets best: does the teacher score them no better than other items, or all "
                "of them above every other? Give a temperature instead of auto."
            )
        root = brentq(slope, low, high, xtol=_PRECISION, maxiter=_PASSES)
        temperature = float(f"{math.exp(root):.4g}")
        nll, nll_at_one = likelihood(temperature)[0], likelihood(1.0)[0]
    return Calibration(
        temperature=temperature, nll=nll, nll_at_one=nll_at_one, targets=data.num_targets
    )


def fit_temperature(
    scorer: ItemScorer,
    data: SequenceSet,
    *,
    teacher: str,
    folder: Path,
    mask_history: bool = False,
) -> Calibration:
    """Run ``calibrate``, or read the result of an earlier call with the same inputs.

    Args:
        scorer: The frozen teacher.
        data: Held-out sequences with targets.
        teacher: Hash that identifies the teacher's scores
            (``baselines.teachers.fit.scores_hash``).
        folder: Parent of the artefact's folder, as of the teacher's.
        mask_history: As for ``calibrate``.

    Raises:
        ValueError: As ``calibrate``.
        ProvenanceError: If the artefact found is of another teacher, other targets or settings.
    """
    inputs = {"teacher": teacher, "targets": data.content_hash()}
    config = {"mask_history": mask_history}
    own = _folder(inputs, config, folder)

    def write(found: Calibration) -> None:
        content = hash_json(asdict(found))
        lineage = Provenance(kind="temperature", content=content, inputs=inputs, config=config)
        with atomic_dir(own) as filling:
            write_json(filling / _FILE, asdict(found))
            lineage.write(filling)

    return once(
        lambda: _read(own, inputs, config) if own.exists() else None,
        lambda: calibrate(scorer, data, mask_history=mask_history),
        write,
    )


def kept_temperature(*, teacher: str, targets: str, folder: Path, mask_history: bool) -> float:
    """The temperature that ``fit_temperature`` has kept, without teacher and data.

    Args:
        teacher: Hash of all that decides its scores.
        targets: Hash of the held-out sequences.
        folder: As of ``fit_temperature``.
        mask_history: Likewise.

    Raises:
        FileNotFoundError: If there is none.
        ProvenanceError: If it was damaged.
    """
    inputs, config = {"teacher": teacher, "targets": targets}, {"mask_history": mask_history}
    return _read(_folder(inputs, config, folder), inputs, config).temperature


def _folder(inputs: dict[str, str], config: dict[str, bool], folder: Path) -> Path:
    return folder / f"temperature-{hash_json([inputs, config])[:16]}"


def _read(own: Path, inputs: dict[str, str], config: dict[str, bool]) -> Calibration:
    what_to_do = f"Remove {own}; it is computed again."
    lineage = Provenance.read(own)
    values = read_json(own / _FILE, take_unsealed=True, what_to_do=what_to_do)
    for expected, got in (
        (hash_json([inputs, config]), hash_json([lineage.inputs, lineage.config])),
        (lineage.content, hash_json(values)),
    ):
        require_same(f"the temperature in {own}", expected, got, what_to_do=what_to_do)
    return Calibration(**(values or {}))


class _Likelihood:
    """Mean negative log-likelihood at a temperature, and its slope in the inverse temperature."""

    def __init__(
        self, scorer: ItemScorer, data: SequenceSet, mask_history: bool, batch_size: int
    ) -> None:
        self.scorer, self.data = scorer, data
        self.mask_history, self.batch_size = mask_history, batch_size
        self.targets = torch.from_numpy(data.items[data.targets()[1]])

    def __call__(self, temperature: float) -> tuple[float, float]:
        longest = int(self.data.lengths.max()) if self.mask_history else self.scorer.max_history
        sums = torch.zeros(2, dtype=torch.float64)
        batches = histories_of_targets(self.data, longest, self.batch_size)
        for turn, (ids, histories) in enumerate(batches):
            if is_my_turn(turn):
                targets = self.targets[torch.from_numpy(ids)]
                scores = checked_scores(self.scorer, histories)
                if self.mask_history:
                    scores = without_seen(scores, histories, targets)
                sums += _likelihood(scores, targets, temperature)
        nll, slope = (all_reduce(sums) / len(self.targets)).tolist()
        if not math.isfinite(nll):
            raise ValueError(
                "the teacher gives a validation target the score -inf, which no temperature makes "
                "likely. Does it score all items? Give a temperature instead of auto."
            )
        return nll, slope


def _likelihood(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    scores = scores.float()
    scores = scores - scores.amax(dim=1, keepdim=True)
    own = scores.gather(1, targets.to(scores.device)[:, None]).squeeze(1)
    p = (scores / temperature).exp_()
    total = p.sum(dim=1)
    mean = p.mul_(scores.clamp_min(torch.finfo(torch.float32).min)).sum(dim=1) / total
    nll = total.log() - own / temperature
    return torch.stack([nll.double().sum(), (mean - own).double().sum()]).cpu()
