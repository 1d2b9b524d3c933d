"""The contract of an ID scheme: fit on embeddings, then encode each item as codes.

A new scheme subclasses `SemanticIdTokenizer`, takes its settings as keyword arguments (a
``@dataclass(kw_only=True, eq=False)`` is the shortest form) and writes `_fit` and `_encode`::

    @dataclass(kw_only=True, eq=False)
    class SignTokenizer(SemanticIdTokenizer):
        codebook_sizes: tuple[int, ...] = (2, 2, 2)

        def _fit(self, embeddings, cf_embeddings):
            return {"center": embeddings.mean(dim=0)}

        def _encode(self, embeddings, learned):
            width = len(self.codebook_sizes)
            return (embeddings > learned["center"])[:, :width].long()

`semid.testing.check_tokenizer` checks every clause of the contract.
"""

from __future__ import annotations

import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from semid.checks import ContractError
from semid.distributed import broadcast_from_main, num_processes, require_equal
from semid.json_files import load_record
from semid.provenance import Provenance, atomic_dir, hash_arrays, hash_json, require_same
from semid.registry import load_class, refuse_unnamed_code
from semid.settings import settings_before, without_later
from semid.tokenizers.checks import (
    check_codes,
    checked_vectors,
    code_flaw,
    load_tensors,
    require_tensors,
)
from semid.tokenizers.fields import Fields, field_indices, hash_fields

__all__ = [
    "BUILT_IN",
    "ContractError",
    "NotFittedError",
    "SemanticIdTokenizer",
    "load_tokenizer_class",
    "make_tokenizer",
]

BUILT_IN = {
    "rqkmeans": "semid.tokenizers.rqkmeans:RQKMeans",
    "rqvae": "semid.tokenizers.rqvae:RQVAE",
    "rvq": "semid.tokenizers.rvq:RVQ",
    "letter": "semid.tokenizers.letter:LETTER",
    "hierarchical": "semid.tokenizers.hierarchical:HierarchicalKMeans",
    "pq": "semid.tokenizers.product:PQ",
    "opq": "semid.tokenizers.product:OPQ",
    "atomic": "semid.tokenizers.controls:AtomicTokenizer",
    "random": "semid.tokenizers.controls:RandomTokenizer",
}
"""Short names of the built-in schemes."""

MOST_SEED = 2**32 - 1
"""Largest seed of a scheme."""

_CONFIG = "config.json"
_LEARNED = "learned.safetensors"


class NotFittedError(ValueError):
    """A tokenizer was used before it was fitted."""


