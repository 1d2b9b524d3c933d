"""Every scheme of ours keeps the contract, and each way to break it is told by its clause."""

import inspect
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semid.testing import ContractError, check_encoding, check_tokenizer
from semid.tokenizers import BUILT_IN, SemanticIdTokenizer, load_tokenizer_class

SMALL: dict[str, Any] = {"codebook_sizes": (8, 8), "epochs": 4, "hidden_dims": (16,)}


@dataclass(kw_only=True, eq=False)
class Bins(SemanticIdTokenizer):
    """A scheme that keeps the contract: dimension ``l`` in bins of equal width."""

    codebook_sizes: tuple[int, ...] = (4, 3)
    scale: float = 1.0

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {"low": embeddings.amin(dim=0), "high": embeddings.amax(dim=0)}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        share = (embeddings - learned["low"]) / (learned["high"] - learned["low"])
        sizes = torch.tensor(self.codebook_sizes, device=embeddings.device)
        return (share[:, : len(sizes)] * sizes).long().clamp_min(0).minimum(sizes - 1)


@dataclass(kw_only=True, eq=False)
class CollaborativeBins(Bins):
    """Learns its bins from collaborative vectors too, and knows its sizes only then."""

    uses_cf = True

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        assert cf_embeddings is not None
        return {**super()._fit(embeddings, None), "spread": cf_embeddings.std()}


