"""The folder of a model: ``model.json``, and parts that are copied whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semid.provenance import ProvenanceError, read_json, write_json

FORMAT = 1
"""Version of the folder format; increased when a folder can no longer be read the same way."""

CARD = "model.json"


def write_card(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``model.json``, which describes the model and the parts in its folder."""
    write_json(folder / CARD, {"format": FORMAT, **values})


def read_card(folder: Path) -> dict[str, Any]:
    """Read the ``model.json`` that ``write_card`` wrote.

    Raises:
        FileNotFoundError: If it does not exist.
        ProvenanceError: If it is damaged or has another format version.
    """
    cure = "Copy the whole folder again, or pick the model anew with semid pick."
    values = read_json(folder / CARD, what_to_do=cure)
    if values is None:
        found = f"a folder without {CARD}" if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"expected a trained model in {folder}, got {found}. Name a folder that semid train or "
            "semid pick has written, or that of an arm below a comparison."
        )
    if (version := values.pop("format", None)) != FORMAT:
        raise ProvenanceError(
            f"expected format {FORMAT} of the model in {folder}, got {version}. Read it with the "
            "version of semid that wrote it, or pick the model anew."
        )
    return values
