"""Content hashes and lineage: every artefact says what it is and what it was made from.

An artefact is a folder that holds ``provenance.json`` beside its data. Two artefacts that are used
together are compared by hash first; a difference is a `ProvenanceError`, never a wrong number.
Writes are atomic: a reader sees the old artefact or the new one, whatever kills the writer.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

__all__ = [
    "Provenance",
    "ProvenanceError",
    "atomic_dir",
    "atomic_write",
    "hash_arrays",
    "hash_file",
    "hash_ids",
    "hash_json",
    "require_same",
]

FILE_NAME = "provenance.json"
_MARKS_AN_ARTEFACT = (FILE_NAME, "config.json")
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
    """Two artefacts that should belong together do not, or an artefact cannot say what it is."""


def hash_arrays(*arrays: np.ndarray[Any, Any]) -> str:
    """SHA-256 over dtype, shape and values of each array, in order.

    Values are read as C-contiguous little-endian, so memory layout and platform do not matter;
    ``float16`` and ``float32`` copies of the same numbers differ.

    Returns:
        64 hex digits.

    Raises:
        ValueError: If an array holds Python objects, whose bytes are addresses.
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
    """SHA-256 of ids in their order; the string ``"7"`` and the integer ``7`` differ."""
    return hash_json([i if isinstance(i, str) else int(i) for i in ids])


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder that appears whole under its name, or not at all.

    Yields an empty folder beside ``path``. Leaving the block without an error flushes it to disk
    and renames it to ``path``, in place of an earlier artefact there; an error removes it.

    Raises:
        FileExistsError: If ``path`` is a file, or a non-empty folder that is not an artefact (it
            holds neither ``provenance.json`` nor ``config.json``) and so is not ours to replace.
    """
    target = Path(path).resolve()
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    filling = _beside(target, "tmp")
    filling.mkdir()
    try:
        yield filling
        for file in filling.rglob("*"):
            _flush(file)
        _flush(filling)
        _refuse_foreign(target)
        if target.exists():
            replaced = _beside(target, "old")
            target.rename(replaced)
            filling.rename(target)
            shutil.rmtree(replaced)
        else:
            filling.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file (text as UTF-8) that appears whole under its name, or not at all."""
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    filling = _beside(target, "tmp")
    try:
        filling.write_bytes(data.encode() if isinstance(data, str) else data)
        _flush(filling)
        filling.replace(target)
        _flush(target.parent)
    finally:
        filling.unlink(missing_ok=True)


def _beside(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{secrets.token_hex(4)}")


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"expected a folder to write, got the file {target}. Name another.")
    entries = {entry.name for entry in target.iterdir()}
    if entries and entries.isdisjoint(_MARKS_AN_ARTEFACT):
        raise FileExistsError(
            f"expected a new folder or an artefact to replace, got {target}, which holds other "
            f"files ({min(entries)!r}, …). Name another folder, or empty this one."
        )


def _flush(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        kind: What sort of artefact, such as ``"embeddings"`` or ``"semantic_ids"``.
        content: Hash of the artefact's own values.
        items: Hash of the item order its rows follow (`Catalog.order_hash`), if it has item rows.
        inputs: Name and content hash of each artefact it was made from.
        seen: Hash of the interactions it has learned from; None if it has seen none.
        config: The settings that made it, as JSON values.
        versions: Of Python and the packages that compute; filled on creation. Recorded for the
            reader and never compared.
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

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``provenance.json`` into an existing artefact folder, atomically."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        atomic_write(Path(folder) / FILE_NAME, text + "\n")

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Provenance:
        """Read ``provenance.json`` of an artefact folder.

        Raises:
            FileNotFoundError: If there is none.
            ProvenanceError: If it is not the record of an artefact.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"expected an artefact folder with {FILE_NAME}, got {folder}, which has none. "
                "Was its stage interrupted? Run it again."
            )
        known = {f.name for f in fields(cls)}
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if unknown := sorted(set(values) - known):
                raise ValueError(f"unknown fields {unknown}")
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ProvenanceError(
                f"expected an artefact's record in {path}, got something else ({error}). "
                "Build the artefact again."
            ) from error


def require_same(name: str, expected: str | None, found: str | None, *, what_to_do: str) -> None:
    """Refuse two artefacts whose hashes disagree.

    Args:
        name: What is compared, such as ``"item order of the teacher's scores"``.
        expected: The hash that this side holds; None if it holds none.
        found: The hash that the other artefact recorded; None if it recorded none.
        what_to_do: A sentence for the reader, such as ``"Train the teacher on this catalogue."``

    Raises:
        ProvenanceError: If they differ.
    """
    if expected != found:
        raise ProvenanceError(
            f"{name} does not match: expected {_short(expected)}, got {_short(found)} "
            f"(they were made from different data or settings). {what_to_do}"
        )


def _short(value: str | None) -> str:
    return "none recorded" if value is None else value[:12]
