import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from semid.build import (
    build_semantic_ids,
    fit_text_encoder,
    ids_from_config,
    require_made_by,
)
from semid.catalog import Catalog
from semid.config import IdsConfig
from semid.embed import Embeddings, LsaEncoder, embed_catalog
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError
from semid.tokenizers import RandomTokenizer, RQKMeans, SemanticIdTokenizer


def embeddings_of(catalog: Catalog, seed: int = 0) -> Embeddings:
    vectors = np.random.default_rng(seed).normal(size=(len(catalog), 4))
    return Embeddings.of(vectors, catalog)


def test_items_get_distinct_ids_with_their_lineage(tiny_catalog: Catalog) -> None:
    embeddings = embed_catalog(tiny_catalog, LsaEncoder(dim=4))
    tokenizer = RQKMeans(codebook_sizes=(3, 2))
    ids = build_semantic_ids(tokenizer, embeddings, tiny_catalog)
    assert tokenizer.is_fitted
    assert ids.item_ids == tiny_catalog.item_ids
    assert ids.codes[:, :2].equal(tokenizer.encode(torch.from_numpy(embeddings.vectors)))
    assert len(set(map(tuple, ids.codes.tolist()))) == len(tiny_catalog)
    assert ids.scheme == "rqkmeans"
    assert ids.provenance.items == tiny_catalog.order_hash
    assert ids.provenance.inputs == {
        "embeddings": embeddings.provenance.content,
        "texts": embeddings.provenance.inputs["texts"],
        "tokenizer": tokenizer.provenance.content,
    }
    assert ids.provenance.config["settings"]["codebook_sizes"] == (3, 2)
    assert ids.provenance.config["collisions"]["strategy"] == "extra_level"


def test_the_same_inputs_give_the_same_ids(tiny_catalog: Catalog) -> None:
    embeddings = embeddings_of(tiny_catalog)
    first, second = (
        build_semantic_ids(RQKMeans(codebook_sizes=(3, 2)), embeddings, tiny_catalog)
        for _ in range(2)
    )
    assert first.provenance == second.provenance


def test_a_fitted_tokenizer_is_used_as_it_is(tiny_catalog: Catalog) -> None:
    tokenizer = RQKMeans(codebook_sizes=(3, 2))
    tokenizer.fit(torch.from_numpy(embeddings_of(tiny_catalog, seed=1).vectors))
    content = tokenizer.provenance.content
    build_semantic_ids(tokenizer, embeddings_of(tiny_catalog), tiny_catalog)
    assert tokenizer.provenance.content == content


def test_twins_are_kept_on_request(tiny_catalog: Catalog) -> None:
    tokenizer = RandomTokenizer(codebook_sizes=(2,))
    ids = build_semantic_ids(
        tokenizer, embeddings_of(tiny_catalog), tiny_catalog, collisions="keep"
    )
    assert ids.sizes == (2,)


def test_embeddings_of_another_catalogue_are_refused(tiny_catalog: Catalog) -> None:
    other = Catalog(item_ids=[1, 2], fields=pl.DataFrame())
    with pytest.raises(ProvenanceError, match="item order of the embeddings"):
        build_semantic_ids(RQKMeans(), embeddings_of(other), tiny_catalog)


def test_a_config_builds_what_its_parts_build(tiny_catalog: Catalog, tmp_path: Path) -> None:
    config = IdsConfig(codebook_sizes=(3, 2), settings={"iterations": 5}, template="{title}")
    made = ids_from_config(config, tiny_catalog, cache_dir=tmp_path)
    expected = build_semantic_ids(
        RQKMeans(codebook_sizes=(3, 2), iterations=5),
        embed_catalog(tiny_catalog, LsaEncoder(), template="{title}"),
        tiny_catalog,
    )
    assert made.provenance == expected.provenance
    assert [path for path in tmp_path.iterdir() if (path / "vectors.npy").exists()]


