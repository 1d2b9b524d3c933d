"""vLLM: a model folder, and a beam search over the trie for ``vllm.LLM``."""

from __future__ import annotations

from pathlib import Path

from baselines.backbones.language import LanguageBackbone
from baselines.exporting.model_folder import require_transformers_model, write_items
from baselines.exporting.view import ExportView


def require_vllm(view: ExportView) -> None:
    """Refuse a model that is not a language model."""
    model = view.require_model("vllm")
    if not isinstance(model.backbone, LanguageBackbone):
        raise ValueError(
            f"vllm holds decoder-only language models, got {model.backbone.label} in "
            f"{view.source}. Train an arm of lm, or export it to hf."
        )
    require_transformers_model(view, "vllm")


def write_vllm(view: ExportView, folder: Path) -> None:
    """Write the items and the beam search beside the model."""
    write_items(view, folder, "vllm_beam")
