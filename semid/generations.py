"""Generations of semantic ids: a catalogue gains and loses items, and no id moves.

Each extension of saved ids is a generation. Items that are lost leave the table, but their codes
stay reserved: no other item ever gets them, and an item that comes back gets its own. A generation
keeps enough to reconstruct the table it was made from, so loading it verifies, without the folder
of that table, that no id has moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semid.provenance import ProvenanceError, read_json, write_json
from semid.tables import read_table
from semid.trie import CodeTrie
from semid.trie_changes import add_items, remove_items

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Generation", "LostItems", "Step", "mean_shift", "prefix_shares"]

_RECORD, _DELTA, _LOST = "generation.json", "delta.parquet", "lost.parquet"
_MARGIN = 0.1  # difference between new and old items that is worth a warning
_AGAIN = "Copy the folder again, or extend the earlier ids again."


@dataclass(frozen=True, kw_only=True)
class Step:
    """How a generation was made from the one before it, and what was checked.

    Attributes:
        parent: Content hash of the ids before.
        parent_items: Hash of their item order.
        new: Number of items that were given a code.
        returned: Number of items lost earlier that came back with their own code. The last
            ``new + returned`` rows of the table are of such items, in catalogue order.
        lost: Number of items that left the table.
        unseen_prefixes: Share of the new items whose first code, first two codes, and so on, no
            item had before; up to, but without, the last code of the scheme. Empty if no item is
            new.
        alone_on_prefix: For comparison, the share of the earlier items that are alone on theirs.
        reencoded: Share of the earlier items in the catalogue that would now get another first
            code: above 0 if texts or the encoder have changed, or a collision strategy moved items
            to other prefixes. None if there are none.
        shift: Squared distance between the mean vectors of the new and of the earlier items,
            relative to the variance of the earlier ones and less what is due to chance: about 0 if
            the new items are like the earlier ones. None if no item is new, or fewer than two of
            the earlier ones are in the catalogue.
    """

    parent: str
    parent_items: str
    new: int
    returned: int
    lost: int
    unseen_prefixes: list[float]
    alone_on_prefix: list[float]
    reencoded: float | None
    shift: float | None

    @property
    def warnings(self) -> list[str]:
        """What suggests that the new items do not fit the ids, one sentence each."""
        found = []
        noise = _MARGIN + max(self.new, 1) ** -0.5  # about two standard errors of a share
        shares = zip(self.unseen_prefixes, self.alone_on_prefix, strict=True)
        for depth, (unseen, alone) in enumerate(shares, start=1):
            if unseen > alone + noise:
                found.append(
                    f"{unseen:.0%} of {self.new} new items lie on prefixes of {depth} that no "
                    f"item had before, but only {alone:.0%} of the earlier items are alone on "
                    "theirs: models trained before know nothing of these prefixes"
                )
                break
        if self.shift is not None and self.shift > noise:
            found.append(
                f"the mean vector of {self.new} new items is off that of the earlier ones by "
                f"{self.shift:.0%} of their variance: consider fitting the ids anew"
            )
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class LostItems:
    """Every item that a line of generations has ever lost; their codes stay reserved.

    Attributes:
        item_ids: One per loss; an item that came back and was lost again is there twice.
        codes: int64 ``(loss, level)``.
        rows: Their rows in the generation before the loss.
        generations: Numbers of the generations that lost them, not decreasing.
    """

    item_ids: Sequence[str | int]
    codes: Tensor
    rows: list[int]
    generations: list[int]

    @classmethod
    def none(cls, num_levels: int) -> LostItems:
        """No item was lost."""
        codes = torch.empty(0, num_levels, dtype=torch.int64)
        return cls(item_ids=[], codes=codes, rows=[], generations=[])

    def followed_by(
        self, item_ids: Sequence[str | int], codes: Tensor, rows: list[int], generation: int
    ) -> LostItems:
        """Add the items and codes of some rows, ascending, as lost by a generation."""
        return LostItems(
            item_ids=[*self.item_ids, *item_ids],
            codes=torch.cat([self.codes, codes]),
            rows=[*self.rows, *rows],
            generations=[*self.generations, *[generation] * len(rows)],
        )

    def of(self, generation: int) -> list[int]:
        """Positions of the items that one generation lost."""
        return [at for at, number in enumerate(self.generations) if number == generation]

    @property
    def codes_of_item(self) -> dict[str | int, Tensor]:
        """Reserved codes by item, int64 ``(level,)``."""
        return dict(zip(self.item_ids, self.codes, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """The line of a table of ids, from the table it began with to this one.

    Attributes:
        steps: One per generation, oldest first.
        lost: The items that were lost on the way.
    """

    steps: tuple[Step, ...]
    lost: LostItems

    @property
    def number(self) -> int:
        """Number of this generation; the table that the line began with has 0."""
        return len(self.steps)

    @property
    def last(self) -> Step:
        """How this generation was made."""
        return self.steps[-1]

    @property
    def num_added(self) -> int:
        """Number of rows that this generation appended."""
        return self.last.new + self.last.returned

    @property
    def lost_rows(self) -> list[int]:
        """Rows of the generation before that this one removed, ascending."""
        return [self.lost.rows[at] for at in self.lost.of(self.number)]

    def table_before(
        self, item_ids: Sequence[str | int], codes: Tensor
    ) -> tuple[list[str | int], Tensor]:
        """Items and codes of the generation before, reconstructed from those of this one.

        Raises:
            ProvenanceError: If this generation cannot have led to so many items.
        """
        kept, lost = len(item_ids) - self.num_added, self.lost.of(self.number)
        rows = torch.tensor(self.lost_rows, dtype=torch.int64)
        stays = torch.ones(max(kept, 0) + len(lost), dtype=torch.bool)
        if kept < 0 or not all(0 <= row < len(stays) for row in self.lost_rows):
            raise ProvenanceError(
                f"expected ids of {self.num_added} added items and others, which have lost "
                f"{len(lost)}, got ids of {len(item_ids)}. {_AGAIN}"
            )
        stays[rows] = False
        before = codes.new_empty(len(stays), codes.shape[1])
        before[stays], before[rows] = codes[:kept], self.lost.codes[lost]
        items: list[str | int] = []
        for number, at in enumerate(lost):
            items += [*item_ids[len(items) - number : self.lost.rows[at] - number]]
            items.append(self.lost.item_ids[at])
        return [*items, *item_ids[len(items) - len(lost) : kept]], before

    def next_trie(self, trie: CodeTrie, paths: Tensor) -> CodeTrie:
        """Update the trie of the generation before, without sorting the whole catalogue again.

        Args:
            trie: The trie of the generation before; not modified.
            paths: int64 ``(item, level)``, tokens of all items of this generation: their codes, or
                what `semid.CodeVocab.tokens` returns for them.

        Returns:
            Exactly the trie that ``CodeTrie.from_paths`` builds from ``paths``.

        Raises:
            ValueError: If the trie has another number of items than the generation before.
        """
        kept, lost = len(paths) - self.num_added, torch.tensor(self.lost_rows, dtype=torch.int64)
        if trie.num_items != kept + len(lost):
            raise ValueError(
                f"expected the trie of the {kept + len(lost)} items of the generation before, got "
                f"one of {trie.num_items}. Follow the generations one by one."
            )
        if len(lost):
            trie = remove_items(trie, lost.to(trie.device))
        return add_items(trie, paths[kept:].to(trie.device)) if self.num_added else trie

    def write(self, folder: Path, item_ids: Sequence[str | int], codes: Tensor) -> list[str]:
        """Write the record of a table into its folder, and return the names of the files.

        ``delta.parquet`` holds the items that this generation added, ``lost.parquet`` all lost
        items, and ``generation.json``, written last, the steps.
        """
        kept, lost = len(item_ids) - self.num_added, self.lost
        files = [_DELTA]
        _table(item_ids[kept:], codes[kept:], like=item_ids[0]).write_parquet(folder / _DELTA)
        if lost.item_ids:
            files.append(_LOST)
            table = _table(lost.item_ids, lost.codes, like=item_ids[0])
            table = table.with_columns(row=_whole(lost.rows), generation=_whole(lost.generations))
            table.write_parquet(folder / _LOST)
        steps = [asdict(step) for step in self.steps]
        write_json(folder / _RECORD, {"number": self.number, "steps": steps})
        return [*files, _RECORD]

    @classmethod
    def read(cls, folder: Path, num_levels: int) -> Generation | None:
        """Read what `write` wrote; None if the ids in the folder extend no others.

        Raises:
            ProvenanceError: If a file is damaged.
        """
        record = read_json(folder / _RECORD, what_to_do=_AGAIN)
        if record is None:
            return None
        try:
            steps = tuple(Step(**values) for values in record["steps"])
            if len(steps) != record["number"] or not steps:
                raise ValueError(f"{len(steps)} steps to generation {record['number']}")
            return cls(steps=steps, lost=_read_lost(folder / _LOST, num_levels))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ProvenanceError(
                f"expected the steps and lost items of a generation in {folder}, got something "
                f"else ({error}). {_AGAIN}"
            ) from error


def prefix_shares(before: Tensor, new: Tensor, num_levels: int) -> tuple[list[float], list[float]]:
    """``unseen_prefixes`` and ``alone_on_prefix`` of a `Step`.

    Args:
        before: int64 ``(item, level)``, codes of the earlier items.
        new: int64 ``(new, level)``, codes of the new ones.
        num_levels: Number of levels of the scheme, without an extra one.
    """
    unseen, alone = [], []
    for depth in range(1, num_levels if len(new) else 1):
        prefixes = torch.cat([before[:, :depth], new[:, :depth]])
        _, group = torch.unique(prefixes, dim=0, return_inverse=True)
        holders = torch.bincount(group[: len(before)], minlength=int(group.max()) + 1)[group]
        unseen.append(float((holders[len(before) :] == 0).double().mean()))
        alone.append(float((holders[: len(before)] == 1).double().mean()))
    return unseen, alone


def mean_shift(before: Tensor, new: Tensor) -> float | None:
    """``shift`` of a `Step`.

    Args:
        before: Float ``(item, dim)``, vectors of the earlier items in the catalogue.
        new: Float ``(new, dim)``, vectors of the new ones.
    """
    if len(before) < 2 or not len(new):
        return None
    of_dims, centre = torch.var_mean(before, dim=0)
    if not (variance := float(of_dims.sum())):
        return None
    shift = float((new.mean(0) - centre).square().sum()) / variance
    return max(shift - 1 / len(new) - 1 / len(before), 0.0)


def _table(item_ids: Sequence[str | int], codes: Tensor, *, like: str | int) -> pl.DataFrame:
    import polars as pl

    kind = pl.String if isinstance(like, str) else pl.Int64
    schema = {"item_id": kind, "codes": pl.List(pl.Int64)}
    return pl.DataFrame({"item_id": list(item_ids), "codes": codes.tolist()}, schema=schema)


def _whole(values: Sequence[int]) -> pl.Series:
    import polars as pl

    return pl.Series(values, dtype=pl.Int64)


def _read_lost(path: Path, num_levels: int) -> LostItems:
    if not path.exists():  # its hash is in the provenance, so there was none
        return LostItems.none(num_levels)
    table = read_table(path, ids=("item_id",), required=("codes", "row", "generation"))
    return LostItems(
        item_ids=table["item_id"].to_list(),
        codes=torch.tensor(table["codes"].to_list(), dtype=torch.int64).reshape(-1, num_levels),
        rows=table["row"].to_list(),
        generations=table["generation"].to_list(),
    )
