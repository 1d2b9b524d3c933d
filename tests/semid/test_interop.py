import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semid.build import ids_from_config
from semid.catalog import Catalog
from semid.config import IdsConfig
from semid.ids import SemanticIds
from semid.interop import Layout, read_codes_file, write_codes_index, write_codes_tensor
from semid.provenance import hash_file, hash_ids

CODES = torch.tensor([[0, 1], [2, 0], [0, 1], [1, 1]])


def catalog_of(*item_ids: str | int) -> Catalog:
    return Catalog(item_ids=list(item_ids), fields=pl.DataFrame())  # type: ignore[arg-type]


def ids_of(*item_ids: str | int, codes: Tensor = CODES) -> SemanticIds:
    sizes = tuple((codes.amax(dim=0) + 1).tolist())
    return SemanticIds.of(list(item_ids), codes, sizes, scheme="test")  # type: ignore[arg-type]


@pytest.mark.parametrize("spelling", ["<a_{}>", "<L0_{}>", "c{{}}_{}", "{}", "item_7_{}"])
@pytest.mark.parametrize("items", [("1", "2"), (1, 2)])
def test_a_codes_file_is_read_whatever_its_spelling(
    tmp_path: Path, spelling: str, items: tuple[str | int, ...]
) -> None:
    path = tmp_path / "codes.json"
    tokens = {"2": [3, 0], "1": [12, 5]}
    path.write_text(json.dumps({i: [spelling.format(c) for c in t] for i, t in tokens.items()}))
    ids = read_codes_file(path, catalog_of(*items))
    assert ids.codes.tolist() == [[12, 5], [3, 0]]
    assert ids.sizes == (13, 6)
    assert ids.scheme == "file:codes.json"
    assert ids.provenance.inputs == {"codes_file": hash_file(path)}
    assert ids.provenance.items == hash_ids(list(items))


def test_plain_numbers_are_codes(tmp_path: Path) -> None:
    (tmp_path / "codes.json").write_text('{"1": [12, 5]}')
    assert read_codes_file(tmp_path / "codes.json", catalog_of(1)).codes.tolist() == [[12, 5]]


@pytest.mark.parametrize("token", ["<a_{}><b_{}><c_{}>", "<a_{}> <b_{}> <c_{}>", "{} {} {}"])
def test_a_string_that_holds_several_codes_gives_all_of_them(tmp_path: Path, token: str) -> None:
    path, codes = tmp_path / "codes.json", [[1, 2, 3], [9, 8, 3]]
    path.write_text(json.dumps({i: [token.format(*row)] for i, row in enumerate(codes)}))
    assert read_codes_file(path, catalog_of(0, 1)).codes.tolist() == codes


@pytest.mark.parametrize("other", [["<b_8>", "<a_9>"], ["<a_8>", "<c_9>"], ["<a_8>", 9]])
def test_levels_that_differ_between_items_are_refused(tmp_path: Path, other: list[object]) -> None:
    path = tmp_path / "codes.json"
    path.write_text(json.dumps({"1": ["<a_1>", "<b_2>"], "2": other}))
    expected = r"same order for each item in .*codes\.json.* for item 2 .* for item 1\."
    with pytest.raises(ValueError, match=expected):
        read_codes_file(path, catalog_of(1, 2))


def test_an_item_twice_in_json_is_refused_as_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    path.write_text('{"1": [0, 0], "2": [0, 1], "1": [5, 5]}')
    with pytest.raises(
        ValueError, match=r"each name once in .*codes\.json, got '1' more than once"
    ):
        read_codes_file(path, catalog_of(1, 2))


def test_json_that_is_nested_too_deep_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"expected JSON in .*codes\.json, got no JSON"):
        read_codes_file(path, catalog_of(1))


@pytest.mark.parametrize("name", ["codes[1].parquet", "codes*.parquet", "codes?.parquet"])
def test_signs_of_a_pattern_in_a_file_name_are_letters(tmp_path: Path, name: str) -> None:
    for file, codes in ((name, [[7, 7], [7, 6]]), ("codes1.parquet", [[0, 0], [0, 1]])):
        with open(tmp_path / file, "wb") as opened:
            pl.DataFrame({"item_id": [1, 2], "codes": codes}).write_parquet(opened)
    ids = read_codes_file(tmp_path / name, catalog_of(1, 2))
    assert ids.codes.tolist() == [[7, 7], [7, 6]]
    ids.save(tmp_path / "[ids]*")
    assert SemanticIds.load(tmp_path / "[ids]*").codes.equal(ids.codes)


