"""A file cache of token distributions, shared by all runs that need the same ones."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.data.sequences import SequenceSet
from baselines.teachers.mass import MassSource, mass_blocks, mass_shape
from semid.arrays import IntArray
from semid.distributed import distributed_state, once
from semid.provenance import (
    Provenance,
    atomic_dir,
    hash_arrays,
    hash_file,
    hash_json,
    require_same,
    require_unchanged,
)
from semid.trie import CodeTrie

_FILE = "mass.npy"


def cached_mass(
    source: MassSource,
    data: SequenceSet,
    *,
    teacher: str,
    folder: Path,
    batch_size: int = 256,
) -> Tensor:
    """Token distributions of all targets, memory-mapped from a file that is created if missing.

    Each combination of teacher, sequences, code table and settings has its own folder below
    ``folder``, named by a hash of them, so arms, seeds and runs share exactly what is equal. A file
    is written block by block but appears atomically; after an interruption it is computed again.
    With several processes, all compute and the main one writes.

    Args:
        source: Computes the distributions.
        data: Sequences with targets.
        teacher: Hash that identifies the teacher's scores
            (``baselines.teachers.fit.scores_hash``).
        folder: Cache folder; may be shared, and removed while no training runs.
        batch_size: Histories that a process scores at a time.

    Returns:
        float16 ``(target, pos, child)`` on the CPU, rows in the order of target ids. Memory-mapped,
        so it is read on demand; writes to it stay private.

    Raises:
        ProvenanceError: If the file found is damaged, or of another teacher, other sequences,
            another code table or other settings.
        ValueError: If the teacher's hash is empty.
        OSError: If the disk has too little space.
    """
    if not teacher:
        raise ValueError("expected the content hash of a trained teacher, got none")
    lineage = Provenance(
        kind="teacher_mass",
        content="",
        inputs={
            "teacher": teacher,
            "targets": data.content_hash(),
            "code_table": code_table_hash(source.trie),
        },
        config=json.loads(json.dumps(source.settings)),
    )
    own = folder / f"mass-{_key(lineage)[:16]}"

    def make() -> None:
        blocks = mass_blocks(source, data, batch_size=batch_size)
        if distributed_state().is_main_process:
            _write(blocks, mass_shape(source, data), own, lineage)
        else:
            deque(blocks, maxlen=0)

    return once(lambda: _read(own, lineage) if own.exists() else None, make)


def _read(own: Path, lineage: Provenance) -> Tensor:
    found = Provenance.read(own)
    what_to_do = f"Remove {own}; it is computed again."
    require_same(f"the teacher mass in {own}", _key(lineage), _key(found), what_to_do=what_to_do)
    content = hash_file(own / _FILE) if (own / _FILE).exists() else None
    require_unchanged(own / _FILE, found.content, content, what_to_do=what_to_do)
    return torch.from_numpy(np.load(own / _FILE, mmap_mode="c", allow_pickle=False))


def code_table_hash(trie: CodeTrie) -> str:
    """Hash of the trie's structure, which determines the rows and slots of token distributions.

    Tries over the same code table have the same hash even if their tokens are numbered differently.
    """
    names = ("first_child", "item_order", "first_item", "last_item")
    return hash_arrays(*(getattr(trie, name).cpu().numpy() for name in names))


def _key(lineage: Provenance) -> str:
    return hash_json([lineage.kind, lineage.inputs, lineage.config])


def _write(
    blocks: Iterable[tuple[IntArray, Tensor]],
    shape: tuple[int, int, int],
    own: Path,
    lineage: Provenance,
) -> None:
    _require_room(own, shape)
    with atomic_dir(own) as filling:
        path = filling / _FILE
        mass = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        for ids, block in blocks:
            mass[ids] = block.numpy()
        mass.flush()
        del mass
        dataclasses.replace(lineage, content=hash_file(path)).write(filling)


def _require_room(own: Path, shape: Sequence[int]) -> None:
    """Check free space first: a memory-mapped file that outgrows its disk kills the process."""
    own.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(own.parent).free
    if needed > free:
        targets, positions, slots = shape
        raise OSError(
            f"the teacher's distributions take {needed / 1e9:.1f} GB ({targets} targets x "
            f"{positions} levels x {slots} codes), got {free / 1e9:.1f} GB free in {own.parent}. "
            "Name a folder on a larger disk with --mass_cache."
        )
