"""Settings of ``transformers.generate`` that would change the order of items."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import Any

from transformers import GenerationConfig

_PLAIN = MappingProxyType(  # values, besides None, that leave the scores unchanged
    {
        "repetition_penalty": 1.0,
        "encoder_repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0,
        "guidance_scale": 1.0,
        "min_length": 0,
        "min_new_tokens": 0,
        "renormalize_logits": False,
        "remove_invalid_values": False,
        "num_beam_groups": 1,
        "diversity_penalty": 0.0,
        "sequence_bias": None,
        "bad_words_ids": None,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "forced_bos_token_id": None,
        "forced_eos_token_id": None,
        "exponential_decay_length_penalty": None,
        "watermarking_config": None,
        "stop_strings": None,
        "constraints": None,
        "force_words_ids": None,
    }
)
_PLAIN_BEAMS = MappingProxyType({"do_sample": False})
_PLAIN_LENGTHS = MappingProxyType({"length_penalty": 0.0, "early_stopping": False})


def settings_of_generate() -> GenerationConfig | None:
    """The settings of the running ``generate``; None outside one.

    These are its arguments with the model's ``generation_config`` as default. ``generate`` does not
    pass them to a processor, so they are read from its local variables.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if "generation_config" in frame.f_code.co_varnames:
            found = frame.f_locals.get("generation_config")
            if isinstance(found, GenerationConfig):
                return found
        frame = frame.f_back
    return None


def refuse_other_orders(settings: GenerationConfig, *, same_length: bool) -> None:
    """Refuse settings that order items by anything but the probability of their paths.

    Args:
        settings: Of the running ``generate``.
        same_length: Whether all paths have the same length, so that length does not affect the
            order.

    Raises:
        ValueError: If scores are modified before comparison, beams are sampled, or paths of
            different lengths are compared by anything but their probability.
    """
    plain = dict(_PLAIN)
    if (settings.num_beams or 1) > 1:
        plain |= _PLAIN_BEAMS if same_length else _PLAIN_BEAMS | _PLAIN_LENGTHS
    values = {name: getattr(settings, name, None) for name in plain}
    other = {
        name: value
        for name, value in values.items()
        if value is not None and value != plain[name] and value != []
    }
    if other:
        raise ValueError(
            f"generate was given {_listed(other)}, which orders items by something other than "
            f"probability. Set {_listed({name: plain[name] for name in other})} in "
            "model.generation_config, and give generate the same or nothing."
        )


def refuse_other_ends(
    settings: GenerationConfig, end: int, *, within: set[int], needs_end: bool
) -> None:
    """Refuse a ``generate`` that ends anywhere but after a complete path.

    Args:
        settings: Of the running ``generate``.
        end: The token after a path, or its last one.
        within: All tokens that occur in paths.
        needs_end: Whether a path can be complete before ``max_new_tokens`` is reached.

    Raises:
        ValueError: If ``end`` is required but does not end generation, or another token of the
            paths does.
    """
    known = settings.eos_token_id
    ends = {known} if isinstance(known, int) else set(known or ())
    if (needs_end and end not in ends) or (ends - {end}) & within:
        raise ValueError(
            f"expected generate to end at token {end} and at no other of the paths, got "
            f"eos_token_id={known}. Give generate eos_token_id={end}."
        )


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())
