"""Checks of a tokenizer's inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semid.checks import MOST_CODES, ContractError

__all__ = ["check_codes", "checked_vectors", "code_flaw", "load_tensors", "require_tensors"]

LARGEST = 1e15
"""Largest embedding value; sums of squares of much larger ones overflow float32."""


def check_codes(codes: Tensor, sizes: tuple[int, ...], *, num_items: int, made_by: str) -> None:
    """Refuse codes that are not int64 ``(item, level)`` with level ``l`` in ``[0, sizes[l])``.

    Raises:
        ValueError: Naming ``made_by``, and the first level and item that are out of range.
    """
    if flaw := code_flaw(codes, sizes, num_items, codes.device):
        raise ValueError(f"{made_by}: {flaw[1]}")


def code_flaw(
    codes: Any, sizes: tuple[int, ...], num_items: int, device: torch.device
) -> tuple[str, str] | None:
    """The first flaw in codes as clause and message; None if there is none."""
    if not isinstance(codes, Tensor) or codes.dtype != torch.int64:
        found = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
        return "dtype", f"expected an int64 tensor of codes, got {found}. Return indices as int64."
    if not sizes or not all(isinstance(size, int) for size in sizes):
        return "sizes", f"expected codebook_sizes, a whole number a level, got {sizes}. Set them."
    if max(sizes) > MOST_CODES:
        return "sizes", (
            f"expected at most {MOST_CODES} codes a level, as a token is an int32, got sizes "
            f"{sizes}. Spread them over more levels."
        )
    expected = (num_items, len(sizes))
    if tuple(codes.shape) != expected:
        return "shape", (
            f"expected (item, level) = {expected}, got {tuple(codes.shape)}. "
            f"Return one code for each level of sizes {sizes}."
        )
    if codes.device != device:
        return "device", f"expected them on {device}, got {codes.device}. Follow the embeddings."
    outside = (codes < 0) | (codes >= torch.tensor(sizes, device=codes.device))
    if outside.any():
        item, level = outside.nonzero()[0].tolist()
        return "range", (
            f"codes at level {level} must lie in [0, {sizes[level]}), got "
            f"{int(codes[item, level])} for item row {item}. Were they made with other sizes?"
        )
    return None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        ValueError: If it is not one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"expected tensors in {path}, got something else ({error}). Was the file damaged?"
        ) from error


def require_tensors(learned: Any, *, made_by: str) -> None:
    """Require that `_fit` returned tensors by name.

    Raises:
        ContractError: Naming ``made_by``.
    """
    found = type(learned).__name__
    if isinstance(learned, dict):
        kinds = {name: type(v).__name__ for name, v in learned.items() if not torch.is_tensor(v)}
        if not kinds:
            return
        found = str(kinds)
    raise ContractError(
        made_by,
        "learned",
        f"expected from _fit a dict of tensors by name, got {found}. "
        "Return every tensor that _encode needs; keep settings on self.",
    )


def checked_vectors(name: str, values: Tensor) -> Tensor:
    """Embeddings as float32, detached and contiguous.

    Args:
        name: Name of the embeddings in an error.
        values: Float ``(item, dim)``.

    Raises:
        ValueError: If they are not a finite float matrix with at least one row, or contain values
            that float32 cannot square.
    """
    if values.ndim != 2 or not values.is_floating_point() or 0 in values.shape:
        raise ValueError(
            f"expected {name}: float (item, dim) with at least one item, got {values.dtype} "
            f"{tuple(values.shape)}. Pass one row for each item of the catalogue."
        )
    values = values.detach().to(torch.float32).contiguous()
    finite = values.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(
            f"expected finite {name}, got NaN or infinity in {int((~finite).sum())} rows, first "
            f"in row {int(finite.logical_not().nonzero()[0])}. Repair or remove those items."
        )
    low, high = values.aminmax(dim=1)
    size = high.maximum(-low)
    if len(large := (size > LARGEST).nonzero()[:, 0]):
        usual = float(size.median())
        cure = (
            "Divide all of them by one number, which changes no code."
            if usual > LARGEST
            else f"Half of all rows are below {usual:.3g}: repair or remove the outliers."
        )
        raise ValueError(
            f"expected {name} of at most {LARGEST:g}, as float32 cannot square much more, got "
            f"{float(size[large[0]]):.3g} in row {int(large[0])}, the first of {len(large)}. {cure}"
        )
    return values
