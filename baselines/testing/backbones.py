"""The contract of backbones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np
import polars as pl
import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone, BuildContext
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.testing.holding import holding
from semid.catalog import Catalog
from semid.checks import ContractError
from tca.candidates import Positions
from tca.projection import Projection

_holding = partial(holding, contract="backbones")

_SIZES = (3, 3, 2)
_CODES = [[i, j, 0] for i in range(3) for j in range(3)] + [[0, 0, 1], [1, 2, 1], [2, 1, 1]]
_PASTS = ([3, 1, 4, 1], [7], [2, 9], [11, 10, 5])


def check_backbone(make: Callable[[BuildContext], Backbone]) -> None:
    """Run a backbone through every clause of the contract, in a second or two.

    =================  ==========================================================================
    clause             what holds
    =================  ==========================================================================
    ``build``          it is built from a context, and is a ``Backbone`` with a label
    ``seed``           equal seeds give equal weights, different seeds different ones
    ``paths``          each item has its path in the trie
    ``max history``    it is an integer of at least 1
    ``windows``        training uses every target of the data exactly once
    ``shape``          ``forward`` gives float ``(position, token)``, without NaN or +inf
    ``determinism``    in eval mode, equal histories have equal logits
    ``company``        logits depend neither on the other rows of a batch nor on padding
    ``decoding``       ``start`` and ``extend`` give the logits that ``forward`` gives
    ``future``         logits of a token do not depend on the target's later tokens
    ``history``        they depend on items of the history, and on no more than ``max_history``
    ``gradient``       every parameter that is trained gets a gradient
    ``save and load``  trained parameters determine the logits
    =================  ==========================================================================

    Args:
        make: Builds a backbone from a context, as ``lambda context: Mine(MyConfig(), context)``
            does; the context has a dozen items, with titles and three codes each.

    Raises:
        ContractError: At the first broken clause: its name, what was expected, what was found,
            and how to fix it.
    """
    check = _Check(make)
    check.build()
    check.windows()
    check.shape()
    check.company()
    check.decoding()
    check.history()
    check.learning()


class _Check:
    """The clauses, applied in order to one backbone and others built like it."""

    def __init__(self, make: Callable[[BuildContext], Backbone]) -> None:
        self.make = make
        self.name = getattr(make, "__name__", type(make).__name__)
        self.backbone = self.made(0)
        self.data = _sequences()

    def made(self, seed: int) -> Backbone:
        titles = [f"thing {row} of {row % 4}" for row in range(len(_CODES))]
        catalog = Catalog(item_ids=list(range(len(_CODES))), fields=pl.DataFrame({"title": titles}))
        context = BuildContext(torch.tensor(_CODES), _SIZES, seed, catalog)
        with _holding(self.name, "build", "to be made from a context"):
            backbone = self.make(context)
        if not isinstance(backbone, Backbone) or not isinstance(backbone.label, str):
            self.broken("build", f"expected a Backbone with a label, got {backbone!r}.")
        self.name = type(backbone).__name__
        return backbone.eval()

    def build(self) -> None:
        first, same, other = (dict(self.made(s).named_parameters()) for s in (0, 0, 1))
        if not all(value.equal(same[name]) for name, value in first.items()):
            self.broken("seed", "expected equal weights of equal seeds. Seed by context.seed.")
        if first and all(value.equal(other[name]) for name, value in first.items()):
            self.broken("seed", "expected other weights of another seed. Seed by context.seed.")
        trie, longest = self.backbone.trie, self.backbone.max_history
        if trie.num_items != len(_CODES):
            self.broken("paths", f"expected {len(_CODES)} items in the trie, got {trie.num_items}.")
        if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
            self.broken("max history", f"expected a whole number from 1 on, got {longest!r}.")

    def windows(self) -> None:
        with _holding(self.name, "windows", "windows of sequences"):
            windows = self.backbone.windows(self.data)
            batch = windows.batch(np.arange(len(windows)))
        found = sorted(batch.target_id.tolist())
        if found != list(range(self.data.num_targets)):
            self.broken(
                "windows",
                f"expected each of {self.data.num_targets} targets once, got {len(found)}. Take "
                "Windows.per_target or Windows.per_sequence.",
            )

    def shape(self) -> None:
        """The clauses ``shape`` and ``determinism``."""
        batch = self.batch()
        logits = self.forced(batch)
        self.equal("determinism", logits, self.forced(batch), "Draw nothing in eval mode.")

    def decoding(self) -> None:
        """The clauses ``decoding`` and ``future``."""
        batch = self.batch()
        logits = self.forced(batch)
        cure = "Read a path in start and extend as forward does: its own tokens before each."
        for target, item in enumerate(batch.target_items.tolist()):
            past = _one(batch.windows, target).without_last()
            path = self.backbone.paths[item]
            path = path[path >= 0]
            found = self.decoded(past, path)
            self.equal("decoding", logits[target, : len(path)], found, cure)
        changed = self.forced(_with_other_targets(batch, self.backbone.paths))
        same = "Read only a path's tokens before the position whose logits are asked for."
        self.equal("future", logits[:, 0], changed[:, 0], same)

    def company(self) -> None:
        together = self.first(_histories(_PASTS))
        cure = "Let nothing but a row's own history influence it, and nothing where mask is False."
        self.equal("company", together, self.first(_histories(_PASTS, padding=3)), cure)
        for row, past in enumerate(_PASTS):
            self.equal("company", together[row : row + 1], self.first(_histories([past])), cure)

    def history(self) -> None:
        longest = self.backbone.max_history
        past = [row % len(_CODES) for row in range(longest)]
        base, more = (self.first(_histories([each])) for each in (past, [5, 6, *past]))
        self.equal("history", base, more, "Cut histories by histories.last(self.max_history).")
        other = self.first(_histories([[*past[:-1], (past[-1] + 1) % len(_CODES)]]))
        if torch.allclose(base, other, atol=1e-7):
            self.broken("history", "expected logits that depend on the last item, got equal ones.")

    def learning(self) -> None:
        backbone = self.backbone
        logits = self.forced(self.batch(), grad=True)
        logits[logits.isfinite()].square().mean().backward()  # type: ignore[no-untyped-call]
        for name, value in backbone.named_parameters():
            if value.requires_grad and value.grad is None:
                self.broken("gradient", f"expected a gradient of {name}, got none. Use or drop it.")
        fresh, batch = self.made(1), self.batch()
        fresh.load_state_dict(backbone.state_dict())
        found = self.forced(batch, backbone=fresh)
        cure = "Keep all that is learned, or drawn by the seed, in parameters or buffers."
        self.equal("save and load", self.forced(batch), found, cure)

    def batch(self) -> TrainBatch:
        windows = Windows.per_target(self.data, self.backbone.max_history)
        return windows.batch(np.arange(len(windows)))

    def forced(
        self, batch: TrainBatch, *, grad: bool = False, backbone: Backbone | None = None
    ) -> Tensor:
        """Teacher-forced logits at every position; float ``(target, pos, token)``."""
        backbone = backbone or self.backbone
        targets, levels = len(batch.target_row), backbone.trie.depth
        at = Positions(
            target=torch.arange(targets).repeat(levels),
            pos=torch.arange(levels).repeat_interleave(targets),
            real=torch.ones(targets * levels, dtype=torch.bool),
            count=torch.tensor(targets * levels),
        )
        with (
            _holding(self.name, "shape", "logits at positions"),
            torch.set_grad_enabled(grad),
        ):
            found = backbone(batch, at)
            logits = found.logits() if isinstance(found, Projection) else found
        shape = (targets * levels, backbone.trie.num_tokens)
        if tuple(logits.shape) != shape or bool((logits.isnan() | (logits == torch.inf)).any()):
            self.broken(
                "shape",
                f"expected logits (position, token) = {shape}, numbers or -inf, got "
                f"{tuple(logits.shape)}.",
            )
        return logits.view(levels, targets, -1).transpose(0, 1)

    @torch.no_grad()
    def decoded(self, past: Histories, path: Tensor) -> Tensor:
        """Next-token logits along a path, one token at a time; float ``(pos, token)``."""
        found = []
        with _holding(self.name, "decoding", "prefixes of one more token"):
            prefixes, only = self.backbone.start(past), torch.zeros(1, 1, dtype=torch.int64)
            for depth in range(len(path)):
                if depth:
                    prefixes = prefixes.extend(only, path[depth - 1].view(1, 1))
                found.append(prefixes.logits()[0, 0])
        return torch.stack(found)

    @torch.no_grad()
    def first(self, past: Histories) -> Tensor:
        with _holding(self.name, "decoding", "an empty prefix"):
            return self.backbone.start(past).logits()[:, 0]

    def equal(self, clause: str, expected: Tensor, found: Tensor, cure: str) -> None:
        if not torch.allclose(expected, found, rtol=1e-3, atol=1e-4):
            apart = float((expected - found).nan_to_num(nan=0.0).abs().max())
            self.broken(
                clause, f"expected equal logits, got some that differ by {apart:.3g}. {cure}"
            )

    def broken(self, clause: str, message: str) -> NoReturn:
        raise ContractError(self.name, clause, message, contract="backbones")


def _sequences() -> SequenceSet:
    """A few sequences over the items."""
    gen = np.random.default_rng(0)
    lengths = np.array([2, 3, 5, 4, 6, 2])
    return SequenceSet(
        items=gen.integers(len(_CODES), size=int(lengths.sum())),
        offsets=np.concatenate([[0], lengths.cumsum()]),
        first_target=np.ones(len(lengths), dtype=np.int64),
        users=np.arange(len(lengths)),
    )


def _histories(pasts: Any, *, padding: int = 0) -> Histories:
    """Left-padded histories; the padding holds different values in each row."""
    width = padding + max(map(len, pasts))
    rows = [[row % 3] * (width - len(past)) + list(past) for row, past in enumerate(pasts)]
    mask = [[False] * (width - len(past)) + [True] * len(past) for past in pasts]
    users = torch.zeros(len(rows), dtype=torch.int64)
    return Histories(items=torch.tensor(rows), mask=torch.tensor(mask), users=users)


def _one(windows: Histories, row: int) -> Histories:
    """One row without its padding."""
    kept = windows.mask[row]
    return Histories(
        items=windows.items[row][kept][None],
        mask=windows.mask[row][kept][None],
        users=windows.users[row : row + 1],
    )


def _with_other_targets(batch: TrainBatch, paths: Tensor) -> TrainBatch:
    """Each target replaced by the next item, whose path shares only the start."""
    items = batch.windows.items.clone()
    items[batch.target_row, batch.target_pos] = (batch.target_items + 1) % len(paths)
    windows = Histories(items=items, mask=batch.windows.mask, users=batch.windows.users)
    return TrainBatch(
        windows=windows,
        target_row=batch.target_row,
        target_pos=batch.target_pos,
        target_id=batch.target_id,
    )
