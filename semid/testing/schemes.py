"""The contract of id schemes, clause by clause."""

from __future__ import annotations

import inspect
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semid.checks import ContractError
from semid.provenance import hash_json
from semid.testing.watching import holding, random_state, set_random_state, watched
from semid.tokenizers.base import NotFittedError, SemanticIdTokenizer, load_tokenizer_class
from semid.tokenizers.fields import Fields, rows_of_fields

__all__ = ["check_encoding", "check_settings", "check_tokenizer"]


def check_tokenizer(
    tokenizer: SemanticIdTokenizer | type[SemanticIdTokenizer],
    *,
    embeddings: Tensor | None = None,
    cf_embeddings: Tensor | None = None,
    fields: Fields | None = None,
) -> None:
    """Check a scheme against every clause of the contract. It is fitted twice.

    ======================  =====================================================================
    clause                  what holds
    ======================  =====================================================================
    ``settings``            each argument is stored under its name, and they survive JSON
    ``unknown settings``    an argument that the scheme does not know is refused
    ``fit``                 finite embeddings are learned from
    ``learned``             ``_fit`` returns tensors by name
    ``encode``              embeddings of the fitted width are encoded
    ``dtype``               codes are int64
    ``sizes``               ``codebook_sizes`` are whole numbers, known once fitted
    ``shape``               there is one code for each item and level
    ``device``              codes are on the embeddings' device (a GPU is tried if there is one)
    ``range``               level ``l`` lies in ``[0, codebook_sizes[l])``
    ``determinism``         two fits learn the same, two encodings agree, and change nothing learned
    ``global randomness``   global generators of torch, NumPy and Python stay as they are
    ``inputs untouched``    embeddings are not written to
    ``row order``           a code depends on its item's embedding, not on its row
    ``subset``              or on which other items are encoded with it
    ``unseen items``        items that were not fitted get valid codes, or a ``ValueError``
    ``save and load``       what is loaded has the same settings, content and codes
    ``bad input``           NaN, integers, another width, no items, CF vectors of other items or
                            other fields are refused with a ``ValueError``
    ``costs``               finite, not negative, and of an item alone, for each code of a level
    ======================  =====================================================================

    Args:
        tokenizer: A class, instantiated with its defaults, or a tokenizer whose settings are used;
            it is not modified.
        embeddings: Test inputs, float ``(item, dim)``. By default random vectors of width 24, twice
            as many as the largest level has codes, and at least 120.
        cf_embeddings: For a scheme with ``uses_cf``; by default random vectors of width 12.
        fields: For a scheme with ``uses_fields``; by default one of seven values for each item.

    Raises:
        ContractError: At the first violated clause: its name, what was expected, what was found,
            and how to fix it.
        ValueError: If a class cannot be instantiated without arguments.
    """
    template = _made(tokenizer)
    check_settings(template)
    sample = _sample_of(template, embeddings, cf_embeddings, fields)
    fitted = _fitted(template, sample)
    check_encoding(fitted, sample.embeddings, fields=sample.fields)
    _check_second_fit(fitted, sample)
    _check_unseen_items(fitted, sample)
    _check_save_and_load(fitted, sample)
    _check_costs(fitted, sample)
    _check_bad_input(fitted, sample)
    if torch.cuda.is_available():
        on_gpu = replace(sample, embeddings=sample.embeddings.cuda())
        check_encoding(_fitted(template, on_gpu), on_gpu.embeddings, fields=sample.fields)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Items for testing a scheme."""

    embeddings: Tensor
    cf_embeddings: Tensor | None = None
    fields: Fields | None = None

    def at(self, rows: Tensor) -> _Sample:
        """Some of the items, without collaborative vectors."""
        return _Sample(self.embeddings[rows], None, rows_of_fields(self.fields, rows))

    def encoder(self, tokenizer: SemanticIdTokenizer) -> Callable[[], Tensor]:
        """A function that encodes them."""
        if self.fields is None:
            return lambda: tokenizer.encode(self.embeddings)
        return lambda: tokenizer.encode(self.embeddings, fields=self.fields)


def check_settings(tokenizer: SemanticIdTokenizer) -> None:
    """Check the clauses that need no embeddings: ``settings`` and ``unknown settings``.

    Raises:
        ContractError: As `check_tokenizer`.
    """
    name, made_by = type(tokenizer).__name__, type(tokenizer)
    kinds = {parameter.kind for parameter in inspect.signature(made_by).parameters.values()}
    if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
        raise ContractError(
            name,
            "unknown settings",
            "expected an __init__ that refuses arguments it does not know, got one with * or **. "
            "Name each setting.",
        )
    settings = tokenizer.settings
    stored = "Store them unchanged, as numbers, text, lists or tuples of these, or None."
    with holding(name, "settings", "settings that are JSON values", stored):
        written = json.loads(json.dumps(settings, allow_nan=False))
        read = {key: tuple(v) if isinstance(v, list) else v for key, v in written.items()}
    with holding(name, "settings", f"that {name}(**settings) makes it again", stored):
        again = made_by(**read)
    if hash_json(again.settings) != hash_json(settings):
        raise ContractError(
            name, "settings", f"expected {settings} to come back, got {again.settings}. {stored}"
        )


def check_encoding(
    tokenizer: SemanticIdTokenizer,
    embeddings: Tensor,
    *,
    fields: Fields | None = None,
    moved: float = 0.0,
) -> None:
    """Check the clauses of a fitted tokenizer that need only a few encodings.

    ``encode`` and what it checks, ``determinism``, ``global randomness``, ``inputs untouched``,
    ``row order`` and ``subset``.

    Args:
        tokenizer: Fitted.
        embeddings: Float ``(item, dim)``, of the fitted width.
        fields: Fields of these items, for a scheme with ``uses_fields``.
        moved: Share of the items whose codes may change with their row or batch: in real data some
            lie halfway between two codes, where rounding decides.

    Raises:
        ContractError: As `check_tokenizer`.
    """
    name = type(tokenizer).__name__
    content = tokenizer.provenance.content
    sample = _Sample(embeddings, None, fields)
    codes = _encoded(tokenizer, sample)
    own = "Draw from a torch.Generator with a seed of the settings, if at all."
    _require_equal(name, "determinism", "two encodings", codes, _encoded(tokenizer, sample), own)
    if tokenizer.provenance.content != content:
        raise ContractError(
            name, "determinism", "expected encode to change nothing, got other learned tensors or "
            "settings after it. Do not write to them in _encode.",
        )  # fmt: skip
    alone = "Compute each code from the item's own embedding and from what was learned."
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
    order = order.to(embeddings.device)
    for clause, doing, rows in (
        ("row order", "an encoding in another order", order),
        ("subset", "an encoding of every third item", torch.arange(0, len(codes), 3)),
        ("subset", "an encoding of one item", order[:1]),
    ):
        found = _encoded(tokenizer, sample.at(rows))
        _require_equal(name, clause, doing, codes[rows], found, alone, moved=moved)


def _made(tokenizer: SemanticIdTokenizer | type[SemanticIdTokenizer]) -> SemanticIdTokenizer:
    if isinstance(tokenizer, SemanticIdTokenizer):
        return tokenizer
    try:
        return tokenizer()
    except TypeError as error:
        raise ValueError(
            f"expected a class that can be made without arguments, got {tokenizer.__name__} "
            f"({error}). Pass a tokenizer made with the settings to be checked."
        ) from error


def _sample_of(
    template: SemanticIdTokenizer,
    embeddings: Tensor | None,
    cf_embeddings: Tensor | None,
    fields: Fields | None,
) -> _Sample:
    """The given inputs, completed with random ones."""
    if embeddings is None:
        embeddings = _random_vectors(_num_items(template), 24, seed=0)
    if cf_embeddings is None and template.uses_cf:
        cf_embeddings = _random_vectors(len(embeddings), 12, seed=1)
    if fields is None and template.uses_fields:
        fields = {
            name: [f"value {row % 7}" for row in range(len(embeddings))]
            for name in template.uses_fields
        }
    return _Sample(embeddings, cf_embeddings, fields)


def _again(tokenizer: SemanticIdTokenizer) -> SemanticIdTokenizer:
    """An unfitted tokenizer with the same settings."""
    return type(tokenizer)(**tokenizer.settings)


def _num_items(tokenizer: SemanticIdTokenizer) -> int:
    return max(120, 2 * max(tokenizer.settings.get("codebook_sizes") or (1,)))


def _random_vectors(num_items: int, dim: int, *, seed: int) -> Tensor:
    return torch.randn(num_items, dim, generator=torch.Generator().manual_seed(seed))


def _fitted(template: SemanticIdTokenizer, sample: _Sample) -> SemanticIdTokenizer:
    tokenizer = _again(template)
    embeddings, cf_embeddings = sample.embeddings, sample.cf_embeddings
    inputs = [embeddings] if cf_embeddings is None else [embeddings, cf_embeddings]
    shapes = " and ".join(str(tuple(values.shape)) for values in inputs)
    cure = "Fix _fit, or pass embeddings= that the scheme can learn from."
    name = type(tokenizer).__name__
    with holding(name, "fit", f"to learn from finite vectors {shapes}", cure):
        return watched(
            name,
            "fit",
            inputs,
            lambda: tokenizer.fit(embeddings, cf_embeddings=cf_embeddings, fields=sample.fields),
        )


def _encoded(tokenizer: SemanticIdTokenizer, sample: _Sample) -> Tensor:
    embeddings = sample.embeddings
    name, expected = type(tokenizer).__name__, f"codes of {tuple(embeddings.shape)} embeddings"
    cure = "Fix _encode; it may use only the settings and what _fit returned."
    with holding(name, "encode", expected, cure):
        return watched(name, "encode", [embeddings], sample.encoder(tokenizer))


def _check_second_fit(first: SemanticIdTokenizer, sample: _Sample) -> None:
    """Check that a second fit, with other global random state, learns the same."""
    name = type(first).__name__
    own = "Draw from a torch.Generator with a seed of the settings, if at all."
    before = random_state()
    try:
        torch.rand(7), np.random.rand(7), [random.random() for _ in range(7)]
        second = _fitted(first, sample)
        codes = _encoded(first, sample), _encoded(second, sample)
    finally:
        set_random_state(before)
    _require_equal(name, "determinism", "two fits on the same vectors", *codes, own)
    if first.provenance.content != second.provenance.content:
        raise ContractError(
            name, "determinism", f"expected two fits to learn the same, got other tensors. {own}"
        )


def _check_unseen_items(tokenizer: SemanticIdTokenizer, sample: _Sample) -> None:
    some = sample.at(torch.arange(min(9, len(sample.embeddings))))
    width = sample.embeddings.shape[1]
    vectors = 3 * _random_vectors(len(some.embeddings), width, seed=2).to(sample.embeddings)
    unseen = replace(some, embeddings=vectors)
    cure = "Encode any finite vector, or refuse it with a ValueError."
    expected = "codes or a ValueError for items that were not fitted"
    with holding(type(tokenizer).__name__, "unseen items", expected, cure):
        try:
            unseen.encoder(tokenizer)()
        except ContractError as error:
            raise ContractError(
                type(tokenizer).__name__, "unseen items", f"{expected}, got: {error}"
            ) from error
        except ValueError:
            return


def _check_save_and_load(tokenizer: SemanticIdTokenizer, sample: _Sample) -> None:
    name = type(tokenizer).__name__
    codes, provenance = sample.encoder(tokenizer)(), tokenizer.provenance
    cure = "Return from _fit all that _encode needs, each tensor with its own memory."
    with tempfile.TemporaryDirectory() as folder:
        expected = "a class that is found by its name, and its from_pretrained to give it back"
        with holding(name, "save and load", expected, cure):
            tokenizer.save_pretrained(Path(folder) / "tokenizer")
            loaded = load_tokenizer_class(tokenizer.scheme).from_pretrained(
                Path(folder) / "tokenizer"
            )
            found = sample.encoder(loaded)()
        _require_equal(name, "save and load", "codes before and after", codes, found, cure)
        known = (provenance.content, provenance.inputs, tuple(tokenizer.codebook_sizes))
        record = loaded.provenance
        if (record.content, record.inputs, tuple(loaded.codebook_sizes)) != known:
            raise ContractError(
                name,
                "save and load",
                f"expected the same provenance and sizes, got others. {cure}",
            )


def _check_costs(tokenizer: SemanticIdTokenizer, sample: _Sample) -> None:
    name, embeddings = type(tokenizer).__name__, sample.embeddings
    codes = sample.encoder(tokenizer)()
    cure = "Return squared distances, or leave _costs out."
    for level in range(codes.shape[1]):
        prefix = codes[:, :level]
        with holding(name, "costs", f"a distance to each code of level {level}", cure):
            costs = watched(
                name,
                "costs",
                [embeddings, prefix],
                partial(tokenizer.costs, embeddings, prefix),
            )
            part = tokenizer.costs(embeddings[::3], prefix[::3])
        found = None
        if not costs.isfinite().all() or costs.min() < 0:
            found = f"{costs.min().item()} to {costs.max().item()}"
        elif not torch.allclose(part, costs[::3], rtol=1e-3, atol=1e-3 * float(costs.max())):
            found = "others where fewer items are asked for"
        if found:
            raise ContractError(
                name,
                "costs",
                f"expected finite numbers from 0 for each item alone at level {level}, "
                f"got {found}. {cure}",
            )


def _check_bad_input(tokenizer: SemanticIdTokenizer, sample: _Sample) -> None:
    embeddings, cf_embeddings = sample.embeddings, sample.cf_embeddings
    holed = embeddings.clone()
    holed[-1, -1] = torch.nan
    bad = {
        "NaN": holed,
        "integers": embeddings.long(),
        "no items": embeddings[:0],
        "a single vector": embeddings[0],
    }
    for what, values in bad.items():
        _require_refused(tokenizer, f"fit with {what}", replace(sample, embeddings=values))
        _require_refused(tokenizer, f"encode with {what}", replace(sample, embeddings=values))
    wider = torch.cat([embeddings, embeddings[:, :1]], dim=1)
    another = replace(sample, embeddings=wider)
    _require_refused(tokenizer, "encode with another width than was fitted", another)
    if cf_embeddings is None:
        unused = replace(sample, cf_embeddings=embeddings)
        _require_refused(tokenizer, "fit with cf_embeddings, without uses_cf", unused)
    else:
        fewer = replace(sample, cf_embeddings=cf_embeddings[1:])
        _require_refused(tokenizer, "fit with cf_embeddings of other items", fewer)
    others = replace(sample, fields={"a field that is not used": ["a"] * len(embeddings)})
    _require_refused(tokenizer, "fit with other fields than uses_fields", others)
    _require_refused(tokenizer, "encode with other fields than uses_fields", others)
    try:
        sample.encoder(_again(tokenizer))()
    except NotFittedError:
        return
    _refuse(tokenizer, "encode before fit", "codes")


def _require_refused(tokenizer: SemanticIdTokenizer, doing: str, sample: _Sample) -> None:
    fresh = _again(tokenizer)
    try:
        if doing.startswith("fit"):
            cf, fields = sample.cf_embeddings, sample.fields
            fresh.fit(sample.embeddings, cf_embeddings=cf, fields=fields)
        else:
            sample.encoder(tokenizer)()
    except ValueError:
        return
    except Exception as error:
        _refuse(tokenizer, doing, f"{type(error).__name__}: {error}")
    _refuse(tokenizer, doing, "no error")


def _refuse(tokenizer: SemanticIdTokenizer, doing: str, found: str) -> None:
    raise ContractError(
        type(tokenizer).__name__,
        "bad input",
        f"expected a ValueError from {doing}, got {found}. "
        "Override _fit and _encode only: the public methods check what goes in.",
    )


def _require_equal(
    name: str,
    clause: str,
    doing: str,
    codes: Tensor,
    found: Tensor,
    cure: str,
    *,
    moved: float = 0.0,
) -> None:
    same_shape = codes.shape == found.shape
    differing = int((codes != found).any(dim=1).sum()) if same_shape else len(codes)
    if differing > moved * len(codes):
        raise ContractError(
            name,
            clause,
            f"expected {doing} to give equal codes, got other codes for {differing} of "
            f"{len(codes)} items. {cure}",
        )
