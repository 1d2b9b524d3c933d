"""Content hashes and lineage: every artefact records what it is and what it was made from.

An artefact is a folder with its data and a ``provenance.json``. Artefacts that are used together
are first compared by hash; a mismatch raises `ProvenanceError` instead of giving wrong numbers.

A single-file result carries a seal: `write_json` and `write_tensors` add a hash of its content and
of its inputs. `read_json` and `read_tensors` refuse a damaged or changed file, and treat one made
from other inputs as missing, so that it is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from semid.atomic import atomic_dir, atomic_write, recover

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Provenance",
    "ProvenanceError",
    "atomic_dir",
    "atomic_write",
    "hash_arrays",
    "hash_file",
    "hash_ids",
    "hash_json",
    "hash_parts",
    "read_json",
    "read_tensors",
    "require_same",
    "require_unchanged",
    "write_json",
    "write_tensors",
]

logger = logging.getLogger(__name__)

FILE_NAME = "provenance.json"
_SEAL, _FROM = "seal", " from "
_FILES = "files"
_IDS_AT_ONCE = 1 << 16
_REMOVE = "Remove it and run the same command again to recreate it."
_RECORDED_PACKAGES = (
    "semid",
    "numpy",
    "torch",
    "transformers",
    "faiss-cpu",
    "scikit-learn",
    "sentence-transformers",
)


class ProvenanceError(ValueError):
    """Two artefacts do not belong together, or an artefact has no valid provenance."""


def hash_arrays(*arrays: np.ndarray[Any, Any]) -> str:
    """SHA-256 over dtype, shape and values of each array, in order.

    Values are hashed as C-contiguous little-endian, so memory layout and platform do not matter;
    ``float16`` and ``float32`` copies of the same numbers differ.

    Returns:
        64 hex digits.

    Raises:
        ValueError: If an array contains Python objects, whose bytes are addresses.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype.hasobject:
            raise ValueError(
                f"expected an array of numbers or fixed-width text, got dtype {array.dtype}. "
                "Hash lists of ids with hash_ids."
            )
        values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{values.dtype.str}{array.shape};".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def hash_parts(
    parts: Iterable[np.ndarray[Any, Any]], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> str:
    """`hash_arrays` of one array that comes in parts, so that it need not be in memory.

    Args:
        parts: Its rows in order, each part of type ``dtype``.
        dtype: Type of the whole array.
        shape: Its shape.
    """
    digest = hashlib.sha256()
    digest.update(f"{dtype.newbyteorder('<').str}{shape};".encode())
    for part in parts:
        values = np.ascontiguousarray(part, dtype=dtype.newbyteorder("<"))
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value; the order of mapping keys does not matter.

    Raises:
        ValueError: If ``value`` is not JSON, NaN and infinity included.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected a JSON value to hash, got one that is not: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def hash_ids(ids: Sequence[str | int]) -> str:
    """SHA-256 of ids in their order; the string ``"7"`` and the integer ``7`` differ.

    The hash is `hash_json` of the list, of which only a part is written out at a time.
    """
    digest = hashlib.sha256(b"[")
    for begin in range(0, len(ids), _IDS_AT_ONCE):
        part = [i if isinstance(i, str) else int(i) for i in ids[begin : begin + _IDS_AT_ONCE]]
        listed = json.dumps(part, separators=(",", ":"))[1:-1]
        digest.update(f"{',' if begin else ''}{listed}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What an artefact is, and what it was made from.

    Attributes:
        kind: Kind of artefact, such as ``"embeddings"`` or ``"semantic_ids"``.
        content: Hash of the artefact's own values.
        items: Hash of the item order its rows follow (`Catalog.order_hash`), if it has item rows.
        inputs: Name and content hash of each artefact it was made from.
        seen: Hash of the interactions it was learned from; None if there are none.
        config: The settings it was made with, as JSON values.
        versions: Versions of Python and the numerical packages, filled on creation. For information
            only, never compared.
    """

    kind: str
    content: str
    items: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    seen: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=_versions)

    def __post_init__(self) -> None:
        kinds: dict[str, type | tuple[type, ...]] = {
            **dict.fromkeys(("kind", "content"), str),
            **dict.fromkeys(("items", "seen"), (str, NoneType)),
            **dict.fromkeys(("inputs", "config", "versions"), dict),
        }
        for name, kind in kinds.items():
            if not isinstance(found := getattr(self, name), kind):
                raise ValueError(f"{name} of a provenance cannot be {found!r}")
        if not all(isinstance(content, str) for content in self.inputs.values()):
            raise ValueError(f"inputs of a provenance must be hashes by name, got {self.inputs!r}")

    def write(self, folder: str | os.PathLike[str], *, files: Iterable[str] = ()) -> None:
        """Write ``provenance.json`` into an existing artefact folder, atomically.

        Args:
            folder: The artefact.
            files: Names of files in it whose hashes are recorded too, for `read` to verify.
        """
        hashes = {name: hash_file(Path(folder) / name) for name in files}
        recorded = {_FILES: hashes} if hashes else {}
        write_json(Path(folder) / FILE_NAME, {**asdict(self), **recorded})

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Provenance:
        """Read ``provenance.json`` of an artefact folder.

        Raises:
            FileNotFoundError: If there is none.
            ProvenanceError: If it is not a provenance record, or one of the files whose hash it
                records was changed.
        """
        folder = Path(folder)
        if not folder.exists():
            recover(folder)
        path = folder / FILE_NAME
        cure = (
            f"Remove {folder} and run the command that made it again, or, if it was copied here, "
            "copy it again."
        )
        values = read_json(path, take_unsealed=True, what_to_do=cure)
        if values is None:
            raise FileNotFoundError(
                f"expected an artefact folder with {FILE_NAME}, got {folder}, which has none. "
                f"{cure}"
            )
        for name, content in values.pop(_FILES, {}).items():
            file = folder / name
            found = hash_file(file) if file.is_file() else None
            require_unchanged(file, content, found, what_to_do=cure)
        try:
            if unknown := sorted(values.keys() - {f.name for f in fields(cls)}):
                raise ValueError(f"unknown fields {unknown}")
            if not all(isinstance(values.get(name, {}), dict) for name in ("inputs", "config")):
                raise ValueError("inputs or config hold no values by name")
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ProvenanceError(
                f"expected an artefact's record in {path}, got something else ({error}). {cure}"
            ) from error


def require_same(name: str, expected: str | None, found: str | None, *, what_to_do: str) -> None:
    """Raise if the hashes of two artefacts differ.

    Args:
        name: What is compared, such as ``"item order of the teacher's scores"``.
        expected: The expected hash, or None.
        found: The hash recorded by the other artefact, or None.
        what_to_do: A sentence for the reader, such as ``"Train the teacher on this catalogue."``

    Raises:
        ProvenanceError: If they differ.
    """
    if expected != found:
        raise ProvenanceError(
            f"{name} does not match: expected {_short(expected)}, got {_short(found)} "
            f"(they were made from different data or settings). {what_to_do}"
        )


def require_unchanged(
    path: str | os.PathLike[str], then: str | None, now: str | None, *, what_to_do: str
) -> None:
    """Raise if a file's content differs from what was recorded when it was written.

    Args:
        path: The file.
        then: The recorded hash.
        now: Hash of its present content; None if it is missing.
        what_to_do: A sentence for the reader.

    Raises:
        ProvenanceError: If they differ.
    """
    if then != now:
        raise ProvenanceError(
            f"{path} was changed after it was written: expected content {_short(then)}, got "
            f"{'no file' if now is None else _short(now)}. {what_to_do}"
        )


def _short(value: str | None) -> str:
    return "none recorded" if value is None else value[:12]


def write_json(
    path: str | os.PathLike[str], values: Mapping[str, Any], *, made_from: Any = None
) -> None:
    """Write JSON values by name, sealed, atomically.

    Args:
        path: The file.
        values: JSON values by name.
        made_from: JSON value that identifies their inputs, such as the content hashes of a model
            and of the targets it was ranked on; None if there are none.

    Raises:
        ValueError: If the values are not JSON.
    """
    plain = json.loads(json.dumps(values))
    sealed = {**plain, _SEAL: _seal(plain, made_from)}
    atomic_write(path, json.dumps(sealed, indent=2, ensure_ascii=False) + "\n")


def read_json(
    path: str | os.PathLike[str],
    *,
    made_from: Any = None,
    take_unsealed: bool = False,
    what_to_do: str = _REMOVE,
) -> dict[str, Any] | None:
    """Read what `write_json` wrote.

    Args:
        path: The file.
        made_from: The inputs it must have been made from.
        take_unsealed: Whether to accept a file without a seal, as written by earlier versions.
            Otherwise it counts as missing.
        what_to_do: A sentence for the reader of the error.

    Returns:
        The values; None if there is no such file or it was made from other inputs.

    Raises:
        ProvenanceError: If the file was damaged or changed.
    """
    try:
        values = json.loads(Path(path).read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ProvenanceError(
            f"expected JSON values by name in {path}, got something else ({error}). {what_to_do}"
        ) from error
    if _SEAL not in values:
        return values if take_unsealed else None
    seal = values.pop(_SEAL)
    return values if _is_from(path, seal, values, made_from, what_to_do) else None


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    made_from: Any = None,
) -> None:
    """Write tensors as safetensors, sealed in the metadata, atomically; see `write_json`."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    seal = _seal(_described(plain, metadata or {}), made_from)
    sealed = {**(metadata or {}), _SEAL: seal}
    atomic_write(path, save(plain, metadata=sealed))


def read_tensors(
    path: str | os.PathLike[str],
    *,
    made_from: Any = None,
    take_unsealed: bool = False,
    what_to_do: str = _REMOVE,
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Read what `write_tensors` wrote; see `read_json`.

    Returns:
        Tensors on the CPU and metadata; None as in `read_json`.

    Raises:
        ProvenanceError: As `read_json`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, str] = file.metadata() or {}
    except FileNotFoundError:
        return None
    except (SafetensorError, ValueError) as error:
        raise ProvenanceError(
            f"expected a safetensors file in {path}, got something else ({error}). {what_to_do}"
        ) from error
    if _SEAL not in metadata:
        return (tensors, metadata) if take_unsealed else None
    seal = metadata.pop(_SEAL)
    content = _described(tensors, metadata)
    return (tensors, metadata) if _is_from(path, seal, content, made_from, what_to_do) else None


def _described(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[Any]:
    import torch

    return [
        dict(metadata),
        {
            name: [
                str(tensor.dtype),
                list(tensor.shape),
                hash_arrays(tensor.reshape(-1).view(torch.uint8).numpy()),
            ]
            for name, tensor in tensors.items()
        },
    ]


def _seal(content: Any, made_from: Any) -> str:
    return f"{hash_json(content)}{_FROM}{hash_json(made_from)}"


def _is_from(
    path: str | os.PathLike[str], seal: Any, content: Any, made_from: Any, what_to_do: str
) -> bool:
    """Whether a sealed file was made from these inputs; raises if its content was changed."""
    its_content, _, its_origin = _seal(content, made_from).partition(_FROM)
    content_then, _, origin_then = str(seal).partition(_FROM)
    require_unchanged(path, content_then, its_content, what_to_do=what_to_do)
    if made_from is None or origin_then == its_origin:
        return True
    logger.warning("%s was made from something else, and counts as missing", path)
    return False
