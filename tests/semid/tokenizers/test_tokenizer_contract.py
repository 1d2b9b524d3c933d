import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from semid.provenance import ProvenanceError, hash_arrays
from semid.tokenizers import (
    BUILT_IN,
    LETTER,
    OPQ,
    PQ,
    RQVAE,
    RVQ,
    AtomicTokenizer,
    ContractError,
    HierarchicalKMeans,
    NotFittedError,
    RandomTokenizer,
    RQKMeans,
    SemanticIdTokenizer,
    load_tokenizer_class,
)


@dataclass(kw_only=True, eq=False)
class SignTokenizer(SemanticIdTokenizer):
    """The example of the contract's own page, with collaborative vectors."""

    codebook_sizes: tuple[int, ...] = (2, 2, 2)
    uses_cf = True

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {"center": embeddings.mean(dim=0)}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings > learned["center"])[:, : len(self.codebook_sizes)].long()


class BrokenTokenizer(SignTokenizer):
    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return super()._encode(embeddings, learned) + 1


class UnfinishedTokenizer(SemanticIdTokenizer):
    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {}


def vectors(items: int = 60, dim: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(seed))


def every_scheme() -> list[SemanticIdTokenizer]:
    return [
        RQKMeans(codebook_sizes=(8, 4)),
        RQVAE(codebook_sizes=(8, 4), hidden_dims=(16,), latent_dim=4, epochs=8),
        RVQ(codebook_sizes=(8, 4), epochs=8),
        LETTER(codebook_sizes=(8, 4), hidden_dims=(16,), latent_dim=4, epochs=8, cf_weight=0.0),
        RandomTokenizer(codebook_sizes=(8, 4)),
        SignTokenizer(),
        RQKMeans(codebook_sizes=(8, 4), balanced=True, iterations=3),
        RQKMeans(codebook_sizes=(8, 4), beam=3),
        HierarchicalKMeans(codebook_sizes=(8, 4)),
        PQ(codebook_sizes=(8, 4)),
        OPQ(codebook_sizes=(8, 4), rotations=3),
        AtomicTokenizer(),
    ]


def name_of(tokenizer: SemanticIdTokenizer) -> str:
    return type(tokenizer).__name__


@pytest.mark.parametrize("tokenizer", every_scheme(), ids=name_of)
def test_codes_lie_in_their_levels(tokenizer: SemanticIdTokenizer) -> None:
    codes = tokenizer.fit(vectors()).encode(vectors())
    assert codes.dtype == torch.int64
    assert codes.shape == (60, len(tokenizer.codebook_sizes))
    assert (codes >= 0).all()
    assert (codes < torch.tensor(tokenizer.codebook_sizes)).all()


@pytest.mark.parametrize("tokenizer", every_scheme(), ids=name_of)
def test_save_then_load_encodes_the_same(tokenizer: SemanticIdTokenizer, tmp_path: Path) -> None:
    codes = tokenizer.fit(vectors()).encode(vectors())
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    built_in = [SemanticIdTokenizer] if tokenizer.scheme in BUILT_IN else []
    for loader in (type(tokenizer), *built_in):
        loaded = loader.from_pretrained(tmp_path / "tokenizer")
        assert type(loaded) is type(tokenizer)
        assert loaded.settings == tokenizer.settings
        assert loaded.encode(vectors()).equal(codes)
        assert loaded.provenance == tokenizer.provenance


@pytest.mark.parametrize("place", range(len(every_scheme())))
def test_equal_settings_learn_the_same_and_leave_global_randomness_alone(place: int) -> None:
    first, second = every_scheme()[place], every_scheme()[place]
    before = torch.get_rng_state()
    codes = first.fit(vectors()).encode(vectors())
    assert torch.get_rng_state().equal(before)
    torch.rand(3)
    assert second.fit(vectors()).encode(vectors()).equal(codes)
    assert first.provenance.content == second.provenance.content


def test_provenance_names_what_it_was_fitted_on() -> None:
    tokenizer = SignTokenizer().fit(vectors(), cf_embeddings=vectors(seed=1))
    assert tokenizer.provenance.inputs == {
        "embeddings": hash_arrays(vectors().numpy()),
        "cf_embeddings": hash_arrays(vectors(seed=1).numpy()),
    }
    assert tokenizer.provenance.content != SignTokenizer().fit(vectors(7)).provenance.content


def test_half_precision_is_computed_in_float32() -> None:
    half = vectors().half()
    tokenizer = RQKMeans(codebook_sizes=(4,)).fit(half)
    assert tokenizer.encode(half).equal(tokenizer.encode(half.float()))