def test_saved_ids_are_a_codes_file(tmp_path: Path) -> None:
    ids_of("a", "b", "c", "d").save(tmp_path / "ids")
    path = tmp_path / "ids" / "semantic_ids.parquet"
    assert read_codes_file(path, catalog_of("a", "b", "c", "d")).codes.equal(CODES)


@pytest.mark.parametrize("code", [2**31 - 1, 2**40, 2**70])
def test_codes_beyond_a_token_id_are_refused(tmp_path: Path, code: int) -> None:
    (tmp_path / "codes.json").write_text(json.dumps({"1": [f"<a_{code}>"]}))
    with pytest.raises(ValueError, match=r"below 2147483647 in .*codes\.json"):
        read_codes_file(tmp_path / "codes.json", catalog_of(1))


def test_a_matrix_of_codes_beyond_a_token_id_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.array([[2**40, 1]]))
    with pytest.raises(ValueError, match="at most 2147483647 codes a level"):
        read_codes_file(tmp_path / "codes.npy", catalog_of(1))


def test_items_beyond_the_catalogue_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "codes.json").write_text('{"1": [1], "2": [0]}')
    with caplog.at_level(logging.WARNING):
        ids = read_codes_file(tmp_path / "codes.json", catalog_of(2))
    assert ids.codes.tolist() == [[0]]
    assert "1 items" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "a JSON list"),
        ("{", "no JSON"),
        ('{"1": "<a_1>"}', "list of tokens"),
        ('{"1": ["<a_x>"]}', "End each token in its number"),
        ('{"2": ["<a_1>"]}', "numbered from another start"),
        ('{"1": [1], "2": [1, 2]}', r"lengths \[1, 2\]"),
        ('{"1": [], "2": []}', r"lengths \[0\]"),
        ('{"1": ["<a_-1>"], "2": [0]}', "End each token in its number"),
    ],
)
def test_a_codes_file_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "codes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_codes_file(tmp_path / "codes.json", catalog_of(1, 2))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": [1], "codes": [[1]]}, "columns item_id"),
        ({"item_id": [1], "codes": [1]}, "lists of whole numbers"),
        ({"item_id": [1], "codes": [[None, 1]]}, "missing"),
        ({"item_id": [1, 1], "codes": [[1], [2]]}, "each item once"),
        ({"item_id": [1], "codes": [[-1]]}, "lie in"),
    ],
)
def test_a_table_of_another_form_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "codes.parquet")
    with pytest.raises(ValueError, match=message):
        read_codes_file(tmp_path / "codes.parquet", catalog_of(1))


def test_a_codes_file_must_exist_and_be_of_a_known_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_codes_file(tmp_path / "codes.json", catalog_of(1))
    (tmp_path / "codes.pkl").write_text("")
    with pytest.raises(ValueError, match=r"\.json, \.parquet, \.npy, \.pt, \.safetensors file"):
        read_codes_file(tmp_path / "codes.pkl", catalog_of(1))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("file", "levels", "distinct"),
    [
        ("beauty/semantic_ids.letter.json", 4, 12_088),
        ("beauty/semantic_ids.unigenrec-text-rqkmeans.json", 5, 12_101),
        ("beauty/semantic_ids.unigenrec-text-rqvae_faiss.json", 4, 12_101),
        ("yelp/semantic_ids.letter.json", 4, 19_201),
        ("instruments/semantic_ids.letter.json", 4, 9_897),
        ("office_minionerec/semantic_ids.minionerec.json", 3, 3_444),
    ],
)
def test_published_codes_have_their_published_collisions(
    shared_data: Path, file: str, levels: int, distinct: int
) -> None:
    path = shared_data / file
    catalog = Catalog.read(path.parent / "items.parquet")
    ids = read_codes_file(path, catalog)
    assert ids.num_levels == levels
    assert ids.resolve("keep").provenance.config["collisions"]["distinct"] == distinct
    assert len(set(map(tuple, ids.resolve("extra_level").codes.tolist()))) == len(catalog)


# Of the forms of other projects


def write_pt(codes: Any, path: Path) -> None:
    torch.save(codes, path)


code_tables = st.integers(1, 4).flatmap(
    lambda levels: st.lists(
        st.lists(st.integers(0, 300), min_size=levels, max_size=levels), min_size=5, max_size=9
    )
)


@given(rows=code_tables, number_from=st.sampled_from([None, 0, 1]))
def test_an_index_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], number_from: int | None
) -> None:
    ids = ids_of(*(f"B{row}" for row in range(len(rows))), codes=torch.tensor(rows))
    path = tmp_path_factory.mktemp("codes") / "index.json"
    write_codes_index(ids, path, number_from=number_from)
    zeros = (0,) * ids.num_levels  # or ascending levels would be refused as perhaps offset
    again = read_codes_file(path, catalog_of(*ids.item_ids), number_from=number_from, offsets=zeros)
    assert again.codes.equal(ids.codes)
    assert again.item_ids == ids.item_ids


