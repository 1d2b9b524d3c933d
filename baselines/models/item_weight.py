"""The weight of a backbone's item head in the search: given, or chosen on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from baselines.evaluation.config import ITEM_WEIGHTS
from semid.distributed import once
from semid.provenance import ProvenanceError, read_json, write_json

ITEM_WEIGHT = "item_weight.json"
"""File of the chosen weight and of the validation value of each."""


def choose_item_weight(
    folder: Path,
    validated: Callable[[float], float] | None,
    *,
    made_from: Mapping[str, Any],
) -> float:
    """The weight out of ``ITEM_WEIGHTS`` with the best validation value, the lowest of equal ones.

    Args:
        folder: The model's; it keeps the choice.
        validated: The validation value of a weight; None to only read the choice.
        made_from: JSON values that identify the model, its data and how it is ranked.

    Raises:
        ProvenanceError: If the choice is damaged, or missing and cannot be made.
    """
    path = folder / ITEM_WEIGHT

    def choose() -> dict[str, Any]:
        if validated is None:
            raise ProvenanceError(
                f"expected the item weight in {path}, got none for this model. Run "
                "the training again to choose it, or give evaluation.item_weight."
            )
        values = {f"{weight:g}": validated(weight) for weight in ITEM_WEIGHTS}
        best = max(ITEM_WEIGHTS, key=lambda weight: values[f"{weight:g}"])
        return {"weight": best, "validation": values}

    chosen = once(
        lambda: read_json(path, made_from=made_from),
        choose,
        lambda found: write_json(path, found, made_from=made_from),
    )
    return float(chosen["weight"])


def tried_weights(folder: Path, *, made_from: Mapping[str, Any]) -> dict[str, float]:
    """The validation value of each weight that was tried; empty if the weight was given."""
    found = read_json(folder / ITEM_WEIGHT, made_from=made_from)
    return {} if found is None else dict(found["validation"])
