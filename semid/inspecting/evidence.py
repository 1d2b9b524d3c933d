"""Facts about the items of a catalogue, by which their codes are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semid.inspecting.neighbours import Neighbours

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Evidence", "labels_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Facts about the items, in the row order of their codes.

    Attributes:
        spaces: Neighbours by name of the space, such as ``embeddings``.
        labels: Two int64 tensors ``(membership,)``: catalogue rows, and a category of each; None if
            not known.
        events: Training events of each item, int64 ``(item,)``; None if not known.
    """

    spaces: Mapping[str, Neighbours] = field(default_factory=dict)
    labels: tuple[Tensor, Tensor] | None = None
    events: Tensor | None = None


def labels_of(column: pl.Series) -> tuple[Tensor, Tensor] | None:
    """The categories of each item, numbered.

    Args:
        column: One value per item: a category, a list of them, or nothing.

    Returns:
        As in `Evidence`; None if no item has a category.
    """
    import polars as pl

    from semid.columns import as_text  # loads polars

    table = pl.DataFrame({"item": range(len(column)), "label": column})
    if isinstance(column.dtype, pl.List):
        table = table.explode("label")
    table = table.with_columns(pl.Series("label", as_text(table["label"]), dtype=pl.String))
    table = table.filter(pl.col("label") != "").unique(maintain_order=True)
    if not len(table):
        return None
    numbers = table["label"].rank("dense").cast(pl.Int64) - 1
    return torch.tensor(table["item"].to_numpy()), torch.tensor(numbers.to_numpy())
