"""Item vectors in files of other programs, with the item of each row where the file names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semid.columns import as_ids
from semid.json_files import load_json
from semid.tables import read_table

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor

__all__ = ["VectorFile", "is_vector_file", "path_of", "read_id_file", "read_vector_file"]

_ID_NAMES = ("item_id", "item_ids", "ids")
"""Names under which a file may hold the item of each row."""

_LISTED = 6  # names in an error


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorFile:
    """The content of a file of vectors.

    Attributes:
        open: Returns the vectors, ``(row, dim)``, unchecked. Those of a ``.npy`` file are mapped
            anew by each call, so that they take memory only while the result is in use.
        ids: The item of each row as text; None if the file does not name them.
    """

    open: Callable[[], NDArray[Any]]
    ids: pl.Series | None = None


def path_of(source: str) -> Path:
    """The file of a source such as ``model.pt:item_emb.weight``."""
    return Path(_parts(source)[0])


def is_vector_file(source: str) -> bool:
    """Whether the name of a source is that of a file of vectors."""
    return path_of(source).suffix in _READERS


def read_vector_file(source: str) -> VectorFile:
    """Read a file of vectors.

    - ``.npy``: one matrix.
    - ``.npz``, ``.safetensors``, ``.pt`` and ``.pth`` (tensors only, never code): one array; or
      several by name, of which ``FILE:NAME`` takes one, and the only matrix needs no name. Within
      dicts of dicts, names are joined by a dot (``state_dict.item_emb.weight``). An array or list
      ``item_id``, ``item_ids`` or ``ids`` names the items. A dict with a vector for each item is
      read too.
    - ``.parquet``: a column of lists, the only one or ``FILE:NAME``, and a column ``item_id``, or
      the only other column of text or whole numbers.

    Args:
        source: The file, or ``FILE:NAME``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or it is not clear which of its arrays is meant.
    """
    file, name = _parts(source)
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of vectors, got {path}, which is not there.")
    if path.suffix not in _READERS:
        raise ValueError(f"expected a file of vectors ({', '.join(_READERS)}), got {path}.")
    return _READERS[path.suffix](path, name)


def read_id_file(path: Path) -> pl.Series:
    """Read the item of each row of a file of vectors, as text.

    Args:
        path: A ``.json`` list, a ``.npy`` array, or text with one id per line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it contains anything else.
    """
    import polars as pl

    if not path.is_file():
        raise FileNotFoundError(f"expected a file of item ids, got {path}, which is not there.")
    if path.suffix == ".npy":
        return _texts(_map_npy(path))
    if path.suffix != ".json":
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"expected ids in UTF-8 in {path}, one per line, got something else ({error})."
            ) from error
        return pl.Series(text.removesuffix("\n").split("\n"), dtype=pl.String)
    ids = load_json(path)
    if not isinstance(ids, list):
        raise ValueError(f"expected a JSON list of ids in {path}, got a {type(ids).__name__}.")
    return _texts(ids)


def _parts(source: str) -> tuple[str, str | None]:
    suffixes = "|".join(re.escape(suffix) for suffix in _READERS)
    if found := re.fullmatch(rf"(.*(?:{suffixes})):(.+)", source):
        return found[1], found[2]
    return source, None


def _texts(ids: Any) -> pl.Series:
    import polars as pl

    listed = ids.tolist() if isinstance(ids, np.ndarray) else ids
    return pl.Series([str(item) for item in listed], dtype=pl.String)


def _from_npy(path: Path, name: str | None) -> VectorFile:
    if name is not None:
        raise ValueError(f"expected no name of an array in {path}, which holds one, got {name}.")
    _map_npy(path)
    return VectorFile(open=lambda: _map_npy(path))


def _map_npy(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy's own, its tokeniser's, a file that is too short
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"expected a .npy file of numbers, got {path} ({reason}). Was it damaged? Write it "
            "with numpy.save."
        ) from error


def _from_npz(path: Path, name: str | None) -> VectorFile:
    def load() -> dict[str, Any]:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)

    return _of_arrays(_loaded(path, load), name, path)


def _from_safetensors(path: Path, name: str | None) -> VectorFile:
    from safetensors.torch import load_file

    tensors = _loaded(path, lambda: load_file(path))
    return _of_arrays({key: _array(tensor) for key, tensor in tensors.items()}, name, path)


def _from_pt(path: Path, name: str | None) -> VectorFile:
    import torch

    def load() -> dict[str, Any]:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return _flat(found) if isinstance(found, Mapping) else _flat({"": found})

    return _of_arrays(_loaded(path, load), name, path)


def _loaded(path: Path, load: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return load()
    except Exception as error:  # each library raises its own for a broken file, even pickle's
        reason = re.split(r"\n|\. |\.?$", str(error).strip())[0]  # else how to load it unsafely
        raise ValueError(
            f"expected arrays of numbers in {path}, got a file that cannot be read as such "
            f"({reason}). Was it damaged, or does it hold more than arrays? Write the vectors "
            "alone."
        ) from error


def _flat(values: Mapping[Any, Any], before: str = "") -> dict[str, Any]:
    """Arrays and lists by their path through dicts of dicts."""
    from torch import is_tensor

    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif is_tensor(value):
            found[name] = _array(value)
        elif isinstance(value, list):
            found[name] = value
    return found


def _array(tensor: Tensor) -> NDArray[Any]:
    import torch

    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    array: NDArray[Any] = (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    return array


def _of_arrays(arrays: Mapping[str, Any], name: str | None, path: Path) -> VectorFile:
    """The array of that name, or the only matrix, or a vector for each item."""
    ids = next((_texts(arrays[key]) for key in _ID_NAMES if key in arrays), None)
    found = {
        key: value
        for key, value in arrays.items()
        if key not in _ID_NAMES and isinstance(value, np.ndarray)
    }
    if name is not None:
        if name not in found:
            raise ValueError(f"expected an array {name} in {path}, got {_listed(found)}.")
        return VectorFile(open=lambda: found[name], ids=ids)
    matrices = {key: value for key, value in found.items() if value.ndim == 2}
    if len(matrices) == 1 or len(found) == 1:
        (values,) = matrices.values() or found.values()
        return VectorFile(open=lambda: values, ids=ids)
    if ids is None and found and all(value.ndim == 1 for value in found.values()):
        table = _stacked(list(found.values()), list(found), path)
        return VectorFile(open=lambda: table, ids=_texts(list(found)))
    raise ValueError(
        f"expected one matrix of vectors in {path}, got {_listed(matrices or found)}. Name one, "
        f"such as {path}:{next(iter(matrices or found), 'NAME')}."
    )


def _listed(arrays: Mapping[str, NDArray[Any]]) -> str:
    shown = [f"{name} {array.shape}" for name, array in list(arrays.items())[:_LISTED]]
    more = [f"and {len(arrays) - _LISTED} more"] if len(arrays) > _LISTED else []
    return ", ".join([*shown, *more]) or "none"


def _stacked(vectors: list[NDArray[Any]], names: list[str], path: Path) -> NDArray[Any]:
    _require_one_width(np.array([len(vector) for vector in vectors]), names, path)
    return np.stack(vectors)


def _require_one_width(widths: NDArray[Any], names: Any, path: Path) -> None:
    usual = int(np.bincount(widths).argmax())
    if len(others := np.flatnonzero(widths != usual)):
        first = ", ".join(
            f"{widths[row]} in row {row} ({names[row]!r})" for row in others[:3].tolist()
        )
        raise ValueError(
            f"expected vectors of one width in {path}, got {usual} in most rows, but another in "
            f"{len(others)}: {first}. Embed those items again, or leave them out."
        )


def _from_parquet(path: Path, name: str | None) -> VectorFile:
    import polars as pl

    table = read_table(path)
    lists = [column.name for column in table if isinstance(column.dtype, pl.List | pl.Array)]
    others = [
        column.name
        for column in table
        if column.dtype.is_integer() or column.dtype == pl.String or column.name == "item_id"
    ]
    if (name is not None and name not in lists) or (name is None and len(lists) != 1):
        raise ValueError(
            f"expected {name or 'one'} as the column of vectors (lists) of {path}, got "
            f"{', '.join(lists) or 'none'} among {', '.join(table.columns)}. Name one, such as "
            f"{path}:{next(iter(lists), 'NAME')}."
        )
    named = "item_id" if "item_id" in others else (others[0] if len(others) == 1 else None)
    try:
        ids = None if named is None else as_ids(table[named]).cast(pl.String)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    values = _matrix(table[name or lists[0]], ids, path)
    return VectorFile(open=lambda: values, ids=ids)


def _matrix(column: pl.Series, ids: pl.Series | None, path: Path) -> NDArray[Any]:
    import polars as pl

    inner: Any = column.dtype.inner  # type: ignore[attr-defined]
    if not inner.is_numeric():
        raise ValueError(f"expected numbers in the lists {column.name} of {path}, got {inner}.")
    lists = column.cast(pl.List(inner))
    widths = lists.list.len().fill_null(0).to_numpy()
    _require_one_width(widths, range(len(lists)) if ids is None else ids, path)
    return lists.explode().to_numpy().reshape(len(lists), int(widths[0]))


_READERS: dict[str, Callable[[Path, str | None], VectorFile]] = {
    ".npy": _from_npy,
    ".npz": _from_npz,
    ".pt": _from_pt,
    ".pth": _from_pt,
    ".safetensors": _from_safetensors,
    ".parquet": _from_parquet,
}