def test_vectors_of_ones_own_take_the_place_of_text(tiny_catalog: Catalog, tmp_path: Path) -> None:
    vectors = embeddings_of(tiny_catalog).vectors
    np.save(tmp_path / "items.npy", vectors)
    config = IdsConfig(codebook_sizes=(3, 2), embeddings=str(tmp_path / "items.npy"))
    expected = build_semantic_ids(
        RQKMeans(codebook_sizes=(3, 2)), Embeddings.of(vectors, tiny_catalog), tiny_catalog
    )
    assert ids_from_config(config, tiny_catalog).codes.equal(expected.codes)


@pytest.mark.parametrize(
    ("num_items", "size"), [(2, 2), (15, 2), (16, 2), (64, 8), (500, 32), (12_101, 256)]
)
def test_without_sizes_three_levels_fit_the_catalogue(
    num_items: int, size: int, tmp_path: Path
) -> None:
    np.save(tmp_path / "items.npy", np.zeros((num_items, 1), dtype=np.float32))
    catalog = Catalog(item_ids=list(range(num_items)), fields=pl.DataFrame())
    config = IdsConfig(scheme="random", embeddings=str(tmp_path / "items.npy"), collisions="keep")
    assert ids_from_config(config, catalog).sizes == (size,) * 3


def test_codes_of_a_file_are_told_apart_like_others(tiny_catalog: Catalog, tmp_path: Path) -> None:
    codes = {str(item): [f"<a_{item % 2}>"] for item in tiny_catalog.item_ids}
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    scheme = f"file:{tmp_path / 'codes.json'}"
    resolved = ids_from_config(IdsConfig(scheme=scheme), tiny_catalog)
    assert resolved.sizes == (2, 6)
    assert len(torch.unique(resolved.codes, dim=0)) == len(tiny_catalog)
    kept = ids_from_config(IdsConfig(scheme=scheme, collisions="keep"), tiny_catalog)
    assert kept.sizes == (2,)