def test_an_index_is_spelled_as_letter_and_lc_rec_spell_theirs(tmp_path: Path) -> None:
    ids = ids_of("x", "y", codes=torch.tensor([[12, 3, 0], [1, 0, 255]]))
    write_codes_index(ids, tmp_path / "index.json")
    assert json.loads((tmp_path / "index.json").read_text()) == {
        "0": ["<a_12>", "<b_3>", "<c_0>"],
        "1": ["<a_1>", "<b_0>", "<c_255>"],
    }
    write_codes_index(ids, tmp_path / "named.json", number_from=None)
    assert set(json.loads((tmp_path / "named.json").read_text())) == {"x", "y"}
    with pytest.raises(ValueError, match="at most 26 levels"):
        write_codes_index(ids_of(1, codes=torch.zeros(1, 27).long()), tmp_path / "index.json")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("offset", [False, True])
@given(rows=code_tables, layout=st.sampled_from(["item_level", "level_item"]))
def test_a_matrix_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    offset: bool,
    rows: list[list[int]],
    layout: Layout,
) -> None:
    ids = ids_of(*range(len(rows)), codes=torch.tensor(rows))
    offsets = tuple(301 * level * offset for level in range(ids.num_levels))
    path = tmp_path_factory.mktemp("codes") / f"codes{suffix}"
    write_codes_tensor(ids, path, layout=layout, offsets=offsets)
    again = read_codes_file(path, catalog_of(*ids.item_ids), layout=layout, offsets=offsets)
    assert again.codes.equal(ids.codes)
    seen = read_codes_file(path, catalog_of(*ids.item_ids), offsets=offsets)
    assert seen.codes.equal(ids.codes)
    assert again.provenance.config["layout"] == layout


def test_the_matrix_of_grid_is_read(tmp_path: Path) -> None:
    numbers = torch.tensor([0, 0, 1, 0])  # that it appends to items of equal codes
    write_pt(torch.cat([CODES, numbers[:, None]], dim=1).T, tmp_path / "merged.pt")
    ids = read_codes_file(tmp_path / "merged.pt", catalog_of("a", "b", "c", "d"))
    assert ids.codes.tolist() == [[0, 1, 0], [2, 0, 0], [0, 1, 1], [1, 1, 0]]
    assert ids.scheme == "file:merged.pt"
    assert ids.provenance.config == {}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_the_matrix_of_rectokens_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    write_pt(CODES.to(dtype), tmp_path / "codes.pt")
    np.save(tmp_path / "codes.npy", CODES.to(dtype).numpy())
    for name in ("codes.pt", "codes.npy"):
        assert read_codes_file(tmp_path / name, catalog_of(1, 2, 3, 4)).codes.equal(CODES)


class Anything:
    """Stands for code that a file must not bring along."""


@pytest.mark.parametrize(
    "content", [Anything(), {"codes": CODES}, CODES.float(), CODES[0], CODES[:0]]
)
def test_a_file_of_anything_but_one_matrix_of_integers_is_refused(
    tmp_path: Path, content: Any
) -> None:
    write_pt(content, tmp_path / "codes.pt")
    with pytest.raises(ValueError, match="expected a matrix of integers"):
        read_codes_file(tmp_path / "codes.pt", catalog_of(1, 2, 3, 4))


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".safetensors"])
def test_a_broken_matrix_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"codes{suffix}"
    path.write_bytes(b"no matrix at all")
    with pytest.raises(ValueError, match=r"expected a matrix of integers in .*cannot be read"):
        read_codes_file(path, catalog_of(1))


def test_one_of_several_tensors_must_be_named_codes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"other": torch.ones(2, 2), "codes": CODES}, tmp_path / "two.safetensors")
    catalog = catalog_of(1, 2, 3, 4)
    assert read_codes_file(tmp_path / "two.safetensors", catalog).codes.equal(CODES)
    save_file({"other": CODES, "another": CODES + 1}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="none named codes"):
        read_codes_file(tmp_path / "two.safetensors", catalog)