def test_encoding_before_fitting_is_refused(tmp_path: Path) -> None:
    tokenizer = RQKMeans()
    assert not tokenizer.is_fitted
    with pytest.raises(NotFittedError, match="Call fit"):
        tokenizer.encode(vectors())
    with pytest.raises(NotFittedError, match="RQKMeans has learned nothing"):
        tokenizer.save_pretrained(tmp_path / "tokenizer")


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.zeros(3), r"\(item, dim\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "torch.int64"),
        (torch.zeros(0, 2), "at least one item"),
        (torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), "1 rows, first in row 1"),
        (torch.tensor([[float("inf"), 0.0]]), "NaN or infinity"),
    ],
)
def test_embeddings_that_are_no_finite_matrix_are_refused(embeddings: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SignTokenizer().fit(embeddings)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(item, 6\).*got \(item, 5\)"):
        SignTokenizer().fit(vectors()).encode(vectors(dim=5))


def test_collaborative_vectors_are_refused_by_a_scheme_that_would_ignore_them() -> None:
    with pytest.raises(ValueError, match="learns from embeddings alone"):
        RQKMeans(codebook_sizes=(4,)).fit(vectors(), cf_embeddings=vectors())


def test_collaborative_vectors_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="same 60 items"):
        SignTokenizer().fit(vectors(), cf_embeddings=vectors(59))


def test_a_scheme_that_breaks_the_contract_is_named() -> None:
    with pytest.raises(
        ContractError, match=r"BrokenTokenizer .* clause 'range': .* level \d .* \[0, 2\), got 2"
    ):
        BrokenTokenizer().fit(vectors()).encode(vectors())


def test_short_names_load_and_come_back() -> None:
    for name in BUILT_IN:
        assert load_tokenizer_class(name)().scheme == name


def test_a_class_from_outside_loads_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from semid.tokenizers import RandomTokenizer\nclass Mine(RandomTokenizer): pass\n"
    (tmp_path / "my_scheme.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_scheme", raising=False)  # of another test's folder
    tokenizer = load_tokenizer_class("my_scheme:Mine")()
    assert tokenizer.scheme == "my_scheme:Mine"
    tokenizer.fit(vectors()).save_pretrained(tmp_path / "out")
    loaded = load_tokenizer_class("my_scheme:Mine").from_pretrained(tmp_path / "out")
    assert loaded.encode(vectors()).equal(tokenizer.encode(vectors()))


def test_a_folder_does_not_make_anybody_import_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    source += "from semid.tokenizers import RandomTokenizer\nclass X(RandomTokenizer): pass\n"
    (tmp_path / "helper.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    load_tokenizer_class("helper:X")().fit(vectors()).save_pretrained(tmp_path / "out")
    monkeypatch.delitem(sys.modules, "helper")
    (tmp_path / "ran").unlink()
    for loader in (SemanticIdTokenizer, RandomTokenizer):
        with pytest.raises(ValueError, match="got 'helper:X'; code is not run merely because"):
            loader.from_pretrained(tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "",
        "[" * 100_000,
        '{"tokenizer": 3, "settings": {}, "input_dim": 5}',
        '{"tokenizer": "random", "settings": [], "input_dim": 5}',
        '{"tokenizer": "random", "settings": {"depth": 3}, "input_dim": 5}',
        '{"tokenizer": "random", "settings": {"seed": "x"}, "input_dim": 5}',
        '{"tokenizer": "random", "settings": {}, "input_dim": "5"}',
    ],
)
def test_a_damaged_config_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    RandomTokenizer().fit(vectors()).save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"out.config\.json") as error:
        SemanticIdTokenizer.from_pretrained(tmp_path / "out")
    assert "\n" not in str(error.value)


def test_damaged_tensors_are_one_line_that_names_them(tmp_path: Path) -> None:
    RQKMeans(codebook_sizes=(2,)).fit(vectors()).save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "learned.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"out.learned\.safetensors"):
        SemanticIdTokenizer.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rqvqe", "expected a tokenizer out of"),
        ("package:", "package.module:Class"),
        ("no_such_module:Scheme", "PYTHONPATH"),
        ("semid.ids:NoSuchClass", "NoSuchClass"),
        ("semid.ids:SemanticIds", "not one. Subclass it"),
        ("semid.interop:read_codes_file", "not one. Subclass it"),
        (f"{__name__}:UnfinishedTokenizer", "without _encode"),
    ],
)
def test_a_wrong_class_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tokenizer_class(name)


def test_a_folder_of_another_scheme_is_refused(tmp_path: Path) -> None:
    RandomTokenizer().fit(vectors()).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match=r"expected a RQKMeans.*got random"):
        RQKMeans.from_pretrained(tmp_path / "tokenizer")


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    RandomTokenizer().fit(vectors()).save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "tokenizer" / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["seed"] = 1
    path.write_text(json.dumps(config))
    with pytest.raises(ProvenanceError, match=r"config\.json was changed"):
        SemanticIdTokenizer.from_pretrained(tmp_path / "tokenizer")


def test_a_scheme_without_distances_finds_all_codes_equally_far() -> None:
    tokenizer = RandomTokenizer(codebook_sizes=(4, 3)).fit(vectors())
    first = tokenizer.encode(vectors())[:, :1]
    costs = tokenizer.costs(vectors(), first)
    assert costs.shape == (len(vectors()), 3)
    assert costs.unique().tolist() == [0.0]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [([0, 0], "fewer than 2 codes, got 2"), ([4], r"must lie in \[0, 4\)")],
)
def test_costs_of_no_prefix_are_refused(prefix: list[int], message: str) -> None:
    tokenizer = RandomTokenizer(codebook_sizes=(4, 3)).fit(vectors())
    with pytest.raises(ValueError, match=message):
        tokenizer.costs(vectors(), torch.tensor([prefix] * len(vectors())))