def test_a_scheme_from_outside_is_named_by_module_and_class(
    tiny_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signs_of_items.py").write_text(
        """
from dataclasses import dataclass

import torch

from semid import SemanticIdTokenizer


@dataclass(kw_only=True, eq=False)
class SignTokenizer(SemanticIdTokenizer):
    codebook_sizes: tuple[int, ...] = (2,)

    def _fit(self, embeddings, cf_embeddings):
        return {}

    def _encode(self, embeddings, learned):
        return (embeddings[:, :1] > 0).long()
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    vectors = embeddings_of(tiny_catalog).vectors
    np.save(tmp_path / "items.npy", vectors)
    config = IdsConfig(
        scheme="signs_of_items:SignTokenizer",
        codebook_sizes=(2,),
        embeddings=str(tmp_path / "items.npy"),
    )
    ids = ids_from_config(config, tiny_catalog)
    assert ids.codes[:, 0].tolist() == (vectors[:, 0] > 0).astype(int).tolist()
    assert ids.scheme == "signs_of_items:SignTokenizer"


@dataclass(kw_only=True, eq=False)
class Collaborative(SemanticIdTokenizer):
    """As many codes as it is told, of the sign of what CF vectors and embeddings have in common."""

    codebook_sizes: tuple[int, ...] = (2,)
    uses_cf = True

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        assert cf_embeddings is not None
        return {"map": embeddings.T @ cf_embeddings}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings @ learned["map"][:, :1] > 0).long()


class SignsOfNothing(SemanticIdTokenizer):
    """Takes no sizes, and is not told any."""

    codebook_sizes = (2, 2)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings[:, :2] > 0).long()


class NumbersRows(SignsOfNothing):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return torch.arange(len(embeddings))[:, None].expand(-1, 2) % 2


class LosesASetting(SignsOfNothing):
    def __init__(self, depth: int = 1) -> None: ...


def test_a_scheme_learns_from_collaborative_vectors_and_says_what_they_have_seen(
    tiny_catalog: Catalog, tmp_path: Path
) -> None:
    plain = embeddings_of(tiny_catalog, seed=1)
    cf = replace(plain, provenance=replace(plain.provenance, seen="interactions"))
    cf.save(tmp_path / "cf")
    np.save(tmp_path / "cf.npy", cf.vectors)
    config = IdsConfig(scheme=f"{__name__}:Collaborative", codebook_sizes=(2,))
    made = [
        ids_from_config(replace(config, cf_embeddings=str(tmp_path / source)), tiny_catalog)
        for source in ("cf", "cf.npy")
    ]
    assert [ids.provenance.seen for ids in made] == ["interactions", None]
    for ids in made:
        assert ids.provenance.inputs["cf_embeddings"] == cf.provenance.content
        ids.save(tmp_path / "ids")
        assert SemanticIds.load(tmp_path / "ids").provenance.seen == ids.provenance.seen
    fitted = Collaborative().fit(
        torch.from_numpy(plain.vectors), cf_embeddings=torch.from_numpy(plain.vectors)
    )
    other = embeddings_of(tiny_catalog, seed=2)
    with pytest.raises(ProvenanceError, match="cf_embeddings of the tokenizer"):
        build_semantic_ids(fitted, plain, tiny_catalog, cf_embeddings=other)


def test_collaborative_vectors_of_other_items_are_refused(
    tiny_catalog: Catalog, tmp_path: Path
) -> None:
    others = Catalog(item_ids=list(range(12)), fields=pl.DataFrame())
    embeddings_of(others).save(tmp_path / "others")
    np.save(tmp_path / "padded.npy", np.zeros((13, 4)))
    for source, message in (("others", "item order of the embeddings"), ("padded.npy", "13 rows")):
        config = IdsConfig(scheme=f"{__name__}:Collaborative", cf_embeddings=str(tmp_path / source))
        with pytest.raises(ValueError, match=message):
            ids_from_config(config, tiny_catalog)
    with pytest.raises(ProvenanceError, match="item order of the cf_embeddings"):
        build_semantic_ids(
            Collaborative(),
            embeddings_of(tiny_catalog),
            tiny_catalog,
            cf_embeddings=embeddings_of(others),
        )


def test_embeddings_that_were_saved_serve_again(tiny_catalog: Catalog, tmp_path: Path) -> None:
    embeddings = embeddings_of(tiny_catalog)
    embeddings.save(tmp_path / "embeddings")
    config = IdsConfig(codebook_sizes=(3, 2), embeddings=str(tmp_path / "embeddings"))
    expected = build_semantic_ids(RQKMeans(codebook_sizes=(3, 2)), embeddings, tiny_catalog)
    assert ids_from_config(config, tiny_catalog).provenance == expected.provenance


def test_kept_ids_are_held_against_a_start_that_their_record_does_not_name(
    tiny_catalog: Catalog,
) -> None:
    def config(start: str) -> IdsConfig:
        return IdsConfig(codebook_sizes=(3, 2), settings={"start": start})

    kept = ids_from_config(config("random"), tiny_catalog)
    assert "start" not in kept.provenance.config["settings"], "as before there was a choice"
    require_made_by(kept, config("random"), tiny_catalog, where="ids")
    with pytest.raises(ProvenanceError, match="made from other start than now"):
        require_made_by(kept, config("kmeans++"), tiny_catalog, where="ids")


def test_a_scheme_that_takes_no_sizes_is_given_none(tiny_catalog: Catalog) -> None:
    config = IdsConfig(scheme=f"{__name__}:SignsOfNothing", collisions="keep")
    assert ids_from_config(config, tiny_catalog).sizes == (2, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (IdsConfig(scheme="kmeans"), "expected a tokenizer out of"),
        (IdsConfig(scheme="file:none.json"), "does not exist"),
        (
            IdsConfig(scheme=f"{__name__}:SignsOfNothing", codebook_sizes=(2, 2)),
            r"expected no codebook_sizes.*got \(2, 2\)",
        ),
        (IdsConfig(scheme=f"{__name__}:NumbersRows"), "NumbersRows breaks .* clause 'row order'"),
        (IdsConfig(scheme=f"{__name__}:LosesASetting"), "LosesASetting breaks .* 'settings'"),
        (IdsConfig(scheme=f"{__name__}:Collaborative"), "expected cf_embeddings for"),
        (IdsConfig(cf_embeddings="cf.npy"), "expected no cf_embeddings for rqkmeans"),
        (
            IdsConfig(scheme=f"{__name__}:Collaborative", cf_embeddings="none.npy"),
            "none.npy, which is not there",
        ),
        (IdsConfig(codebook_sizes=(13,)), "at least as many distinct items"),
        (IdsConfig(template="{colour}"), "must name columns in braces, got colour"),
        (IdsConfig(embeddings="none.npy"), "none.npy, which is not there"),
    ],
)
def test_a_config_that_does_not_fit_says_why(
    config: IdsConfig, message: str, tiny_catalog: Catalog
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        ids_from_config(config, tiny_catalog)


def test_collaborative_vectors_beside_the_text_are_coded_with_it(
    tiny_catalog: Catalog, tmp_path: Path
) -> None:
    plain, other = embeddings_of(tiny_catalog), embeddings_of(tiny_catalog, seed=1)
    vectors = other.vectors.copy()
    vectors[3] = 0  # an item without interactions
    Embeddings.of(vectors, tiny_catalog, seen="interactions").save(tmp_path / "cf")
    np.save(tmp_path / "text.npy", plain.vectors)
    config = IdsConfig(
        codebook_sizes=(3, 2),
        embeddings=str(tmp_path / "text.npy"),
        cf_embeddings=str(tmp_path / "cf"),
        cf_scale=0.5,
    )
    ids = ids_from_config(config, tiny_catalog)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    text = plain.vectors / np.linalg.norm(plain.vectors, axis=1, keepdims=True)
    both = torch.from_numpy(np.hstack([text, 0.5 * unit]))
    tokenizer = RQKMeans(codebook_sizes=(3, 2))
    expected = tokenizer.fit(both).encode(both)
    assert ids.codes[:, :2].equal(expected)
    assert ids.provenance.seen == "interactions"
    content = Embeddings.load(tmp_path / "cf").provenance.content
    assert ids.provenance.inputs["cf_embeddings"] == content
    assert fit_text_encoder(ids, config, tiny_catalog) is None
    require_made_by(ids, config, tiny_catalog, where="here")
    for changed in ({"cf_scale": 1.0}, {"cf_scale": 0.0, "cf_embeddings": None}):
        with pytest.raises(ProvenanceError, match="were made from other cf_scale"):
            require_made_by(ids, replace(config, **changed), tiny_catalog, where="here")  # type: ignore[arg-type]
    other.save(tmp_path / "cf")
    with pytest.raises(ProvenanceError, match="were made from other cf_embeddings"):
        require_made_by(ids, config, tiny_catalog, where="here")
    with pytest.raises(
        ValueError, match=r"expected cf_embeddings for a cf_scale of 0\.5, got none"
    ):
        ids_from_config(replace(config, cf_embeddings=None), tiny_catalog)


def test_a_scheme_that_learns_from_collaborative_vectors_may_code_them_too(
    tiny_catalog: Catalog, tmp_path: Path
) -> None:
    embeddings_of(tiny_catalog, seed=1).save(tmp_path / "cf")
    scheme = f"{__name__}:Collaborative"
    config = IdsConfig(scheme=scheme, codebook_sizes=(2,), cf_embeddings=str(tmp_path / "cf"))
    plain, both = (
        ids_from_config(replace(config, cf_scale=scale), tiny_catalog) for scale in (0.0, 1.0)
    )
    assert plain.provenance.inputs["cf_embeddings"] == both.provenance.inputs["cf_embeddings"]
    assert plain.provenance.inputs["tokenizer"] != both.provenance.inputs["tokenizer"]


def test_embeddings_of_interactions_say_what_they_have_seen(tiny_catalog: Catalog) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(tiny_catalog), 4))
    embeddings = Embeddings.of(vectors, tiny_catalog, seen="interactions")
    ids = build_semantic_ids(RQKMeans(codebook_sizes=(3, 2)), embeddings, tiny_catalog)
    assert ids.provenance.seen == "interactions"
