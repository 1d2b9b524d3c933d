"""The contract of teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.scorer import DotProductScorer, ItemScorer, require_scores, without_seen
from baselines.data.batches import Histories, TrainBatch, histories_of_targets
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.teachers.model import TeacherModel
from baselines.testing.holding import holding
from baselines.training.checkpoint import trained_weights
from semid.checks import ContractError

_holding = partial(holding, contract="teachers")

_STEPS = 30  # training steps that must lower the loss of one batch


def check_teacher(
    teacher: Callable[..., Any] | ItemScorer,
    *,
    dataset: Dataset | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Run a teacher through every clause of the contract, in a second or two.

    ==================  =========================================================================
    clause              what holds
    ==================  =========================================================================
    ``build``           ``(dataset, seed, **settings)`` builds it, and it is an ``ItemScorer``
    ``max history``     it is an integer of at least 1
    ``shape``           scores are float32 ``(batch, item)``, over the whole catalogue
    ``finite``          scores are finite or -inf, and at least one in each row is finite
    ``determinism``     in eval mode, equal histories have equal scores
    ``inputs``          histories are not modified
    ``company``         scores of a row depend on neither its position nor the rest of the batch
    ``padding``         nor on the values where the mask is False, nor on their number
    ``user numbers``    nor on the user's number
    ``history``         nor on items before the last ``max_history``
    ``seen items``      some score stays finite when items of the history are removed
    ``vectors``         if there are any, their products are the scores
    ``seed``            equal seeds give equal scores
    ``loss``            for a model that trains, it is finite and has a gradient
    ``learning``        a few steps on one batch lower it
    ``save and load``   the trained parameters (all, if none are trained) determine the scores
    ==================  =========================================================================

    Args:
        teacher: A subclass of ``TeacherModel``, a function that returns an ``ItemScorer``, or a
            finished scorer, which is not modified and skips the clauses from ``seed`` on.
        dataset: What to test on, and what a finished scorer was built for; by default synthetic.
        settings: Settings of a class or function, by name.

    Raises:
        ContractError: At the first broken clause: what was expected, what came, how to fix it.
    """
    dataset = dataset or synthetic_dataset(num_users=60, num_items=40, num_categories=2)
    if isinstance(teacher, ItemScorer) and not isinstance(teacher, type):
        _check_scores(teacher, dataset, type(teacher).__name__)
        return
    assert callable(teacher)
    name = getattr(teacher, "__name__", type(teacher).__name__)

    def make(seed: int) -> Any:
        expected = "to be made by (dataset, seed, **settings)"
        with _holding(name, "build", expected, contract="teachers"):
            made = teacher(dataset, seed, **(settings or {}))
        return made.eval() if isinstance(made, TeacherModel) else made

    made = make(0)
    if isinstance(teacher, type) and not issubclass(teacher, TeacherModel):
        raise _broken(name, "build", "expected a subclass of TeacherModel. Subclass it.")
    _check_scores(made, dataset, name)
    first, again = (_scores(each, _histories(made, dataset), name) for each in (made, make(0)))
    _require_equal(first, again, name, "seed", "Draw only from generators that seed seeds.")
    if isinstance(teacher, type):
        _check_training(made, dataset, name)
        _check_save_and_load(made, make(1), dataset, name)


def _check_scores(scorer: Any, dataset: Dataset, name: str) -> None:
    """The clauses ``build`` to ``vectors``, which need no second teacher of the same kind."""
    if not isinstance(scorer, ItemScorer):
        got = f"expected an ItemScorer (max_history and score), got {type(scorer).__name__}."
        raise _broken(name, "build", f"{got} See baselines.contracts.scorer.")
    longest: Any = scorer.max_history
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise _broken(name, "max history", f"expected a whole number from 1 on, got {longest!r}.")
    past = _histories(scorer, dataset)
    before = past.items.clone(), past.mask.clone(), past.users.clone()
    scores = _scores(scorer, past, name)
    expected = (len(past.items), len(dataset.catalog))
    if tuple(scores.shape) != expected or scores.dtype != torch.float32:
        raise _broken(
            name,
            "shape",
            f"expected float32 (batch, item) = {expected}, got {scores.dtype} "
            f"{tuple(scores.shape)}. Score every item of dataset.catalog, in its order.",
        )
    with _holding(name, "finite", "scores that a distribution can be made of"):
        require_scores(scores, past, whose=name)
    again = _scores(scorer, past, name)
    _require_equal(scores, again, name, "determinism", "Draw nothing in eval mode.")
    if not all(map(torch.equal, before, (past.items, past.mask, past.users))):
        raise _broken(name, "inputs", "expected histories left as they are. Write to a copy.")
    _check_own_past(scorer, past, scores, name)
    left = without_seen(scores, past).amax(dim=1)
    if not left.isfinite().all():
        row = int((~left.isfinite()).nonzero()[0])
        raise _broken(
            name,
            "seen items",
            f"expected an unseen item above -inf in each row, got none in row {row}. Score the "
            "items that a user has not seen; the run removes seen ones itself.",
        )
    if isinstance(scorer, DotProductScorer):
        _check_vectors(scorer, past, scores, name)


