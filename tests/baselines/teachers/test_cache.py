"""The mass of all targets in a file: the same numbers, never those of something else."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from exact_mass import teacher_mass
from worlds import random_sequences, sequence_set

from baselines.data.batches import Histories
from baselines.nn.config import EncoderConfig
from baselines.teachers import cache
from baselines.teachers.cache import cached_mass, code_table_hash
from baselines.teachers.config import MassConfig, SASRecConfig
from baselines.teachers.mass import ExactMass, mass_source
from baselines.teachers.sasrec import SASRec
from semid.provenance import Provenance, ProvenanceError
from semid.trie import CodeTrie
from semid.vocab import CodeVocab
from tca.collaborative import CollaborativeTokenizer

DATA = random_sequences(13, 9, longest=8)
CODES = torch.cartesian_prod(torch.arange(3), torch.arange(5))[:13]
Usage = namedtuple("Usage", "total used free")


class CountedSASRec(SASRec):
    """Counts the histories it scores."""

    scored = 0

    def score(self, histories: Histories) -> torch.Tensor:
        self.scored += len(histories.items)
        return super().score(histories)


def teacher(seed: int = 0) -> CountedSASRec:
    encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
    made = CountedSASRec(SASRecConfig(max_history=4, encoder=encoder), num_items=13, seed=seed)
    with torch.no_grad():
        made.item_embedding.weight.mul_(30)
    return made.eval()


def tokenizer(codes: torch.Tensor = CODES, temperature: float = 1.0) -> CollaborativeTokenizer:
    return CollaborativeTokenizer(CodeTrie.from_paths(codes, 5), temperature=temperature)


def cached(folder: Path, scorer: SASRec | None = None, **changes: Any) -> torch.Tensor:
    settings: dict[str, Any] = {
        "source": ExactMass(scorer or teacher(), tokenizer()),
        "data": DATA,
        "teacher": "first",
        **changes,
    }
    source, data = settings.pop("source"), settings.pop("data")
    return cached_mass(source, data, folder=folder, **settings)


@pytest.mark.parametrize("batch_size", [3, 256])
def test_the_file_holds_the_mass_of_all_targets(tmp_path: Path, batch_size: int) -> None:
    mass = cached(tmp_path, batch_size=batch_size)
    expected = teacher_mass(teacher(), tokenizer(), DATA)
    assert mass.dtype == torch.float16
    torch.testing.assert_close(mass, expected, rtol=0, atol=1e-3)
    rows, pos = torch.tensor([5, 0, 5]), torch.tensor([1, 0, 0])
    assert torch.equal(mass[rows, pos], mass.clone()[rows, pos])


def test_the_second_time_it_is_read_and_nothing_is_scored(tmp_path: Path) -> None:
    first, scorer = cached(tmp_path), teacher()
    (folder,) = tmp_path.iterdir()
    written = (folder / "mass.npy").stat().st_mtime_ns
    assert torch.equal(cached(tmp_path, scorer), first)
    assert scorer.scored == 0
    assert (folder / "mass.npy").stat().st_mtime_ns == written


def test_it_is_mapped_and_what_is_written_to_it_stays_private(tmp_path: Path) -> None:
    mass = cached(tmp_path)
    before = mass.clone()
    mass.zero_()
    assert torch.equal(cached(tmp_path), before)


OTHERS: dict[str, dict[str, Any]] = {
    "teacher": {"teacher": "second"},
    "split": {"data": random_sequences(13, 9, longest=8, seed=1)},
    "code table": {"source": ExactMass(teacher(), tokenizer(CODES.flip(0)))},
    "temperature": {"source": ExactMass(teacher(), tokenizer(temperature=2.0))},
    "masking": {"source": ExactMass(teacher(), tokenizer(), mask_history=True)},
    "best items": {
        "source": mass_source(
            teacher(), tokenizer().trie, config=MassConfig(top_k=4, tail="uniform")
        )
    },
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_is_computed_and_kept_apart(tmp_path: Path, other: str) -> None:
    first = cached(tmp_path).clone()
    second = cached(tmp_path, **OTHERS[other])
    assert len(list(tmp_path.iterdir())) == 2
    if other not in ("teacher", "best items"):  # the same by another name; all items are near
        assert second.shape != first.shape or not torch.equal(first, second)
    assert torch.equal(cached(tmp_path), first)


@pytest.mark.parametrize("other", OTHERS)
def test_a_file_of_something_else_under_our_name_is_refused(tmp_path: Path, other: str) -> None:
    cached(tmp_path / "ours")
    cached(tmp_path / "theirs", **OTHERS[other])
    (ours,), (theirs,) = (tmp_path / "ours").iterdir(), (tmp_path / "theirs").iterdir()
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    with pytest.raises(ProvenanceError, match=r"teacher mass in .* does not match.* Remove"):
        cached(tmp_path / "ours")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    cached(tmp_path)
    (path,) = tmp_path.glob("*/mass.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ProvenanceError, match=r"mass.npy was changed.*Remove"):
        cached(tmp_path)
    path.write_bytes(whole[:-40])
    with pytest.raises(ProvenanceError, match=r"mass.npy was changed.*Remove"):
        cached(tmp_path)


def test_ended_in_the_middle_it_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cache.mass_blocks

    def ended(*arguments: Any, **settings: Any) -> Iterator[Any]:
        yield next(whole(*arguments, **settings))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "mass_blocks", ended)
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path, batch_size=3)
    assert list(tmp_path.iterdir()) == []
    torch.testing.assert_close(
        cached(tmp_path, batch_size=3),
        teacher_mass(teacher(), tokenizer(), DATA),
        rtol=0,
        atol=1e-3,
    )


def test_a_full_disk_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = teacher()
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: Usage(100, 99, 1))
    with pytest.raises(OSError, match=r"levels x 5 codes\), got 0.0 GB free .*--mass_cache"):
        cached(tmp_path, scorer)
    assert scorer.scored == 0


def test_a_teacher_that_cannot_say_what_it_is_has_no_cache(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="content hash of a trained teacher"):
        cached(tmp_path, teacher="")


def test_codes_spelled_with_other_tokens_are_one_code_table() -> None:
    flat, levels = CodeVocab.flat((3, 5)), CodeVocab.per_level((3, 5))
    tries = [CodeTrie.from_paths(v.tokens(CODES), v.num_tokens) for v in (flat, levels)]
    assert not torch.equal(tries[0].token_of_node, tries[1].token_of_node)
    assert code_table_hash(tries[0]) == code_table_hash(tries[1])
    assert code_table_hash(tries[0]) != code_table_hash(CodeTrie.from_paths(CODES.flip(0), 5))


def test_the_file_says_what_it_was_made_from(tmp_path: Path) -> None:
    cached(tmp_path)
    (folder,) = tmp_path.iterdir()
    lineage = Provenance.read(folder)
    assert lineage.kind == "teacher_mass"
    assert lineage.inputs["teacher"] == "first"
    assert lineage.inputs["targets"] == DATA.content_hash()
    assert lineage.config == {"temperature": 1.0, "mask_history": False}
    assert json.loads((folder / "provenance.json").read_text())["content"]


def test_no_targets_have_an_empty_mass(tmp_path: Path) -> None:
    assert cached(tmp_path, data=sequence_set([([3], 1)])).shape == (0, 2, 5)