class LearnedSizes(SemanticIdTokenizer):
    """As many codes as there are items."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.learned["known"]),)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {"known": embeddings.clone()}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings[:, None] - learned["known"]).square().sum(2).argmin(1, keepdim=True)


@pytest.mark.parametrize("scheme", BUILT_IN)
def test_our_schemes_keep_the_contract(scheme: str) -> None:
    made_by = load_tokenizer_class(scheme)
    known = inspect.signature(made_by).parameters
    check_tokenizer(made_by(**{name: v for name, v in SMALL.items() if name in known}))


@pytest.mark.parametrize("scheme", [Bins, CollaborativeBins, LearnedSizes])
def test_a_scheme_that_keeps_the_contract_passes(scheme: type[SemanticIdTokenizer]) -> None:
    check_tokenizer(scheme)


def test_the_tokenizer_and_global_randomness_stay_as_they_are() -> None:
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    tokenizer = Bins(codebook_sizes=(5,))
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    check_tokenizer(tokenizer, embeddings=vectors)
    assert not tokenizer.is_fitted
    assert torch.get_rng_state().equal(state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]


# One broken scheme for each clause.


@dataclass(kw_only=True, eq=False)
class LosesASetting(Bins):
    def __init__(self, codebook_sizes: tuple[int, ...] = (4, 3), depth: int = 1) -> None:
        self.codebook_sizes = codebook_sizes


@dataclass(kw_only=True, eq=False)
class SettingThatIsNoJson(Bins):
    weights: Any = field(default_factory=lambda: torch.ones(2))


@dataclass(kw_only=True, eq=False)
class SettingThatChanges(Bins):
    def __post_init__(self) -> None:
        self.scale *= 2


class TakesAnything(Bins):
    def __init__(self, **settings: Any) -> None:
        self.settings_ = settings


class CannotFit(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        raise KeyError("center")


class LearnsANumber(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {"low": float(embeddings.min())}  # type: ignore[dict-item]


class LearnsNothing(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return None  # type: ignore[return-value]


class CannotEncode(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return embeddings @ learned["low"][:-1]


class FloatCodes(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, learned).float()


class ListOfCodes(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, learned).tolist()  # type: ignore[no-any-return]


class EmptySizes(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        self.codebook_sizes = ()
        return torch.zeros(len(embeddings), 0, dtype=torch.int64)


class OneLevelTooFew(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, learned)[:, :-1]


class OnAnotherDevice(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, learned).to("meta")


class CountsFromOne(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, learned) + 1


class Moody(Bins):
    """Encodes anew each time."""

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        generator = torch.Generator()
        generator.seed()
        return torch.randint(3, (len(embeddings), 2), generator=generator)


class LearnsAnew(Bins):
    """Fits anew each time, in a corner where the global generator is put back after."""

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        with torch.random.fork_rng():
            return {**super()._fit(embeddings, None), "noise": torch.rand(3)}


class LearnsFromQuestions(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        codes = super()._encode(embeddings, learned)
        learned["low"].sub_(1e-3)
        return codes


class SeedsTheWorld(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return super()._fit(embeddings, cf_embeddings)


class DrawsFromNumpy(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        np.random.rand()
        return super()._encode(embeddings, learned)


class CentersInPlace(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return super()._fit(embeddings.sub_(embeddings.mean(dim=0)), None)


class EncodesInPlace(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        codes = super()._encode(embeddings, learned)
        embeddings.mul_(0.5)
        return codes


class NumbersRows(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        codes = super()._encode(embeddings, learned)
        codes[:, 0] = torch.arange(len(codes)) % 4
        return codes


class RanksItsCompany(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        above = embeddings[:, :2] > embeddings[:, :2].median(dim=0).values
        return above.long()


class RefusesStrangersBadly(Bins):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        outside = (embeddings < learned["low"]) | (embeddings > learned["high"])
        return super()._encode(embeddings, learned) - outside.any().long() * 9


class RemembersOnSelf(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        self.remembered = super()._fit(embeddings, None)
        return {}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, self.remembered)


class LearnsOneTensorTwice(Bins):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        learned = super()._fit(embeddings, None)
        return {**learned, "again": learned["low"]}


class EncodesAnything(Bins):
    def encode(self, embeddings: Tensor) -> Tensor:
        return self._encode(torch.nan_to_num(embeddings.float()), self.learned)


class CostsOfAnotherLevel(Bins):
    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return embeddings.new_zeros(len(embeddings), self.codebook_sizes[0])


class NegativeCosts(Bins):
    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._costs(embeddings, prefix, learned) - 1


class CostsOfItsCompany(Bins):
    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._costs(embeddings, prefix, learned) + len(embeddings)


BROKEN = [
    (LosesASetting, "settings", "no attribute 'depth'"),
    (SettingThatIsNoJson, "settings", "Tensor is not JSON"),
    (SettingThatChanges, "settings", "to come back"),
    (TakesAnything, "unknown settings", "Name each setting"),
    (CannotFit, "fit", "KeyError: 'center'"),
    (LearnsANumber, "learned", "got {'low': 'float'}"),
    (LearnsNothing, "learned", "got NoneType"),
    (CannotEncode, "encode", "RuntimeError"),
    (FloatCodes, "dtype", "got torch.float32"),
    (ListOfCodes, "dtype", "got list"),
    (EmptySizes, "sizes", "whole number a level, got ()"),
    (OneLevelTooFew, "shape", "(120, 2), got (120, 1)"),
    (OnAnotherDevice, "device", "on cpu, got meta"),
    (CountsFromOne, "range", "must lie in [0, "),
    (Moody, "determinism", "two encodings"),
    (LearnsAnew, "determinism", "two fits"),
    (LearnsFromQuestions, "determinism", "encode to change nothing"),
    (SeedsTheWorld, "global randomness", "expected fit"),
    (DrawsFromNumpy, "global randomness", "expected encode"),
    (CentersInPlace, "inputs untouched", "expected fit"),
    (EncodesInPlace, "inputs untouched", "expected encode"),
    (NumbersRows, "row order", "the item's own embedding"),
    (RanksItsCompany, "subset", "the item's own embedding"),
    (RefusesStrangersBadly, "unseen items", "must lie in [0, "),
    (RemembersOnSelf, "save and load", "Return from _fit all that _encode needs"),
    (LearnsOneTensorTwice, "save and load", "its own memory"),
    (EncodesAnything, "bad input", "encode with NaN, got no error"),
    (CostsOfAnotherLevel, "costs", "(120, 3), got (120, 4)"),
    (NegativeCosts, "costs", "got -1.0 to -1.0"),
    (CostsOfItsCompany, "costs", "fewer items"),
]


@pytest.mark.parametrize(
    ("scheme", "clause", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_clause_is_named(
    scheme: type[SemanticIdTokenizer], clause: str, says: str
) -> None:
    with pytest.raises(ContractError) as caught:
        check_tokenizer(scheme)
    message = str(caught.value)
    assert caught.value.clause == clause, message
    assert message.startswith(f"{scheme.__name__} breaks the contract of id schemes, clause ")
    assert says in message
    assert "\n" not in message


def test_every_clause_is_documented_and_has_a_scheme_that_breaks_it() -> None:
    documented = inspect.getdoc(check_tokenizer) or ""
    clauses = {line.split("``")[1] for line in documented.splitlines() if line.startswith("``")}
    assert clauses == {clause for _, clause, _ in BROKEN}


def test_some_items_between_two_codes_may_move_where_that_is_allowed() -> None:
    vectors = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    fitted = NumbersRows().fit(vectors)
    with pytest.raises(ContractError, match="row order"):
        check_encoding(fitted, vectors, moved=0.5)
    check_encoding(fitted, vectors, moved=1.0)


def test_a_class_that_needs_arguments_is_to_be_made_first() -> None:
    class NeedsSizes(Bins):
        def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
            self.codebook_sizes = codebook_sizes

    with pytest.raises(ValueError, match="Pass a tokenizer made with the settings"):
        check_tokenizer(NeedsSizes)
