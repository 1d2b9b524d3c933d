"""Reading and writing codes in the formats of other projects.

Two formats are in use. LETTER and LC-Rec have an ``index.json`` with item numbers and tokens such
as ``<a_12>``. GRID and RecTokens have a matrix whose rows are items in catalogue order, or its
transpose.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from semid.checks import MOST_CODES, require_int, require_ints
from semid.ids import SemanticIds, example_of, read_codes_table
from semid.json_files import load_json
from semid.provenance import atomic_write, hash_file

if TYPE_CHECKING:
    from semid.catalog import Catalog

__all__ = ["Layout", "read_codes_file", "write_codes_index", "write_codes_tensor"]

logger = logging.getLogger(__name__)

Layout = Literal["item_level", "level_item"]
"""Order of the axes of a matrix of codes."""

_BETWEEN_TOKENS = re.compile(r"[<>|\[\](),;]")
_TOKEN = re.compile(r"(?:(?P<level>.*)_)?(?P<code>[0-9]{1,99})")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TENSOR_NAME = "codes"
_TENSORS = (".npy", ".pt", ".safetensors")


def read_codes_file(
    path: str | os.PathLike[str],
    catalog: Catalog,
    *,
    number_from: int | None = None,
    layout: Layout | None = None,
    offsets: Sequence[int] | None = None,
) -> SemanticIds:
    """Read existing codes for the items of a catalogue from a file.

    - ``.json``: ``{"<item_id>": ["<a_128>", "<b_241>", ...]}`` as LETTER and LC-Rec write it, where
      a code is the last number of its token, or a plain number. One string may hold several
      tokens, as in ``["<a_128><b_241>"]``. The part of a token before its number (``a``, ``b``)
      names the level and must be the same, in the same order, for all items;
    - ``.parquet``: columns ``item_id`` and ``codes`` (lists of numbers), as `SemanticIds.save`
      writes them;
    - ``.npy``, ``.safetensors`` (one tensor, or one named ``codes``) and ``.pt`` (one tensor, read
      without unpickling code): a matrix of integers, a row or a column for each item in catalogue
      order, as GRID's ``merged_predictions_tensor.pt`` and RecTokens' codes are.

    The size of a level is its largest code plus one. Equal codes stay equal until
    `SemanticIds.resolve`. Named items that are not in the catalogue are dropped with a warning in
    the log.

    Args:
        path: The file.
        catalog: The items.
        number_from: If a file names items by row number, the number of the catalogue's first row;
            None if it names them by their ids.
        layout: Order of a matrix's axes; None to infer it from the number of items.
        offsets: Values added to the codes of each level, such as ``(0, 256, 512)``, to be
            subtracted; None if there are none. Required for a file in which each level's codes lie
            above those of the previous one, since it may be offset.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is malformed, an item occurs twice, items have codes of different
            lengths or levels, an item of the catalogue has none, or an option does not apply to the
            file.
    """
    if number_from is not None:
        require_int("number_from", number_from, 0)
    if offsets is not None:
        require_ints("offsets", offsets, 0)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of codes, got {path}, which does not exist.")
    codes = _codes_in(path, catalog, number_from, layout)
    if offsets is None:
        _refuse_if_offset(codes, path)
    codes = _without_offsets(codes, offsets, path)
    options = {"number_from": number_from, "layout": layout, "offsets": offsets}
    return SemanticIds.of(
        catalog.item_ids,
        codes,
        tuple((codes.amax(dim=0) + 1).tolist()),
        scheme=f"file:{path.name}",
        inputs={"codes_file": hash_file(path)},
        config={name: value for name, value in options.items() if value is not None},
    )


def _codes_in(
    path: Path, catalog: Catalog, number_from: int | None, layout: Layout | None
) -> Tensor:
    """Unprocessed codes of a file, int64 ``(item, level)`` in catalogue order."""
    if path.suffix in _TENSORS:
        if number_from is not None:
            raise ValueError(
                f"expected number_from for a file that names its items, got the matrix {path}. "
                "Leave it out: rows of a matrix are in catalogue order."
            )
        return _in_layout(_read_tensor(path), layout, len(catalog), path)
    if path.suffix in (".json", ".parquet"):
        if layout is not None:
            raise ValueError(
                f"expected a layout for a matrix of codes, got one for {path}. Leave it out."
            )
        return _codes_of_items(path, catalog, number_from)
    raise ValueError(
        f"expected a {', '.join(('.json', '.parquet', *_TENSORS))} file of codes, got {path}. "
        "Convert it."
    )


def write_codes_index(
    ids: SemanticIds, path: str | os.PathLike[str], *, number_from: int | None = 0
) -> None:
    """Write ``index.json`` as LETTER and LC-Rec read it: ``{"0": ["<a_12>", "<b_3>"], ...}``.

    Args:
        ids: Ids with at most 26 levels, one letter each.
        path: The file.
        number_from: The number of the first item; those projects count rows from 0. None to name
            items by their ids.

    Raises:
        ValueError: If there are more levels than letters.
    """
    if ids.num_levels > len(_LETTERS):
        raise ValueError(
            f"expected at most {len(_LETTERS)} levels, one for each letter, got {ids.num_levels}. "
            "Write a matrix with write_codes_tensor."
        )
    names = ids.item_ids if number_from is None else range(number_from, number_from + len(ids))
    letters = _LETTERS[: ids.num_levels]
    index = {
        str(name): [f"<{letter}_{code}>" for letter, code in zip(letters, codes, strict=True)]
        for name, codes in zip(names, ids.codes.tolist(), strict=True)
    }
    atomic_write(path, json.dumps(index))


def write_codes_tensor(
    ids: SemanticIds,
    path: str | os.PathLike[str],
    *,
    layout: Layout = "item_level",
    offsets: Sequence[int] | None = None,
) -> None:
    """Write the codes as an int64 matrix, with one row or column per item, in row order.

    RecTokens uses ``item_level``, GRID ``level_item``. GRID reads ``.pt``, which is not written
    here; convert with ``torch.save(torch.from_numpy(numpy.load(path)), ...)``.

    Args:
        ids: The codes.
        path: A ``.npy`` or ``.safetensors`` file; the tensor in the latter is named ``codes``.
        layout: Order of the axes.
        offsets: Added to the codes of each level, such as ``(0, 256, 512)``.

    Raises:
        ValueError: If the file has another suffix, or there is not one offset per level.
    """
    path = Path(path)
    codes = ids.codes + _row_of_offsets(offsets, ids.num_levels)
    codes = codes if layout == "item_level" else codes.T.contiguous()
    if path.suffix == ".npy":
        from io import BytesIO

        filled = BytesIO()
        np.save(filled, codes.numpy(), allow_pickle=False)
        atomic_write(path, filled.getvalue())
    elif path.suffix == ".safetensors":
        from safetensors.torch import save

        atomic_write(path, save({_TENSOR_NAME: codes}))
    else:
        raise ValueError(f"expected a .npy or .safetensors file to write, got {path}. Rename it.")


def _codes_of_items(path: Path, catalog: Catalog, number_from: int | None) -> Tensor:
    """Codes from a file that names its items, in catalogue order; int64 ``(item, level)``."""
    if path.suffix == ".json":
        item_ids, paths = _read_index(path)
    else:
        item_ids, lists = read_codes_table(path)
        paths = lists.to_list()
    codes_of = {str(item): levels for item, levels in zip(item_ids, paths, strict=True)}
    if len(codes_of) != len(paths):
        raise ValueError(
            f"expected each item once in {path}, got {len(paths) - len(codes_of)} rows of items "
            "that were there before. Keep one of each."
        )
    wanted = [
        str(item if number_from is None else number_from + row)
        for row, item in enumerate(catalog.item_ids)
    ]
    if missing := [item for item in wanted if item not in codes_of]:
        raise ValueError(
            f"expected codes of all {len(wanted)} items of the catalogue in {path}, got none for "
            f"{len(missing)}{example_of(missing)}. Is it the file of another catalogue, or are its "
            "items numbered from another start (number_from)?"
        )
    if other := len(codes_of) - len(wanted):
        logger.warning("%s has codes of %d items that the catalogue does not hold", path, other)
    levels = {len(codes_of[item]) for item in wanted}
    if len(levels) != 1 or 0 in levels:
        raise ValueError(
            f"expected equally many codes for each item in {path}, at least one, got lengths "
            f"{sorted(levels)}. Fill the shorter ones, or leave those items out of the catalogue."
        )
    paths = [codes_of[item] for item in wanted]
    if (largest := max(map(max, paths))) >= MOST_CODES:
        raise ValueError(
            f"expected codes below {MOST_CODES} in {path}, as a token is an int32, got {largest}. "
            "Number the codes of each level from 0."
        )
    return torch.tensor(paths, dtype=torch.int64)


def _read_index(path: Path) -> tuple[list[str], list[list[int]]]:
    form = f'expected {path} to hold {{"<item_id>": ["<a_128>", "<b_241>", ...], ...}}'
    table = load_json(path)
    if not isinstance(table, dict):
        raise ValueError(f"{form}, got a JSON {type(table).__name__}. Convert it.")
    paths: list[list[int]] = []
    levels: dict[int, tuple[str | None, str]] = {}  # by position: its name, and an item that has it
    for item, tokens in table.items():
        if not isinstance(tokens, list):
            raise ValueError(f"{form}, got {tokens!r} for item {item}. Write a list of tokens.")
        words = [_TOKEN.fullmatch(word) for token in tokens for word in _words(token)]
        if not all(words):
            raise ValueError(
                f"{form}, got {tokens!r} for item {item}. End each token in its number."
            )
        for place, word in enumerate(filter(None, words)):
            name, other = levels.setdefault(place, (word["level"], item))
            if word["level"] != name:
                raise ValueError(
                    f"expected tokens of the same levels in the same order for each item in {path},"
                    f" got {tokens!r} for item {item} and {table[other]!r} for item {other}. Write "
                    "them in one order."
                )
        paths.append([int(word["code"]) for word in words if word])
    return list(table), paths


def _words(token: object) -> list[str]:
    """The tokens in a string, without brackets; a whole number is one token."""
    if isinstance(token, str):
        return _BETWEEN_TOKENS.sub(" ", token).split() or [token]
    return [str(token)]


def _read_tensor(path: Path) -> Tensor:
    try:
        loaded = _LOADERS[path.suffix](path)
    except Exception as error:  # each library raises its own for a broken file, even pickle's
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"expected a matrix of integers in {path}, got a file that cannot be read as one "
            f"({reason}). Write one plain tensor."
        ) from error
    shape = tuple(loaded.shape) if isinstance(loaded, Tensor) else ()
    whole = isinstance(loaded, Tensor) and not (
        loaded.is_floating_point() or loaded.is_complex() or loaded.dtype == torch.bool
    )
    if len(shape) != 2 or 0 in shape or not whole:
        found = f"{loaded.dtype} {shape}" if isinstance(loaded, Tensor) else type(loaded).__name__
        raise ValueError(
            f"expected a matrix of integers in {path}, (item, level) or (level, item), got "
            f"{found}. Write one plain tensor of them."
        )
    codes: Tensor = loaded.to(torch.int64)
    return codes


def _load_npy(path: Path) -> Any:
    with path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    return torch.from_numpy(array.astype(np.int64) if array.dtype.kind in "iu" else array)


def _load_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    tensors = load_file(path)
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    if _TENSOR_NAME not in tensors:
        raise ValueError(f"tensors {sorted(tensors)}, none named {_TENSOR_NAME}")
    return tensors[_TENSOR_NAME]


def _load_pt(path: Path) -> Any:
    """GRID's only format; ``weights_only`` refuses anything but tensors."""
    return torch.load(path, map_location="cpu", weights_only=True)