def test_a_matrix_says_which_axis_is_the_items(tmp_path: Path) -> None:
    square = torch.tensor([[0, 5], [7, 2]])
    np.save(tmp_path / "codes.npy", square.numpy())
    catalog = catalog_of(1, 2)
    with pytest.raises(ValueError, match=r"square matrix \(2, 2\)\. Set layout"):
        read_codes_file(tmp_path / "codes.npy", catalog)
    turned = read_codes_file(tmp_path / "codes.npy", catalog, layout="level_item")
    assert turned.codes.equal(square.T)
    with pytest.raises(ValueError, match="is there a padding row"):
        read_codes_file(tmp_path / "codes.npy", catalog_of(1, 2, 3))
    with pytest.raises(ValueError, match=r"out of .* got 'rows'"):
        read_codes_file(tmp_path / "codes.npy", catalog, layout="rows")  # type: ignore[arg-type]
    write_codes_tensor(ids_of(1, 2, 3, 4), tmp_path / "codes.npy")
    with pytest.raises(ValueError, match=r"level_item, got a matrix \(4, 2\)"):
        read_codes_file(tmp_path / "codes.npy", catalog_of(1, 2, 3, 4), layout="level_item")


@pytest.mark.parametrize("kind", [".npy", ".json", ".parquet"])
def test_whether_levels_are_offset_is_never_guessed(tmp_path: Path, kind: str) -> None:
    catalog, path = catalog_of(1, 2, 3, 4), tmp_path / f"codes{kind}"
    moved = (CODES + torch.tensor([0, 8])).tolist()
    if kind == ".npy":
        np.save(path, np.array(moved))
    elif kind == ".json":
        path.write_text(json.dumps({str(i): row for i, row in enumerate(moved, start=1)}))
    else:
        pl.DataFrame({"item_id": [1, 2, 3, 4], "codes": moved}).write_parquet(path)
    with pytest.raises(ValueError, match=r"Set offsets.* such as \[0, 8\], or \[0, 0\]"):
        read_codes_file(path, catalog)
    assert read_codes_file(path, catalog, offsets=[0, 8]).codes.equal(CODES)
    as_they_are = read_codes_file(path, catalog, offsets=[0, 0])
    assert as_they_are.codes.equal(CODES + torch.tensor([0, 8]))
    with pytest.raises(ValueError, match=r"got -1 at level 1 of item row 1, offsets \[0, 9\]"):
        read_codes_file(path, catalog, offsets=[0, 9])
    with pytest.raises(ValueError, match=r"an offset for each of 2 levels, got \[8\]"):
        read_codes_file(path, catalog, offsets=[8])
    with pytest.raises(ValueError, match=r"offsets\[1\] must be a whole number of at least 0"):
        read_codes_file(path, catalog, offsets=[0, -8])


def test_options_of_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    ids = ids_of(1, 2, 3, 4)
    write_codes_tensor(ids, tmp_path / "codes.npy")
    write_codes_index(ids, tmp_path / "codes.json")
    with pytest.raises(ValueError, match="expected number_from for a file that names its items"):
        read_codes_file(tmp_path / "codes.npy", catalog_of(1, 2, 3, 4), number_from=0)
    with pytest.raises(ValueError, match="expected a layout for a matrix"):
        read_codes_file(tmp_path / "codes.json", catalog_of(1, 2, 3, 4), layout="item_level")
    with pytest.raises(ValueError, match=r"\.npy or \.safetensors file to write"):
        write_codes_tensor(ids, tmp_path / "codes.pt")


def test_a_config_reads_a_file_with_its_settings(tmp_path: Path) -> None:
    write_codes_tensor(ids_of(1, 2, 3, 4), tmp_path / "codes.npy", offsets=(0, 8))
    scheme = f"file:{tmp_path / 'codes.npy'}"
    catalog = catalog_of(1, 2, 3, 4)
    config = IdsConfig(scheme=scheme, settings={"offsets": [0, 8]}, collisions="keep")
    assert ids_from_config(config, catalog).codes.equal(CODES)
    with pytest.raises(
        ValueError, match=r"expected settings of a file of codes, got \{'seed': 1\}"
    ):
        ids_from_config(IdsConfig(scheme=scheme, settings={"seed": 1}), catalog)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["beauty", "yelp", "instruments"])
def test_published_codes_come_back_from_every_form(
    shared_data: Path, name: str, tmp_path: Path
) -> None:
    path = shared_data / name / "semantic_ids.letter.json"
    catalog = Catalog.read(path.parent / "items.parquet")
    ids = read_codes_file(path, catalog)
    write_codes_index(ids, tmp_path / "index.json")
    assert read_codes_file(tmp_path / "index.json", catalog, number_from=0).codes.equal(ids.codes)
    if catalog.item_ids == list(range(1, len(catalog) + 1)):
        published = json.loads(path.read_text())
        written = json.loads((tmp_path / "index.json").read_text())
        assert written == {str(int(item) - 1): tokens for item, tokens in published.items()}
    write_codes_tensor(ids, tmp_path / "codes.npy", layout="level_item")
    assert read_codes_file(tmp_path / "codes.npy", catalog).codes.equal(ids.codes)
