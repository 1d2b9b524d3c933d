import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from semid.provenance import (
    Provenance,
    ProvenanceError,
    atomic_dir,
    atomic_write,
    hash_arrays,
    hash_file,
    hash_ids,
    hash_json,
    hash_parts,
    read_json,
    read_tensors,
    require_same,
    write_json,
    write_tensors,
)


def test_array_hash_is_the_definition() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    definition = hashlib.sha256(b"<i4(2, 3);" + array.astype("<i4").tobytes()).hexdigest()
    assert hash_arrays(array) == definition


def test_memory_layout_and_byte_order_do_not_change_the_hash() -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert hash_arrays(array) == hash_arrays(np.asfortranarray(array))
    assert hash_arrays(array) == hash_arrays(array.astype(">f8"))


def test_dtype_shape_values_and_order_each_change_the_hash() -> None:
    array = np.arange(6, dtype=np.float32)
    other = np.zeros(1, dtype=np.float32)
    variants = [
        hash_arrays(array),
        hash_arrays(array.astype(np.float64)),
        hash_arrays(array.reshape(2, 3)),
        hash_arrays(array + 1),
        hash_arrays(array, other),
        hash_arrays(other, array),
        hash_arrays(array[0]),
        hash_arrays(array[:1]),
    ]
    assert len(set(variants)) == len(variants)


def test_arrays_of_objects_have_no_hash() -> None:
    with pytest.raises(ValueError, match="hash_ids"):
        hash_arrays(np.array(["a", 1], dtype=object))


def test_json_hash_ignores_the_order_of_keys_alone() -> None:
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": [1, 2], "a": 1})
    assert hash_json({"a": [1, 2]}) != hash_json({"a": [2, 1]})


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, {"path": Path("a")}])
def test_what_is_not_json_has_no_json_hash(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        hash_json(value)


def test_string_and_integer_ids_hash_differently() -> None:
    assert hash_ids(["1", "2"]) != hash_ids([1, 2])
    assert hash_ids([1, 2]) != hash_ids([2, 1])
    assert hash_ids(["1,2"]) != hash_ids(["1", "2"])
    numbers = np.array([1, 2])
    assert hash_ids([numbers[0], numbers[1]]) == hash_ids([1, 2])


def test_hashes_are_the_same_in_another_process() -> None:
    code = "from semid.provenance import hash_ids; print(hash_ids(['a', 'ä']))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == hash_ids(["a", "ä"])


def test_file_hash_is_over_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (1 << 21))
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"x" * (1 << 21)).hexdigest()


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(tmp_path / "new" / "a.txt", "grün")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "grün".encode()

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_write(tmp_path / "new" / "a.txt", b"other")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == "grün".encode()


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "runs" / "ids") as filling:
        (filling / "sub").mkdir()
        (filling / "sub" / "a").write_text("1")
        assert not (tmp_path / "runs" / "ids").exists()
    assert (tmp_path / "runs" / "ids" / "sub" / "a").read_text() == "1"
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == ["ids"]


def test_an_error_leaves_the_earlier_artefact_alone(tmp_path: Path) -> None:
    def write(text: str, *, fail: bool) -> None:
        with atomic_dir(tmp_path / "ids") as filling:
            (filling / "config.json").write_text(text)
            if fail:
                raise RuntimeError("killed")

    write("1", fail=False)
    with pytest.raises(RuntimeError, match="killed"):
        write("2", fail=True)
    assert (tmp_path / "ids" / "config.json").read_text() == "1"
    write("3", fail=False)
    assert (tmp_path / "ids" / "config.json").read_text() == "3"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ids"]


def test_a_folder_that_is_no_artefact_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"), atomic_dir(tmp_path):
        pass
    with pytest.raises(FileExistsError, match="folder"), atomic_dir(tmp_path / "thesis.tex"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_dir(tmp_path / "out") as filling:
        (filling / "a").write_text("1")
    assert (tmp_path / "out" / "a").exists()


def test_provenance_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = Provenance(
        kind="ids", content="c", items="i", inputs={"a": "b"}, seen="s", config={"n": [1, "ü"]}
    )
    written.write(tmp_path)
    assert Provenance.read(tmp_path) == written
    assert {"python", "numpy", "torch"} <= set(written.versions)


def test_a_folder_without_provenance_is_no_artefact(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"provenance\.json"):
        Provenance.read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "ids"}', '{"kind": "a", "mood": "b"}'])
def test_a_broken_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(ProvenanceError, match="run the command that made it again"):
        Provenance.read(tmp_path)


def test_equal_hashes_pass() -> None:
    require_same("items", "abc", "abc", what_to_do="Nothing.")