class SemanticIdTokenizer(ABC):
    """Turns item embeddings into codes.

    The settings of a scheme are the arguments of its ``__init__``, which stores each under its name
    and does nothing else. Its learned state is the mapping returned by `_fit`. The public methods
    check inputs and outputs and must not be overridden.

    Attributes:
        codebook_sizes: Number of codes of each level; a setting, or available once fitted.
        uses_cf: Whether the scheme learns from collaborative embeddings; otherwise they are
            refused.
        uses_fields: Columns of the catalogue that it also uses, such as ``("category",)``. `_fit`
            and `_encode` then take a last argument ``fields``: by column, int64 ``(item,)``, the
            index of each item's value among the sorted fitted values. An item with an unknown value
            is refused.
    """

    codebook_sizes: tuple[int, ...]
    uses_cf: ClassVar[bool] = False
    uses_fields: ClassVar[tuple[str, ...]] = ()

    _learned: dict[str, Tensor] | None = None
    _inputs: dict[str, str]
    _input_dim: int
    _field_values: dict[str, list[str]]

    @abstractmethod
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        """Fit on all items; return every tensor that `_encode` needs, by name.

        Args:
            embeddings: Finite float32 ``(item, dim)``.
            cf_embeddings: Finite float32 ``(item, cf_dim)``; None unless ``uses_cf``.
        """

    @abstractmethod
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        """Codes of each item, int64 ``(item, level)``; deterministic.

        Args:
            embeddings: Finite float32 ``(item, dim)``, of the fitted width.
            learned: The tensors returned by `_fit`, on the device of ``embeddings``.
        """

    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        """The values of `costs`; zero unless overridden."""
        return embeddings.new_zeros(len(embeddings), self.codebook_sizes[prefix.shape[1]])

    @property
    def scheme(self) -> str:
        """The name under which `load_tokenizer_class` finds this class."""
        return _name_of(type(self))

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor arguments of this tokenizer.

        Raises:
            ContractError: If ``__init__`` did not store an argument under its name.
        """
        names = list(inspect.signature(type(self)).parameters)
        if lost := [name for name in names if not hasattr(self, name)]:
            raise ContractError(
                type(self).__name__,
                "settings",
                f"expected each argument stored under its name, got no attribute {lost[0]!r}. "
                "Store it in __init__; a dataclass does.",
            )
        return {name: getattr(self, name) for name in names}

    @property
    def is_fitted(self) -> bool:
        """Whether the tokenizer is fitted."""
        return self._learned is not None

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned tensors, by name.

        Raises:
            NotFittedError: Before `fit` or `from_pretrained`.
        """
        if self._learned is None:
            raise NotFittedError(
                f"{type(self).__name__} has learned nothing yet. "
                "Call fit(embeddings), or load one with from_pretrained(folder)."
            )
        return self._learned

    @property
    def provenance(self) -> Provenance:
        """Content hash of settings and learned tensors, and hashes of the arrays it was fitted on.

        Raises:
            NotFittedError: Before `fit` or `from_pretrained`.
        """
        tensors = {name: hash_arrays(value.cpu().numpy()) for name, value in self.learned.items()}
        settings = without_later(self.settings, type(self))
        config = {"tokenizer": self.scheme, "settings": settings}
        content = {**config, **self._widths, "learned": tensors}
        return Provenance(
            kind="tokenizer",
            content=hash_json(content),
            inputs=self._inputs,
            config=config,
        )

    @property
    def _widths(self) -> dict[str, Any]:
        """Properties of the fitted inputs, as JSON values."""
        known = {"field_values": self._field_values} if self.uses_fields else {}
        return {"input_dim": self._input_dim, **known}

    def fit(
        self,
        embeddings: Tensor,
        *,
        cf_embeddings: Tensor | None = None,
        fields: Fields | None = None,
    ) -> Self:
        """Fit the scheme to the embeddings of all items.

        Deterministic given its settings and device; does not touch global random state. If
        ``torch.distributed`` is initialised, all processes must call this with the same arguments:
        rank 0 fits and the others receive the result.

        Args:
            embeddings: Float ``(item, dim)``, in the row order of the catalogue.
            cf_embeddings: Collaborative item vectors, float ``(item, cf_dim)`` in the same order,
                for schemes that use them.
            fields: Text of the columns in ``uses_fields``, one per item; see
                `semid.tokenizers.fields.fields_of`.

        Raises:
            ValueError: If an input is not a finite float matrix, row counts differ,
                ``cf_embeddings`` are given to a scheme that does not use them, or processes pass
                different inputs or settings.
            ContractError: If ``_fit`` returns anything but tensors by name.
        """
        vectors = checked_vectors("embeddings", embeddings)
        inputs = {"embeddings": hash_arrays(vectors.cpu().numpy())}
        if cf_embeddings is not None:
            if not self.uses_cf:
                raise ValueError(
                    f"{type(self).__name__} learns from embeddings alone, got cf_embeddings too. "
                    "Leave them out, or choose a scheme that uses them."
                )
            cf_embeddings = checked_vectors("cf_embeddings", cf_embeddings)
            if len(cf_embeddings) != len(vectors):
                raise ValueError(
                    f"expected cf_embeddings of the same {len(vectors)} items as embeddings, got "
                    f"{len(cf_embeddings)} rows. Bring both into the row order of one catalogue."
                )
            inputs["cf_embeddings"] = hash_arrays(cf_embeddings.cpu().numpy())
        values = {name: sorted(set(texts)) for name, texts in (fields or {}).items()}
        known = {name: values.get(name, []) for name in self.uses_fields}
        indices = field_indices(fields, known, vectors)
        if fields is not None:
            inputs["fields"] = hash_fields(fields)
        if num_processes() > 1:
            asked = {"inputs": inputs, "scheme": self.scheme, "settings": self.settings}
            require_equal(hash_json(asked), "inputs and settings")
        learned = broadcast_from_main(
            lambda: self._tensors_learned(vectors, cf_embeddings, indices)
        )
        self._learned = {name: value.to(vectors.device) for name, value in learned.items()}
        self._inputs = inputs
        self._input_dim = vectors.shape[1]
        self._field_values = known
        return self

    def _tensors_learned(
        self, embeddings: Tensor, cf_embeddings: Tensor | None, fields: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The result of `_fit`, checked, on the CPU."""
        more: dict[str, Any] = {"fields": fields} if self.uses_fields else {}
        learned = self._fit(embeddings, cf_embeddings, **more)
        require_tensors(learned, made_by=type(self).__name__)
        return {name: value.detach().cpu().contiguous() for name, value in learned.items()}

    def encode(self, embeddings: Tensor, *, fields: Fields | None = None) -> Tensor:
        """Encode items as codes.

        Items may receive equal codes; `semid.collisions` makes them distinct.

        Args:
            embeddings: Float ``(item, dim)``, of the fitted width.
            fields: As in `fit`, of these items.

        Returns:
            int64 ``(item, level)``, level ``l`` in ``[0, codebook_sizes[l])``, on the device of
            ``embeddings``. Deterministic.

        Raises:
            NotFittedError: Before `fit` or `from_pretrained`.
            ValueError: If ``embeddings`` has another width or is not finite, or ``fields`` are not
                those of ``uses_fields`` or contain an unknown value.
            ContractError: If ``_encode`` returns anything else.
        """
        vectors, learned = self._ready(embeddings)
        more: dict[str, Any] = {}
        indices = field_indices(fields, self._field_values, vectors)
        if self.uses_fields:
            more["fields"] = indices
        with torch.no_grad():
            codes = self._encode(vectors, learned, **more)
        if flaw := code_flaw(codes, self.codebook_sizes, len(vectors), vectors.device):
            raise ContractError(type(self).__name__, *flaw)
        return codes

    def costs(self, embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Distance between each item and its prefix extended by each next code.

        Used by `semid.collisions` to choose other codes: the squared distance, in the space that
        the scheme quantises, between the item and its reconstruction from prefix and code. Zero
        everywhere if a scheme defines no distances.

        Args:
            embeddings: Float ``(item, dim)``, of the width that was fitted.
            prefix: int64 ``(item, level)``, the codes of each item's first levels, but not of all.

        Returns:
            float32 ``(item, code)``, over the codes of the level after ``prefix``.

        Raises:
            NotFittedError: Before `fit` or `from_pretrained`.
            ValueError: If ``embeddings`` has another width or is not finite, or ``prefix`` is
                complete or invalid.
            ContractError: If ``_costs`` returns another shape.
        """
        vectors, learned = self._ready(embeddings)
        level = prefix.shape[1]
        if level >= len(self.codebook_sizes):
            raise ValueError(
                f"expected a prefix of fewer than {len(self.codebook_sizes)} codes, got {level}. "
                "A whole path has no next code."
            )
        if level:
            sizes = self.codebook_sizes[:level]
            check_codes(prefix, sizes, num_items=len(vectors), made_by="the prefix")
        with torch.no_grad():
            costs = self._costs(vectors, prefix, learned)
        expected = (len(vectors), self.codebook_sizes[level])
        if tuple(costs.shape) != expected:
            raise ContractError(
                type(self).__name__,
                "costs",
                f"expected float (item, code) = {expected}, got {tuple(costs.shape)}. Return one "
                "for each code of the level after the prefix.",
            )
        return costs.float()

    def _ready(self, embeddings: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Checked embeddings, and the learned tensors on their device."""
        learned = {name: value.to(embeddings.device) for name, value in self.learned.items()}
        vectors = checked_vectors("embeddings", embeddings)
        if vectors.shape[1] != self._input_dim:
            raise ValueError(
                f"expected embeddings (item, {self._input_dim}), as this tokenizer was fitted on, "
                f"got (item, {vectors.shape[1]}). Use the encoder it was fitted with, or fit again."
            )
        return vectors, learned

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write settings and learned tensors as an artefact folder, atomically.

        Raises:
            NotFittedError: Before `fit` or `from_pretrained`.
        """
        from safetensors.torch import save_file

        provenance = self.provenance
        config = {**provenance.config, **self._widths}
        with atomic_dir(folder) as filling:
            text = json.dumps(config, indent=2, allow_nan=False)
            (filling / _CONFIG).write_text(text + "\n", encoding="utf-8")
            save_file(
                {name: value.cpu() for name, value in self.learned.items()}, filling / _LEARNED
            )
            provenance.write(filling, files=[_CONFIG, _LEARNED])

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load a tokenizer of this class; on `SemanticIdTokenizer` itself, of any built-in class.

        No class is imported because the folder names it: call this on an external class to load its
        folders.

        Raises:
            FileNotFoundError: If the folder is not a complete artefact.
            ValueError: If the folder belongs to another scheme, or its files are malformed.
            ProvenanceError: If its content is not what was saved.
        """
        recorded, path = Provenance.read(folder), Path(folder) / _CONFIG
        config = load_record(path, tokenizer=str, settings=dict, input_dim=int)
        found = cls._known_class(config["tokenizer"], folder)
        settings = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config["settings"].items()
        }
        try:
            tokenizer: Self = found(**{**settings_before(found), **settings})
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"expected settings of {config['tokenizer']} in {path}, got others ({error}). Was "
                "the file damaged?"
            ) from error
        tokenizer._learned = load_tensors(Path(folder) / _LEARNED)
        tokenizer._inputs = recorded.inputs
        tokenizer._input_dim = config["input_dim"]
        tokenizer._field_values = config.get("field_values", {})
        require_same(
            f"content of the tokenizer in {folder}",
            recorded.content,
            tokenizer.provenance.content,
            what_to_do="Its files were changed after it was saved; fit it again.",
        )
        return tokenizer

    @classmethod
    def _known_class(cls, name: str, folder: str | os.PathLike[str]) -> type[Self]:
        """The class named by a folder, if it is built in or this one."""
        found: type[SemanticIdTokenizer] = cls
        if name in BUILT_IN:
            found = load_tokenizer_class(name)
        elif name != _name_of(cls):
            cure = "Read it with from_pretrained of its class, or name the class by --tokenizer."
            refuse_unnamed_code("scheme", name, where=str(folder), cure=cure)
        if not issubclass(found, cls):
            raise ValueError(
                f"expected a {cls.__name__} in {folder}, got {name}. "
                "Load it with SemanticIdTokenizer.from_pretrained."
            )
        return found


def load_tokenizer_class(name: str) -> type[SemanticIdTokenizer]:
    """Find a scheme's class by its short name (`BUILT_IN`) or as ``package.module:Class``.

    Raises:
        ValueError: If there is no such name, module or class, or the class is not a tokenizer.
    """
    return load_class(
        name,
        BUILT_IN,
        SemanticIdTokenizer,  # type: ignore[type-abstract]
        what="tokenizer",
        advice="Subclass it and write _fit and _encode.",
    )


def make_tokenizer(scheme: str, settings: Mapping[str, Any]) -> SemanticIdTokenizer:
    """Make an unfitted tokenizer.

    Args:
        scheme: As in `load_tokenizer_class`.
        settings: Arguments of the class, by name.

    Raises:
        ValueError: If there is no such scheme or setting, or a value is invalid.
    """
    made_by: Any = load_tokenizer_class(scheme)
    try:
        tokenizer: SemanticIdTokenizer = made_by(**settings)
    except TypeError as error:
        raise ValueError(
            f"expected settings of {scheme}, got {dict(settings)} ({error})."
        ) from error
    return tokenizer


def _name_of(made_by: type[SemanticIdTokenizer]) -> str:
    """The name under which `load_tokenizer_class` finds a class."""
    path = f"{made_by.__module__}:{made_by.__qualname__}"
    return next((name for name, known in BUILT_IN.items() if known == path), path)
