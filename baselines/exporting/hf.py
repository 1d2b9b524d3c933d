"""Hugging Face ``transformers``: a model folder, and a logits processor for ``generate``."""

from __future__ import annotations

from pathlib import Path

from baselines.exporting.model_folder import (
    require_transformers_model,
    write_generation_settings,
    write_items,
)
from baselines.exporting.view import ExportView


def require_hf(view: ExportView) -> None:
    """Refuse a model whose weights are not those of a ``transformers`` class."""
    require_transformers_model(view, "hf")


def write_hf(view: ExportView, folder: Path) -> None:
    """Write the items and the logits processor beside the model."""
    write_generation_settings(view, folder)
    write_items(view, folder, "trie_logits")
