"""SemanticIds: the table of item ids and their codes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from semid.collisions import Costs, Resolution, resolve_collisions
from semid.generations import Generation
from semid.json_files import load_record
from semid.provenance import (
    Provenance,
    ProvenanceError,
    atomic_dir,
    hash_arrays,
    hash_ids,
    hash_json,
    require_same,
)
from semid.tables import read_table
from semid.tokenizers.checks import check_codes

if TYPE_CHECKING:
    import polars as pl

    from semid.catalog import Catalog
    from semid.text_encoder import CatalogEncoder
    from semid.tokenizers.base import SemanticIdTokenizer

__all__ = ["SemanticIds"]

_TABLE = "semantic_ids.parquet"
_CONFIG = "config.json"
_CONFIG_KINDS = {"scheme": str, "sizes": list}
TOKENIZER_FOLDER, TEXT_ENCODER_FOLDER = "tokenizer", "text_encoder"


@dataclass(frozen=True, kw_only=True, eq=False)
class SemanticIds:
    """The codes of every item of a catalogue.

    Make one with `SemanticIds.of`, `semid.interop.read_codes_file` or
    `semid.build.build_semantic_ids`.

    Attributes:
        item_ids: The items' own ids, one for each row; unique, all strings or all integers.
        codes: int64 ``(item, level)`` on the CPU, level ``l`` in ``[0, sizes[l])``.
        sizes: Number of codes of each level.
        scheme: Source of the codes, such as ``"rqkmeans"`` or ``"file:codes.json"``.
        provenance: Its lineage; ``provenance.items`` is the hash of ``item_ids``.
        tokenizer: The tokenizer that encoded the items, if available; `save` writes it next to the
            table and `semid.extension.load_tokenizer` reads it.
        text_encoder: The encoder that embedded the items' texts, if available
            (`semid.build.fit_text_encoder`); saved and read like the tokenizer.
        generation: For ids that extend others, how they grew; else None. Saved with the table.
    """

    item_ids: list[str] | list[int]
    codes: Tensor
    sizes: tuple[int, ...]
    scheme: str
    provenance: Provenance
    tokenizer: SemanticIdTokenizer | None = None
    text_encoder: CatalogEncoder | None = None
    generation: Generation | None = None

    def __post_init__(self) -> None:
        distinct = len(set(self.item_ids))
        if not distinct or distinct != len(self.item_ids):
            raise ValueError(
                f"expected unique item ids, at least one, got {len(self.item_ids)} with "
                f"{distinct} distinct. Remove the repeated items."
            )
        check_codes(self.codes, self.sizes, num_items=len(self.item_ids), made_by=self.scheme)

    @classmethod
    def of(
        cls,
        item_ids: list[str] | list[int],
        codes: Tensor,
        sizes: tuple[int, ...],
        *,
        scheme: str,
        inputs: dict[str, str] | None = None,
        config: dict[str, Any] | None = None,
        seen: str | None = None,
        tokenizer: SemanticIdTokenizer | None = None,
    ) -> SemanticIds:
        """Create the table from codes and hash its content.

        Args:
            item_ids: One per row of ``codes``.
            codes: int64 ``(item, level)``.
            sizes: Number of codes of each level.
            scheme: Source of the codes.
            inputs: Content hashes of what they were made from.
            config: Settings they were made with, as JSON values.
            seen: Hash of the interactions they were learned from; None if there are none.
            tokenizer: The tokenizer that made them, to be saved with them.

        Raises:
            ValueError: If ids repeat, or codes have the wrong shape or are out of range.
        """
        codes = codes.cpu()
        return cls(
            item_ids=item_ids,
            codes=codes,
            sizes=sizes,
            scheme=scheme,
            provenance=Provenance(
                kind="semantic_ids",
                content=_content_hash(codes, sizes, scheme),
                items=hash_ids(item_ids),
                inputs=inputs or {},
                config=config or {},
                seen=seen,
            ),
            tokenizer=tokenizer,
        )

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def num_levels(self) -> int:
        """Number of codes per item."""
        return len(self.sizes)

    @cached_property
    def _row_of_item(self) -> dict[str | int, int]:
        return dict(zip(self.item_ids, range(len(self)), strict=True))

    @cached_property
    def _rows_of_path(self) -> dict[tuple[int, ...], list[int]]:
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, path in enumerate(self.codes.tolist()):
            rows.setdefault(tuple(path), []).append(row)
        return rows

    def codes_of(self, item_id: str | int) -> tuple[int, ...]:
        """Codes of one item.

        Raises:
            ValueError: If there is no such item.
        """
        if item_id not in self._row_of_item:
            raise ValueError(
                f"expected one of the {len(self)} items of these semantic ids, got {item_id!r}. "
                "Build them for a catalogue that holds it."
            )
        return tuple(self.codes[self._row_of_item[item_id]].tolist())

    def items_of(self, codes: Sequence[int] | Tensor) -> list[str | int]:
        """Items with exactly this code path, in row order; empty if there are none.

        Raises:
            ValueError: If ``codes`` does not have one code per level.
        """
        path = tuple(int(code) for code in codes)
        if len(path) != self.num_levels:
            raise ValueError(
                f"expected one code for each of {self.num_levels} levels, got {len(path)}. "
                "Look up prefixes in a CodeTrie."
            )
        return [self.item_ids[row] for row in self._rows_of_path.get(path, [])]

    def resolve(self, strategy: str, *, costs: Costs | None = None) -> SemanticIds:
        """Apply a collision strategy, see `semid.collisions.resolve_collisions`.

        The strategy, the collisions before and after, the items it changed and the reconstruction
        loss are recorded in the provenance.

        Args:
            strategy: As in `semid.collisions.load_strategies`.
            costs: Distance from each item to each code; None if unknown.

        Raises:
            ValueError: If the strategy is unknown, or there are not enough codes for it.
        """
        resolution = resolve_collisions(self.codes, self.sizes, strategy, costs=costs)
        record = resolution_record(strategy, resolution)
        return self.with_codes(
            self.item_ids,
            resolution.codes,
            resolution.sizes,
            inputs=self.provenance.inputs,
            config={**self.provenance.config, "collisions": record},
        )

    def for_catalog(self, catalog: Catalog) -> SemanticIds:
        """These ids in the row order of a catalogue; in another order they have no generation.

        Raises:
            ProvenanceError: If the two do not contain the same items.
        """
        if self.provenance.items == catalog.order_hash:
            return self
        wanted, held = set(catalog.item_ids), set(self.item_ids)
        if wanted != held:
            raise ProvenanceError(
                f"semantic ids do not match the catalogue: {len(wanted - held)} of its "
                f"{len(wanted)} items have none{example_of(wanted - held)}, and "
                f"{len(held - wanted)} of {len(held)} ids are of other "
                f"items{example_of(held - wanted)}. Build the ids for this catalogue."
            )
        rows = [self._row_of_item[item] for item in catalog.item_ids]
        return self.with_codes(
            catalog.item_ids,
            self.codes[rows],
            self.sizes,
            inputs={**self.provenance.inputs, "semantic_ids": self.provenance.content},
            config=self.provenance.config,
        )

    def with_codes(
        self,
        item_ids: list[str] | list[int],
        codes: Tensor,
        sizes: tuple[int, ...],
        *,
        inputs: dict[str, str],
        config: dict[str, Any],
    ) -> SemanticIds:
        """Other items or codes with the same scheme, tokenizer and text encoder; see `of`."""
        made = SemanticIds.of(
            item_ids,
            codes,
            sizes,
            scheme=self.scheme,
            inputs=inputs,
            config=config,
            seen=self.provenance.seen,
            tokenizer=self.tokenizer,
        )
        return replace(made, text_encoder=self.text_encoder)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write table, scheme, sizes and provenance, atomically.

        The tokenizer and the text encoder are saved too, if available.
        """
        import polars as pl

        codes = pl.Series(self.codes.numpy()).cast(pl.List(pl.Int64))
        table = pl.DataFrame({"item_id": list(self.item_ids), "codes": codes})
        config = json.dumps({"scheme": self.scheme, "sizes": self.sizes}, indent=2)
        with atomic_dir(folder) as filling:
            table.write_parquet(filling / _TABLE)
            (filling / _CONFIG).write_text(config + "\n", encoding="utf-8")
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(filling / TOKENIZER_FOLDER)
            if self.text_encoder is not None:
                embeddings = self.provenance.inputs["embeddings"]
                self.text_encoder.save(filling / TEXT_ENCODER_FOLDER, embeddings=embeddings)
            files = [_TABLE, _CONFIG]
            if self.generation is not None:
                files += self.generation.write(filling, self.item_ids, self.codes)
            self.provenance.write(filling, files=files)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> SemanticIds:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder is not a complete artefact.
            ProvenanceError: If its content is not what was saved, or an id of the generation
                before has moved.
            ValueError: If a file is malformed.
        """
        provenance = Provenance.read(folder)
        table, config = Path(folder) / _TABLE, load_record(Path(folder) / _CONFIG, **_CONFIG_KINDS)
        item_ids, paths = read_codes_table(table)
        if len(lengths := paths.list.len().unique().sort().to_list()) > 1:
            raise ProvenanceError(
                f"expected equally many codes for each item in {table}, got {lengths}. Build the "
                "ids again."
            )
        codes = torch.from_numpy(paths.explode().to_numpy(writable=True)).view(len(item_ids), -1)
        sizes, scheme = tuple(config["sizes"]), config["scheme"]
        changed = f"They were changed after they were saved: remove {folder} and build them again."
        found = _content_hash(codes, sizes, scheme)
        require_same(f"content of {folder}", provenance.content, found, what_to_do=changed)
        found = hash_ids(item_ids)
        require_same(f"item order of {folder}", provenance.items, found, what_to_do=changed)
        ids = cls(
            item_ids=item_ids,
            codes=codes,
            sizes=sizes,
            scheme=scheme,
            provenance=provenance,
            generation=Generation.read(Path(folder), len(sizes)),
        )
        ids._require_unmoved(folder)
        return ids

    def _require_unmoved(self, folder: str | os.PathLike[str]) -> None:
        if self.generation is None:
            return
        step = self.generation.last
        items, codes = self.generation.table_before(self.item_ids, self.codes)
        for what, then, now in (
            ("codes", step.parent, _content_hash(codes, self.sizes, self.scheme)),
            ("items", step.parent_items, hash_ids(items)),
        ):
            require_same(
                f"the {what} that {folder} has from the generation before",
                then,
                now,
                what_to_do="An id has moved: extend the earlier ids again.",
            )


def resolution_record(strategy: str, resolution: Resolution) -> dict[str, Any]:
    """The provenance entry of a collision strategy, as JSON values."""
    return {
        "strategy": strategy,
        **asdict(resolution.before),
        "moved": resolution.moved,
        "numbered": resolution.numbered,
        "left": resolution.after.colliding_items,
        "reconstruction_lost": resolution.reconstruction_lost,
    }


def read_codes_table(path: Path) -> tuple[list[Any], pl.Series]:
    """Read items and codes from a parquet file with columns ``item_id`` and ``codes``.

    Returns:
        The items, and a column of lists of Int64.

    Raises:
        ValueError: If it is malformed.
    """
    import polars as pl

    table = read_table(path)
    lists, ids = table.schema.get("codes"), table.schema.get("item_id", pl.Null())
    is_codes = isinstance(lists, pl.List) and lists.inner.is_integer()
    if not is_codes or not (ids.is_integer() or ids == pl.String):
        raise ValueError(
            f"expected {path} with columns item_id (whole numbers or text) and codes (lists of "
            f"whole numbers), got {dict(table.schema)}. Rename or convert its columns."
        )
    paths = table["codes"].cast(pl.List(pl.Int64), strict=False)
    if paths.null_count() or paths.explode().null_count() or table["item_id"].null_count():
        raise ValueError(
            f"expected an item and a code of 63 bits at each level in {path}, got missing ones or "
            "larger ones. Fill them."
        )
    return table["item_id"].to_list(), paths


def _content_hash(codes: Tensor, sizes: tuple[int, ...], scheme: str) -> str:
    return hash_json({"codes": hash_arrays(codes.numpy()), "sizes": sizes, "scheme": scheme})


def example_of(items: Sequence[Any] | set[Any]) -> str:
    """An example item for an error message; empty if there are none."""
    return f" (such as {min(items, key=str)!r})" if items else ""
