"""Causal language models and tokenizers from a folder or the hub, and their properties."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from baselines.lm.config import LanguageModelConfig
from semid.distributed import distributed_state
from semid.provenance import hash_json

_UNLIMITED = 2**31 - 1
_WINDOWS = ("sliding_window", "attention_window_size")


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A language model as loaded, before anything is added.

    Attributes:
        model: A ``transformers`` causal language model.
        tokenizer: Its tokenizer.
        content: Hash of its architecture and weights; empty for an outline.
    """

    model: Any
    tokenizer: Any
    content: str

    @property
    def context(self) -> int:
        """Longest text with full attention: all positions, or the smallest attention window."""
        config = self.model.config
        found = [int(getattr(config, "max_position_embeddings", _UNLIMITED))]
        if getattr(config, "use_sliding_window", True):
            windows = [getattr(config, name, None) for name in _WINDOWS]
            found += [int(window) for window in windows if window]
        return min(found)


def load_outline(config: LanguageModelConfig) -> Base:
    """Load a config's model without weights, with its layers on the ``meta`` device.

    Raises:
        ValueError: If no model is named, it is not a causal language model with a tokenizer, or
            quantisation is unavailable.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = _tokenizer(config)
    if config.quantize != "none":
        _quantization(config)
    settings, causal = _loaded(AutoConfig.from_pretrained, config), cast(Any, AutoModelForCausalLM)
    with torch.device("meta"):
        model = _loaded(lambda _: causal.from_config(settings), config)
    return Base(model=model, tokenizer=tokenizer, content="")


def load_base(config: LanguageModelConfig) -> Base:
    """Load a config's model with its weights.

    Raises:
        ValueError: If no model is named, it cannot be loaded as a causal language model,
            quantisation is unavailable, or its logits are not the product of its last states and
            its output matrix.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer(config)
    options: dict[str, Any] = {"dtype": config.dtype if config.dtype == "auto" else _dtype(config)}
    if config.quantize != "none":
        options |= {
            "quantization_config": _quantization(config),
            "device_map": distributed_state().device,
        }
    model = _loaded(partial(AutoModelForCausalLM.from_pretrained, **options), config)
    model.eval()
    _check_head(model)
    return Base(model=model, tokenizer=tokenizer, content=_content_hash(model))


def project(model: Any, states: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
    """Logits of some tokens from a model's last hidden states, as the model computes them.

    Args:
        model: The language model, for its settings.
        states: Float ``(..., dim)``.
        table: Float ``(token, dim)``, rows of the output matrix.
        bias: Float ``(token,)``, or None.

    Returns:
        Float ``(..., token)``.
    """
    logits = nn.functional.linear(states.to(table.dtype), table, bias)
    cap = logit_cap(model)
    return logits if cap is None else (logits / cap).tanh() * cap


def logit_cap(model: Any) -> float | None:
    """The soft cap applied to a model's logits, as in Gemma 2; None if there is none."""
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)
    return cap


@torch.no_grad()
def _check_head(model: Any) -> None:
    """Raise unless ``project`` reproduces the model's own logits."""
    tokens = torch.tensor([[1, 2, 3]], device=model.device)
    head = model.get_output_embeddings()
    own = model(input_ids=tokens, use_cache=False).logits.float()
    states = model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
    ours = project(model, states, head.weight, getattr(head, "bias", None)).float()
    if not torch.allclose(ours, own, rtol=0.02, atol=0.02 * float(own.abs().max())):
        raise ValueError(
            f"the logits of {type(model).__name__} are not its last states times its output "
            "matrix, so they cannot be computed for selected tokens. Use a model of the Llama, "
            "Qwen or Gemma families."
        )


def _tokenizer(config: LanguageModelConfig) -> Any:
    from transformers import AutoTokenizer

    if not config.model:
        raise ValueError(
            "expected a language model, got none. Name a folder or a hub id with "
            "--backbones.lm.model."
        )
    return _loaded(AutoTokenizer.from_pretrained, config)


def _loaded(load: Callable[[str], Any], config: LanguageModelConfig) -> Any:
    from transformers.utils import logging

    progress: Any = logging  # this project shows its own progress bars
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        return load(config.model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"expected a causal language model with its tokenizer, got {config.model!r}, which "
            f"cannot be loaded: {reason}"
        ) from error
    finally:
        if shown:
            progress.enable_progress_bar()


def _dtype(config: LanguageModelConfig) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, config.dtype)
    return dtype


def _quantization(config: LanguageModelConfig) -> Any:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ValueError(
            f"quantize {config.quantize} needs bitsandbytes, which is not installed. "
            "pip install bitsandbytes, or leave quantize out."
        )
    from transformers import BitsAndBytesConfig

    settings: Any = BitsAndBytesConfig
    if config.quantize == "8bit":
        return settings(load_in_8bit=True)
    return settings(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _content_hash(model: Any) -> str:
    """Hash of the architecture, its settings and every weight, byte by byte."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        raw = weight.detach().cpu().contiguous()
        digest.update(f"{name} {raw.dtype} {tuple(raw.shape)};".encode())
        digest.update(raw.view(-1).view(torch.uint8).numpy().data)
    settings = json.loads(model.config.to_json_string())
    for name in ("transformers_version", "_name_or_path", "dtype"):
        settings.pop(name, None)
    return hash_json([type(model).__name__, settings, digest.hexdigest()])


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the messages and progress bars of ``transformers``."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()  # type: ignore[no-untyped-call]
    theirs.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]