def _check_own_past(scorer: Any, past: Histories, scores: Tensor, name: str) -> None:
    """Only the unmasked items among a row's last ``max_history`` may affect its scores."""
    cure = "Let nothing but a sample's own past influence its row."
    order = torch.arange(len(scores) - 1, -1, -1)
    turned = Histories(items=past.items[order], mask=past.mask[order], users=past.users[order])
    _require_equal(scores, _scores(scorer, turned, name)[order], name, "company", cure)
    for row in (0, len(scores) - 1):
        one = slice(row, row + 1)
        alone = Histories(items=past.items[one], mask=past.mask[one], users=past.users[one])
        _require_equal(scores[one], _scores(scorer, alone, name), name, "company", cure)
    noise = torch.arange(past.items.numel()).view_as(past.items) % scores.shape[1]
    garbled = dataclasses.replace(past, items=torch.where(past.mask, past.items, noise))
    wide = dataclasses.replace(_lengthened(past, shown=False), users=past.users)
    for padded in (garbled, wide):
        found = _scores(scorer, padded, name)
        _require_equal(scores, found, name, "padding", "Leave out items where mask is False.")
    renamed = dataclasses.replace(past, users=past.users.flip(0))
    found = _scores(scorer, renamed, name)
    _require_equal(scores, found, name, "user numbers", "Score by the items of the history.")
    full = past.mask.all(dim=1) & (past.mask.sum(dim=1) == scorer.max_history)
    if full.any():
        found = _scores(scorer, _lengthened(past, shown=True), name)
        cure = "Cut histories by histories.last(self.max_history)."
        _require_equal(scores[full], found[full], name, "history", cure)


def _lengthened(past: Histories, *, shown: bool) -> Histories:
    """The histories with three more positions on the left, of real items or padding."""
    added = past.items[:, :1].expand(-1, 3)
    mask = past.mask.new_full(added.shape, shown) & past.mask.all(dim=1, keepdim=True)
    return Histories(
        items=torch.cat([added, past.items], dim=1),
        mask=torch.cat([mask if shown else torch.zeros_like(mask), past.mask], dim=1),
        users=past.users,
    )


def _check_vectors(scorer: DotProductScorer, past: Histories, scores: Tensor, name: str) -> None:
    with torch.no_grad():
        users, items = scorer.user_vectors(past), scorer.item_vectors()
        products = (users.float() @ items.float().T).cpu()
    cure = "Score by user_vectors(histories) @ item_vectors().T, or offer no vectors."
    _require_equal(scores, products, name, "vectors", cure)


def _check_training(model: TeacherModel, dataset: Dataset, name: str) -> None:
    """The clauses ``loss`` and ``learning``; the model is trained a little."""
    learned = [value for value in model.parameters() if value.requires_grad]
    if not learned:
        return
    windows = model.windows(dataset.splits.train)
    batch = windows.batch(np.arange(min(64, len(windows))))
    optimizer = torch.optim.Adam(learned, lr=0.01)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.train()
        for _ in range(_STEPS):
            optimizer.zero_grad()
            loss = _loss(model, batch, name)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        model.eval()
    begin, end = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    if not end < begin:
        raise _broken(
            name,
            "learning",
            f"expected {_STEPS} steps of Adam on one batch to lower the loss, got {begin:.4g} "
            f"before and {end:.4g} after. Does the loss fall where the target scores higher?",
        )


def _loss(model: TeacherModel, batch: TrainBatch, name: str) -> Tensor:
    with _holding(name, "loss", "a loss of a batch of windows"):
        output = model.objective(batch)
    loss, count = output.loss, int(output.count)
    if loss.shape != () or not loss.isfinite() or not loss.requires_grad or count < 1:
        raise _broken(
            name,
            "loss",
            f"expected a finite scalar with a gradient, the mean of at least one term, got "
            f"{loss.detach()} of {count}. Return the mean over batch.target_items.",
        )
    return loss


def _check_save_and_load(
    model: TeacherModel, fresh: TeacherModel, dataset: Dataset, name: str
) -> None:
    """The saved parameters of a model, loaded into one with another seed, must score the same."""
    places = dict(fresh.named_parameters())
    with torch.no_grad():
        for key, value in trained_weights(model).items():
            places[key].copy_(value)
    past = _histories(model, dataset)
    expected, found = (_scores(each, past, name) for each in (model, fresh.eval()))
    cure = "Keep all that is learned, or drawn by the seed, in nn.Parameters."
    _require_equal(expected, found, name, "save and load", cure)


def _histories(scorer: Any, dataset: Dataset) -> Histories:
    """Test histories, short and long ones."""
    test = dataset.splits.test
    _, past = next(histories_of_targets(test, scorer.max_history, test.num_targets))
    chosen = np.unique(np.linspace(0, len(past.items) - 1, 12).astype(np.int64))
    return Histories(items=past.items[chosen], mask=past.mask[chosen], users=past.users[chosen])


def _scores(scorer: Any, past: Histories, name: str) -> Tensor:
    with (
        _holding(name, "shape", "scores (batch, item) of histories"),
        torch.no_grad(),
    ):
        scores = scorer.score(past)
    if not isinstance(scores, Tensor):
        raise _broken(name, "shape", f"expected a tensor, got {type(scores).__name__}.")
    return scores.detach().cpu()


def _require_equal(expected: Tensor, found: Tensor, name: str, clause: str, cure: str) -> None:
    """Require equality up to rounding, since the order of sums depends on a batch's shape."""
    finite = expected[expected.isfinite()].abs()
    atol = 1e-4 * max(1.0, float(finite.max())) if finite.numel() else 1e-4
    if not torch.allclose(expected, found, rtol=1e-3, atol=atol):
        apart = (expected - found).abs().nan_to_num(nan=0.0)
        row, item = divmod(int(apart.argmax()), expected.shape[1])
        raise _broken(
            name,
            clause,
            f"expected the same scores, got {float(expected[row, item]):.6g} and "
            f"{float(found[row, item]):.6g} for item {item}. {cure}",
        )


def _broken(name: str, clause: str, message: str) -> ContractError:
    return ContractError(name, clause, message, contract="teachers")