_LOADERS = {".npy": _load_npy, ".pt": _load_pt, ".safetensors": _load_safetensors}


def _in_layout(codes: Tensor, layout: Layout | None, num_items: int, path: Path) -> Tensor:
    """The matrix as ``(item, level)``."""
    if layout not in (None, *get_args(Layout)):
        raise ValueError(f"expected a layout out of {get_args(Layout)}, got {layout!r}.")
    rows, columns = codes.shape
    fits = {"item_level": rows == num_items, "level_item": columns == num_items}
    found = [name for name in get_args(Layout) if fits[name] and layout in (None, name)]
    if not found:
        raise ValueError(
            f"expected codes of the {num_items} items of the catalogue in {path}, "
            f"{layout or '(item, level) or (level, item)'}, got a matrix {tuple(codes.shape)}. "
            "Is it the file of another catalogue, or is there a padding row?"
        )
    if len(found) > 1:
        raise ValueError(
            f"expected to see which axis of {path} is the items, got a square matrix "
            f"{tuple(codes.shape)}. Set layout to item_level or level_item."
        )
    return codes if found[0] == "item_level" else codes.T.contiguous()


def _refuse_if_offset(codes: Tensor, path: Path) -> None:
    """Levels that share a code have no offsets; disjoint ascending ranges are ambiguous."""
    lowest, highest = codes.amin(dim=0), codes.amax(dim=0)
    if codes.shape[1] > 1 and bool((lowest[1:] > highest[:-1]).all()):
        raise ValueError(
            f"expected to see whether the codes in {path} count from 0 at each level, got levels "
            f"from {lowest.tolist()} to {highest.tolist()}, one above the other. Set offsets, the "
            f"values added to each level, such as {lowest.tolist()}, or {[0] * codes.shape[1]}."
        )


def _without_offsets(codes: Tensor, offsets: Sequence[int] | None, path: Path) -> Tensor:
    codes = codes - _row_of_offsets(offsets, codes.shape[1])
    if (codes < 0).any():
        item, level = (codes < 0).nonzero()[0].tolist()
        raise ValueError(
            f"codes in {path} must lie in [0, ...), got {int(codes[item, level])} at level {level} "
            f"of item row {item}, offsets {offsets} taken off. Fill missing codes, or set other "
            "offsets."
        )
    return codes


def _row_of_offsets(offsets: Sequence[int] | None, num_levels: int) -> Tensor:
    if offsets is None:
        return torch.zeros(num_levels, dtype=torch.int64)
    if len(offsets) != num_levels:
        raise ValueError(
            f"expected an offset for each of {num_levels} levels, got {list(offsets)}. Name them "
            "all, 0 where nothing was added."
        )
    return torch.tensor(list(offsets), dtype=torch.int64)
