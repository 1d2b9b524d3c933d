from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semid.catalog import Catalog
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError, hash_ids

CODES = torch.tensor([[0, 1], [2, 0], [0, 1], [1, 1]])


def catalog_of(*item_ids: str | int) -> Catalog:
    return Catalog(item_ids=list(item_ids), fields=pl.DataFrame())  # type: ignore[arg-type]


def ids_of(*item_ids: str | int, codes: Tensor = CODES) -> SemanticIds:
    return SemanticIds.of(
        list(item_ids),  # type: ignore[arg-type]
        codes,
        (3, 2),
        scheme="test",
        inputs={"embeddings": "e"},
        config={"seed": 0},
    )


paths = st.tuples(st.integers(0, 2), st.integers(0, 1))
tables = st.one_of(
    st.dictionaries(st.integers(), paths, min_size=1, max_size=20),
    st.dictionaries(st.text(st.characters(codec="utf-8")), paths, min_size=1, max_size=20),
)


@given(tables)
def test_save_then_load_gives_the_same_ids(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str | int, tuple[int, int]]
) -> None:
    table = {item: path for item, path in table.items() if item == str(item) or abs(item) < 2**63}
    if not table:
        return
    ids = ids_of(*table, codes=torch.tensor(list(table.values())))
    folder = tmp_path_factory.mktemp("ids") / "out"
    ids.save(folder)
    loaded = SemanticIds.load(folder)
    assert loaded.item_ids == list(table)
    assert loaded.codes.equal(ids.codes)
    assert (loaded.sizes, loaded.scheme) == (ids.sizes, ids.scheme)
    assert loaded.provenance == ids.provenance


@given(tables)
def test_every_item_is_found_at_its_own_codes(table: dict[str | int, tuple[int, int]]) -> None:
    ids = ids_of(*table, codes=torch.tensor(list(table.values())))
    for item, path in table.items():
        assert ids.codes_of(item) == path
        assert ids.items_of(path) == [other for other in table if table[other] == path]


def test_a_path_of_no_item_has_no_items() -> None:
    assert ids_of("a", "b", "c", "d").items_of([2, 1]) == []


def test_codes_may_be_looked_up_as_a_tensor() -> None:
    ids = ids_of("a", "b", "c", "d")
    assert ids.items_of(CODES[0]) == ["a", "c"]


def test_a_lookup_with_another_number_of_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="2 levels, got 1"):
        ids_of("a", "b", "c", "d").items_of([0])


def test_an_unknown_item_is_refused() -> None:
    with pytest.raises(ValueError, match="'z'"):
        ids_of("a", "b", "c", "d").codes_of("z")


def test_resolving_separates_twins_and_records_them() -> None:
    ids = ids_of("a", "b", "c", "d").resolve("extra_level")
    assert ids.codes.tolist() == [[0, 1, 0], [2, 0, 0], [0, 1, 1], [1, 1, 0]]
    assert ids.sizes == (3, 2, 2)
    assert ids.num_levels == 3
    assert ids.provenance.config == {
        "seed": 0,
        "collisions": {
            "strategy": "extra_level",
            "items": 4,
            "distinct": 3,
            "colliding_items": 2,
            "largest_group": 2,
            "moved": 0,
            "numbered": 1,
            "left": 0,
            "reconstruction_lost": 0.0,
        },
    }
    assert ids.provenance.inputs == {"embeddings": "e"}


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (CODES.int(), "int64"),
        (CODES[:3], r"\(4, 2\)"),
        (CODES[:, :1], r"\(4, 2\)"),
        (CODES + torch.tensor([1, 0]), r"level 0 must lie in \[0, 3\), got 3 for item row 1"),
        (CODES - torch.tensor([0, 1]), "level 1"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ids_of("a", "b", "c", "d", codes=codes)


def test_repeated_items_are_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        ids_of("a", "b", "a", "d")
    with pytest.raises(ValueError, match="at least one"):
        ids_of(codes=CODES[:0])


def test_ids_follow_the_row_order_of_a_catalogue() -> None:
    ids = ids_of("a", "b", "c", "d")
    assert ids.for_catalog(catalog_of("a", "b", "c", "d")) is ids
    turned = ids.for_catalog(catalog_of("d", "c", "b", "a"))
    assert turned.codes.equal(CODES.flip(0))
    assert turned.provenance.items == hash_ids(["d", "c", "b", "a"])
    assert turned.provenance.inputs["semantic_ids"] == ids.provenance.content


@pytest.mark.parametrize("items", [("a", "b", "c"), ("a", "b", "c", "d", "e"), (1, 2, 3, 4)])
def test_ids_of_another_catalogue_are_refused(items: tuple[str | int, ...]) -> None:
    with pytest.raises(ProvenanceError, match="Build the ids for this catalogue"):
        ids_of("a", "b", "c", "d").for_catalog(catalog_of(*items))


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    ids_of("a", "b", "c", "d").save(tmp_path / "ids")
    config = tmp_path / "ids" / "config.json"
    config.write_text(config.read_text().replace("test", "rest"))
    with pytest.raises(ProvenanceError, match=r"config\.json was changed"):
        SemanticIds.load(tmp_path / "ids")


def test_changed_items_are_refused(tmp_path: Path) -> None:
    ids_of("a", "b", "c", "d").save(tmp_path / "ids")
    table = pl.read_parquet(tmp_path / "ids" / "semantic_ids.parquet")
    table.with_columns(pl.Series("item_id", ["a", "b", "d", "c"])).write_parquet(
        tmp_path / "ids" / "semantic_ids.parquet"
    )
    with pytest.raises(ProvenanceError, match=r"semantic_ids\.parquet was changed"):
        SemanticIds.load(tmp_path / "ids")


def test_what_was_seen_stays_known(tmp_path: Path) -> None:
    codes, items = CODES, ["a", "b", "c", "d"]
    ids = SemanticIds.of(items, codes, (3, 2), scheme="test", seen="interactions")
    for later in (ids.resolve("extra_level"), ids.for_catalog(catalog_of(*reversed(items)))):
        later.save(tmp_path / "ids")
        assert SemanticIds.load(tmp_path / "ids").provenance.seen == "interactions"
