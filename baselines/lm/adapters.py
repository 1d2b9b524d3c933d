"""Low-rank adapters for a language model."""

from __future__ import annotations

import warnings
from typing import Any

from baselines.lm.config import LoraSettings

_ALL = "all-linear"


def adapt(model: Any, settings: LoraSettings) -> Any:
    """Freeze a language model and add adapters; with ``r`` 0, train the model itself.

    Trained weights are float32: most updates would be lost to rounding in bfloat16.

    Draws from PyTorch's default generator.

    Args:
        model: Changed in place.
        settings: Adapted layers and shape of the adapters.

    Returns:
        A ``PeftModel`` around ``model``, or ``model``.

    Raises:
        ValueError: If it has no layer of these names, or one is its embedding or output matrix.
    """
    if settings.r == 0:
        return model.float().requires_grad_(True)
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = [name.strip() for name in settings.target.split(",")]
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_ALL if settings.target == _ALL else names,
        use_dora=settings.dora,
    )
    with (
        warnings.catch_warnings()
    ):  # peft 0.21 reads an attribute that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        adapted = get_peft_model(model, lora)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        if isinstance(layer, BaseTunerLayer):
            raise ValueError(
                f"adapters apply to layers between embedding and output matrix, got target "
                f"{settings.target!r}. Name layers such as q_proj,v_proj, or {_ALL}."
            )
    return adapted