def test_a_mismatch_says_which_and_what_to_do() -> None:
    with pytest.raises(ProvenanceError) as error:
        require_same("item order", "a" * 64, None, what_to_do="Train again.")
    assert str(error.value).startswith("item order does not match: expected aaaaaaaaaaaa, got none")
    assert str(error.value).endswith("Train again.")


def test_sealed_json_comes_back_and_says_what_it_is(tmp_path: Path) -> None:
    values = {"b": 1.5, "a": [1, None, "ü"], "c": {"2": True}}
    write_json(tmp_path / "a.json", values, made_from={"model": "m"})
    assert read_json(tmp_path / "a.json", made_from={"model": "m"}) == values
    assert read_json(tmp_path / "a.json") == values
    assert {**values, "seal": ANY} == json.loads((tmp_path / "a.json").read_text())


def test_json_that_was_made_from_something_else_counts_as_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1}, made_from={"model": "m"})
    assert read_json(tmp_path / "a.json", made_from={"model": "n"}) is None
    assert read_json(tmp_path / "b.json") is None


def test_json_without_a_seal_is_taken_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "a.json", take_unsealed=True) == {"a": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("1.5", "2.5"), "was changed after it was written"),
        (lambda text: text.replace("seal", "sea1"), None),
        (lambda text: text.replace('"seal": "', '"seal": "0'), "was changed after it was written"),
        (lambda text: text[:-20], "expected JSON values by name in .*, got something else"),
        (lambda text: "", "expected JSON values by name"),
        (lambda text: "[]", "a list"),
        (lambda text: "[" * 100_000, "expected JSON values by name"),
    ],
)
def test_damaged_json_is_refused(
    tmp_path: Path, change: Callable[[str], str], message: str | None
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1.5})
    path.write_text(change(path.read_text()))
    if message is None:
        assert read_json(path) is None, "it has no seal any more"
        return
    with pytest.raises(ProvenanceError, match=message) as error:
        read_json(path, take_unsealed=True)
    assert str(path) in str(error.value)
    assert "Remove it" in str(error.value)


def test_sealed_tensors_come_back(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6).reshape(2, 3),
        "b": torch.tensor(0.5, dtype=torch.bfloat16),
        "c": torch.zeros(0, 2, dtype=torch.bool),
    }
    path = tmp_path / "a.safetensors"
    write_tensors(path, tensors, metadata={"seconds": "1"}, made_from=["m"])
    found = read_tensors(path, made_from=["m"])
    assert found is not None
    assert found[1] == {"seconds": "1"}
    for name, value in tensors.items():
        torch.testing.assert_close(found[0][name], value, rtol=0, atol=0)
    assert read_tensors(path, made_from=["n"]) is None
    assert read_tensors(tmp_path / "none.safetensors") is None


@pytest.mark.parametrize("of", ["values", "names", "metadata"])
def test_changed_tensors_are_refused(tmp_path: Path, of: str) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(6)}, metadata={"seconds": "1"})
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {"a": file.get_tensor("a")}, file.metadata()
    if of == "values":
        tensors["a"] = tensors["a"] * 3
    elif of == "names":
        tensors["b"] = tensors.pop("a")
    else:
        metadata["seconds"] = "2"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ProvenanceError, match=r"a\.safetensors was changed after"):
        read_tensors(path)


def test_a_file_that_is_no_safetensors_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for data in (b"", b"\xff" * 40, b"\x10" + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(ProvenanceError, match=r"expected a safetensors file in .*a\.safetens"):
            read_tensors(path, take_unsealed=True)


def test_a_changed_file_of_an_artefact_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "codes").write_bytes(b"12")
    lineage = Provenance(kind="ids", content="c")
    lineage.write(tmp_path, files=["codes"])
    assert Provenance.read(tmp_path) == lineage
    (tmp_path / "codes").write_bytes(b"13")
    with pytest.raises(ProvenanceError, match=r"codes was changed .* Remove .* made it again"):
        Provenance.read(tmp_path)
    (tmp_path / "codes").unlink()
    with pytest.raises(ProvenanceError, match="got no file"):
        Provenance.read(tmp_path)


def test_a_record_without_seal_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = {"kind": "ids", "content": "c", "items": None, "inputs": {}, "config": {"n": 1}}
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    assert Provenance.read(tmp_path).config == {"n": 1}


@pytest.mark.parametrize("count", [0, 1, 5, 2**16, 2**16 + 1])
def test_ids_are_hashed_as_the_list_that_they_are(count: int) -> None:
    assert hash_ids(list(range(count))) == hash_json(list(range(count)))
    texts = [f'é"{number}' for number in range(count)]
    assert hash_ids(texts) == hash_json(texts)


def test_an_array_in_parts_has_the_hash_of_the_whole() -> None:
    array = np.arange(12, dtype=np.float32).reshape(6, 2)
    parts = (array[:1], array[1:5], array[5:])
    assert hash_parts(parts, array.dtype, array.shape) == hash_arrays(array)
