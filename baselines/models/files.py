"""The folder of a model: ``model.json``, and parts that are copied whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baselines.training.checkpoint import TRAINED_FILES, is_trained
from semid.atomic import is_temporary
from semid.provenance import ProvenanceError, read_json, write_json

FORMAT = 1
"""Version of the folder format; increased when a folder can no longer be read the same way."""

CARD = "model.json"
TEACHER, PARTNER, CONTENT = "teacher", "partner", "content"
IDS, SECOND_IDS = "ids", "second_ids"
ITEMS, COUNTS = "items.parquet", "item_counts.safetensors"

_OF_A_MODEL = {CARD, TEACHER, PARTNER, CONTENT, IDS, SECOND_IDS, ITEMS, COUNTS, *TRAINED_FILES}
_OF_THE_HUB = {"README.md", ".gitattributes", ".cache", ".git"}


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
    values = read_json(folder / CARD, what_to_do=cure) if folder.is_dir() else None
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


def known_parts(parts: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The parts of a model, provided that this version can use all of them.

    Raises:
        ProvenanceError: If a part is unknown to this version, or there are more than it can use.
    """
    known = {"ids", "heads", "teacher", "partners", "base", "content"}
    more = sorted(parts.keys() - known)
    of_ids = parts["ids"] in ([IDS], [IDS, SECOND_IDS])
    usable = of_ids and not parts["heads"] and len(parts["partners"]) <= 1
    if more or not usable:
        raise ProvenanceError(
            f"expected a model of one or two sets of ids, no further heads and at most one partner "
            f"in {folder}, got {', '.join(more) or 'more'}. Read it with the version of semid that "
            "wrote it."
        )
    return parts


def require_replaceable(folder: Path) -> None:
    """Refuse to overwrite anything other than a model.

    Raises:
        FileExistsError: If the folder holds anything else, such as results, training data, or
            a whole comparison.
    """
    entries = list(folder.iterdir()) if folder.is_dir() else []
    others = sorted(
        entry.name
        for entry in entries
        if entry.name not in _OF_A_MODEL | _OF_THE_HUB
        and not is_trained(entry)  # an earlier stage
        and not is_temporary(entry.name)
    )
    if others:
        raise FileExistsError(
            f"expected a new folder or a model to replace, got {folder}, which holds other files "
            f"({', '.join(others[:3])}{', …' if others[3:] else ''}). Name another folder."
        )
