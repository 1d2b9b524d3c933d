"""Catalogue fields, such as a category, that a scheme uses in addition to vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from semid.checks import did_you_mean
from semid.provenance import hash_json

if TYPE_CHECKING:
    from semid.catalog import Catalog

__all__ = ["Fields", "field_indices", "fields_of", "hash_fields", "rows_of_fields"]

Fields: TypeAlias = Mapping[str, Sequence[str]]
"""Text of fields by name, one per item."""


def fields_of(names: Sequence[str], catalog: Catalog) -> Fields | None:
    """Columns of a catalogue as text, as in `semid.catalog.Catalog.texts`; empty where missing.

    Args:
        names: Names of the columns, a scheme's ``uses_fields``.
        catalog: The items.

    Returns:
        The fields; None if there are no names.

    Raises:
        ValueError: If the catalogue has no such column.
    """
    if not names:
        return None
    from semid.columns import as_text  # loads polars

    there = catalog.fields.columns
    for name in names:
        if name not in there:
            raise ValueError(
                f"expected the column {name!r} of the catalogue, which the scheme learns from, got "
                f"{', '.join(sorted(there)) or 'no columns'}.{did_you_mean(name, there)} Add it, "
                "or choose another scheme."
            )
    return {name: as_text(catalog.fields[name]) for name in names}


def hash_fields(fields: Fields) -> str:
    """SHA-256 of fields by name, independent of their order."""
    return hash_json({name: list(values) for name, values in fields.items()})


def rows_of_fields(fields: Fields | None, rows: Tensor) -> Fields | None:
    """The fields of the items in some rows."""
    if fields is None:
        return None
    return {name: [values[row] for row in rows.tolist()] for name, values in fields.items()}


def field_indices(
    fields: Fields | None, known: Mapping[str, Sequence[str]], like: Tensor
) -> dict[str, Tensor]:
    """Each field as indices of its fitted values.

    Args:
        fields: The given fields, for the items of ``like``.
        known: For each field in use, its values in index order.
        like: Float ``(item, dim)``.

    Returns:
        By field, int64 ``(item,)`` on the device of ``like``.

    Raises:
        ValueError: If the given fields are not those in use, one does not have a value per item, or
            a value is unknown.
    """
    given = {} if fields is None else fields
    if set(given) != set(known):
        raise ValueError(
            f"expected {', '.join(sorted(known)) or 'none'} as fields of the items, got "
            f"{', '.join(sorted(given)) or 'none'}. Pass those of the scheme's uses_fields."
        )
    found = {}
    for name, values in given.items():
        if len(values) != len(like):
            raise ValueError(
                f"expected a {name} for each of {len(like)} items, got {len(values)}. Bring fields "
                "and embeddings into the row order of one catalogue."
            )
        number = {value: at for at, value in enumerate(known[name])}
        if strange := [row for row, value in enumerate(values) if value not in number]:
            raise ValueError(
                f"expected a {name} out of the {len(number)} that the scheme was fitted on, got "
                f"{values[strange[0]]!r} for item row {strange[0]}. Correct it, or build the "
                "ids anew."
            )
        found[name] = torch.tensor([number[value] for value in values], device=like.device)
    return found
