"""Schemes that ask for fields of the catalogue: the page's example, from build to extension."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from baselines.cli import main
from baselines.data.loading import load_catalog, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from semid import Catalog, IdsConfig, SemanticIds, ids_from_config
from semid.build import require_made_by
from semid.extension import load_tokenizer
from semid.provenance import ProvenanceError
from semid.testing import ContractError, check_tokenizer
from semid.tokenizers import RQKMeans, SemanticIdTokenizer, load_tokenizer_class
from semid.tokenizers.fields import fields_of

PAGE = (Path(__file__).parents[2] / "docs" / "ids.md").read_text(encoding="utf-8")
NAME = "category_first:CategoryFirst"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder with the example of the page and a shop of four categories."""
    section = PAGE[PAGE.index("### A scheme that asks for fields") :]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(example.splitlines()) <= 40
    (tmp_path / "category_first.py").write_text(example)
    dataset = synthetic_dataset(num_users=40, num_items=64, num_categories=4)
    write_plain_layout(dataset, tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "category_first", raising=False)
    return tmp_path


def test_the_scheme_of_the_page_keeps_the_contract(folder: Path) -> None:
    check_tokenizer(load_tokenizer_class(NAME))


def test_the_command_of_the_page_codes_the_category_first(folder: Path) -> None:
    section = PAGE[PAGE.index("### A scheme that asks for fields") :]
    (command,) = re.findall(r"```sh\nsemid (.*?)\n```", section, re.DOTALL)
    assert main(command.split()) == 0
    ids, catalog = SemanticIds.load("ids-by-category"), load_catalog("shop")
    categories = catalog.texts("{categories}")
    numbers = sorted(set(categories))
    assert ids.codes[:, 0].tolist() == [numbers.index(value) for value in categories]
    assert ids.sizes[:3] == (len(numbers), 8, 8)
    assert len(torch.unique(ids.codes, dim=0)) == 64


def test_new_items_are_coded_in_their_category_and_a_new_one_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--tokenizer", NAME, "--data", "shop", "--out", "ids"]) == 0
    path = folder / "shop" / "items.parquet"
    items = pl.read_parquet(path)
    fresh = items.head(2).with_columns(item_id=pl.col("item_id").max() + pl.int_range(1, 3) + 900)
    pl.concat([items, fresh.cast({"item_id": items["item_id"].dtype})]).write_parquet(path)
    extend = ["build", "--extends", "ids", "--tokenizer", NAME, "--data", "shop", "--out", "more"]
    assert main([*extend, "--ids.collisions", "next_nearest"]) == 0
    more = SemanticIds.load("more")
    assert len(more) == 66
    capsys.readouterr()
    assert more.codes[64:, 0].equal(more.codes[:2, 0])
    items.with_columns(
        categories=pl.when(pl.int_range(pl.len()) == 3)
        .then(pl.lit(["unheard of"]))
        .otherwise(pl.col("categories"))
    ).write_parquet(path)
    assert main([*extend, "--overwrite", "true", "--ids.collisions", "next_nearest"]) == 2
    said = capsys.readouterr().err
    assert "'unheard of' for item row 3" in said
    assert said.count("\n") == 1


def test_a_catalogue_without_the_column_is_refused_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "shop" / "items.parquet"
    pl.read_parquet(path).drop("categories").write_parquet(path)
    assert main(["build", "--tokenizer", NAME, "--data", "shop", "--out", "ids"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "expected the column 'categories' of the catalogue" in said


def test_kept_ids_are_held_against_the_categories_of_now(folder: Path) -> None:
    catalog = load_catalog("shop")
    config = IdsConfig(scheme=NAME)
    ids = ids_from_config(config, catalog)
    require_made_by(ids, config, catalog, where="ids")
    moved = catalog.fields.with_columns(pl.col("categories").reverse())
    with pytest.raises(ProvenanceError, match=r"made from other (texts|fields) than now"):
        require_made_by(ids, config, Catalog(item_ids=catalog.item_ids, fields=moved), where="ids")


class ByColour(SemanticIdTokenizer):
    """The colour is the only code."""

    uses_fields = ("colour",)
    codebook_sizes = (7,)

    def _fit(
        self,
        embeddings: Tensor,
        cf_embeddings: Tensor | None,
        fields: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        return {}

    def _encode(
        self,
        embeddings: Tensor,
        learned: dict[str, Tensor],
        fields: dict[str, Tensor] | None = None,
    ) -> Tensor:
        assert fields is not None
        return fields["colour"][:, None]


class ByRow(ByColour):
    def _encode(
        self,
        embeddings: Tensor,
        learned: dict[str, Tensor],
        fields: dict[str, Tensor] | None = None,
    ) -> Tensor:
        assert fields is not None
        return fields["colour"].sort().values[:, None]


def test_the_contract_gives_fields_and_finds_what_depends_on_other_items() -> None:
    check_tokenizer(ByColour)
    with pytest.raises(ContractError) as raised:
        check_tokenizer(ByRow)
    assert raised.value.clause == "row order"


def test_values_are_saved_with_the_tokenizer_and_part_of_its_content(tmp_path: Path) -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    colours = {"colour": ["red", "blue", "red", ""]}
    made = ByColour().fit(vectors, fields=colours)
    assert made.encode(vectors, fields=colours)[:, 0].tolist() == [2, 1, 2, 0]
    made.save_pretrained(tmp_path / "tokenizer")
    loaded = ByColour.from_pretrained(tmp_path / "tokenizer")
    assert loaded.encode(vectors[:1], fields={"colour": ["blue"]}).tolist() == [[1]]
    assert loaded.provenance == made.provenance
    other = ByColour().fit(vectors, fields={"colour": ["red", "blue", "red", "green"]})
    assert other.provenance.content != made.provenance.content
    for fields, says in (
        (None, "expected colour as fields of the items, got none"),
        ({"colour": ["red"]}, "expected a colour for each of 4 items, got 1"),
        ({"colour": ["red", "pink", "red", "pink"]}, "got 'pink' for item row 1"),
    ):
        with pytest.raises(ValueError, match=says):
            loaded.encode(vectors, fields=fields)
    with pytest.raises(ValueError, match="expected none as fields of the items, got colour"):
        RQKMeans(codebook_sizes=(2,)).fit(vectors, fields=colours)


def test_fields_of_a_catalogue_are_text_and_missing_ones_empty() -> None:
    table: dict[str, Any] = {"colour": ["red", None], "price": [3, 4]}
    catalog = Catalog(item_ids=[1, 2], fields=pl.DataFrame(table))
    found = fields_of(("colour", "price"), catalog)
    assert found == {"colour": ["red", ""], "price": ["3", "4"]}
    assert fields_of((), catalog) is None
    with pytest.raises(ValueError, match=r"'color' of the catalogue.* Did you mean colour"):
        fields_of(("color",), catalog)


def test_a_saved_tokenizer_of_ids_is_read_by_its_class(folder: Path) -> None:
    assert main(["build", "--tokenizer", NAME, "--data", "shop", "--out", "ids"]) == 0
    loaded = load_tokenizer("ids", load_tokenizer_class(NAME))
    catalog = load_catalog("shop")
    vectors = torch.zeros(64, loaded._input_dim)
    codes = loaded.encode(vectors, fields=fields_of(("categories",), catalog))
    assert codes[:, 0].equal(SemanticIds.load("ids").codes[:, 0])
