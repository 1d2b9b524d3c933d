"""The floors of the house: who may import whom, what stays out, and what loads late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("semid", "tca", "baselines")  # a floor imports only from the floors before it
ROOMS = (  # of baselines: a room imports only from rooms of the floors before its own
    ("nn", "runtime"),
    ("data",),
    ("contracts", "lm", "training"),
    ("evaluation", "pretraining"),
    ("teachers",),
    ("backbones", "testing"),
    ("recommenders",),
    ("models",),
    ("experiments", "exporting", "serving"),
    ("reporting",),
    ("cli",),
)
FLOOR_OF_ROOM = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = (
    "torch",
    "numpy",
    "transformers",
    "sklearn",
    "faiss",
    "sentence_transformers",
    "polars",
    "scipy",
    "matplotlib",
)
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS = 500, 60, 8
MAY_HAVE_MORE_PARAMETERS = {"semid.decoding.beam_search"}  # public, and each of them is used
# GRID keeps its codes as .pt and in no other form, and so do checkpoints their item vectors
READ_TENSORS_OF_OTHERS = {"semid.interop", "semid.vector_files"}
PICKLING_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for floor in FLOORS
    for path in sorted((ROOT / floor).rglob("*.py"))
}


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Every imported name in full (``semid.trie.CodeTrie``), wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = (above if node.level else []) + ([node.module] if node.module else [])
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def imports_of(module: str) -> set[str]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return set(imported_names(ast.parse(path.read_text(encoding="utf-8")), package))


def module_of(name: str) -> str | None:
    """The module of ours that an imported name is, or is taken from."""
    if name in MODULES:
        return name
    above = name.rpartition(".")[0]
    return above if above in MODULES else None


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def pickling(tree: ast.AST) -> Iterator[str]:
    """Whatever would read or write a pickle."""
    for name in imported_names(tree, ""):
        if name.split(".")[0] in PICKLING_MODULES or name in {"torch.save", "torch.load"}:
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"save", "load"}:
            if isinstance(node.value, ast.Name) and node.value.id == "torch":
                yield f"torch.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield from ["allow_pickle"] if ast.unparse(node.value) != "False" else []


def loads_tensors_only(tree: ast.AST) -> bool:
    """Whether every mention of ``torch.load`` is a call that refuses whatever is no tensor."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    safe = [
        call
        for call in calls
        if ast.unparse(call.func) == "torch.load"
        and any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
    ]
    mentions = [n for n in ast.walk(tree) if ast.unparse(n) == "torch.load"]
    return len(safe) == len([n for n in mentions if isinstance(n, ast.Attribute)]) > 0


def prints(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_floor_imports_only_from_the_floors_below_it(module: str) -> None:
    above = FLOORS[FLOORS.index(module.split(".")[0]) + 1 :]
    bad = {name for name in imports_of(module) for floor in above if is_within(name, floor)}
    assert not bad, f"{module} imports {sorted(bad)} from a floor above it"


@pytest.mark.parametrize("module", [name for name in MODULES if name.count(".") > 1])
def test_a_room_of_baselines_imports_only_from_the_floors_below_it(module: str) -> None:
    floor, room = module.split(".")[:2]
    if floor != "baselines":
        return
    others = {name.split(".")[1] for name in imports_of(module) if is_within(name, "baselines")}
    above = {other for other in others - {room} if FLOOR_OF_ROOM[other] >= FLOOR_OF_ROOM[room]}
    assert not above, f"{module} imports from {sorted(above)}, not below {room}"


def test_no_module_leads_back_to_itself() -> None:
    imported = {module: set(map(module_of, imports_of(module))) for module in MODULES}
    graph = {module: names - {module, None} for module, names in imported.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def parameters(function: Function) -> list[str]:
    """Names of what a caller passes; ``*args`` and ``**kwargs`` are one each."""
    takes = function.args
    named = [*takes.posonlyargs, *takes.args, *takes.kwonlyargs, takes.vararg, takes.kwarg]
    return [one.arg for one in named if one is not None and one.arg not in {"self", "cls"}]


@pytest.mark.parametrize("module", MODULES)
def test_files_functions_and_lists_of_parameters_are_short(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES, "look for the second idea"
    for function in functions(ast.parse(text)):
        name = f"{module}.{function.name}"
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= MOST_LINES_OF_A_FUNCTION, f"{name} has {length} lines: split it"
        if name not in MAY_HAVE_MORE_PARAMETERS:
            taken = parameters(function)
            assert len(taken) <= MOST_PARAMETERS, f"{name} takes {taken}: make some of them one"


@pytest.mark.parametrize("module", [name for name in MODULES if is_within(name, "tca")])
def test_tca_takes_from_semid_only_the_trie_the_registry_and_checks(
    module: str,
) -> None:
    ours = {name for name in imports_of(module) if is_within(name, "semid")}
    doors = ("semid.trie", "semid.checks", "semid.field_types", "semid.registry")
    bad = {name for name in ours if not any(is_within(name, door) for door in doors)}
    assert not bad, f"{module} imports {sorted(bad)}: only {', '.join(doors)} are open"


def test_the_equations_take_plain_tensors_and_nothing_of_ours() -> None:
    bad = {name for name in imports_of("tca.functional") for f in FLOORS if is_within(name, f)}
    assert not bad


MEASURES = ("bench_", "measuring", "check_command_lines", "check_generations", "draw_")
SCRIPTS = [p for p in sorted((ROOT / "scripts").glob("*.py")) if not p.name.startswith(MEASURES)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_takes_only_the_command_line_unless_it_looks_below(
    script: Path,
) -> None:
    names = set(imported_names(ast.parse(script.read_text(encoding="utf-8")), ""))
    ours = {name for name in names for floor in FLOORS if is_within(name, floor)}
    assert all(is_within(name, "baselines.cli") for name in ours), sorted(ours)


def loaded_by(module: str) -> set[str]:
    """Which heavy libraries a fresh interpreter has loaded once it has imported a module."""
    code = f"import sys, {module}; print(*set(sys.modules) & set({HEAVY!r}))"
    fresh = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(fresh.stdout.split())


@pytest.mark.parametrize("package", ["semid", "tca"])
def test_import_loads_nothing_heavy(package: str) -> None:
    assert loaded_by(package) == set()


@pytest.mark.parametrize(
    "module", ["baselines.cli", *(n for n in MODULES if n.endswith(".config"))]
)
def test_settings_and_the_command_line_load_no_engine(module: str) -> None:
    assert loaded_by(module) == set()


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_pickled(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = sorted(set(pickling(tree)))
    if module in READ_TENSORS_OF_OTHERS and loads_tensors_only(tree):
        found.remove("torch.load")
    assert not found, f"{module} uses {found}: write safetensors, parquet, npy or JSON"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if not is_within(name, "baselines.cli")]
)
def test_only_the_command_line_prints(module: str) -> None:
    assert not prints(ast.parse(MODULES[module].read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import semid.trie as t, torch", {"semid.trie", "torch"}),
        ("from semid.trie import CodeTrie", {"semid.trie.CodeTrie"}),
        ("def f():\n    from . import trie", {"pkg.sub.trie"}),
        ("from ..other import x as y", {"pkg.other.x"}),
    ],
)
def test_the_reader_of_imports_sees_them_all(source: str, names: set[str]) -> None:
    assert set(imported_names(ast.parse(source), "pkg.sub")) == names


def test_the_reader_of_parameters_counts_them_all() -> None:
    source = "class A:\n    async def f(self, a, /, b, *c, d=1, **e): ...\n    def g(): ..."
    assert [sorted(parameters(f)) for f in functions(ast.parse(source))] == [list("abcde"), []]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import dump",
        "import torch\ntorch.save(1, 'x')",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_reader_of_pickles_sees_them_all(source: str) -> None:
    assert list(pickling(ast.parse(source)))
    assert not loads_tensors_only(ast.parse(source))
    assert not list(pickling(ast.parse("np.load(path, allow_pickle=False)")))


@pytest.mark.parametrize(
    ("source", "safe"),
    [
        ("torch.load(path, weights_only=True)", True),
        ("torch.load(path)", False),
        ("torch.load(path, weights_only=False)", False),
        ("torch.load(path, weights_only=True)\ntorch.load(other)", False),
        ("read = torch.load\ntorch.load(path, weights_only=True)", False),
    ],
)
def test_a_reader_of_tensors_refuses_whatever_else_a_file_holds(source: str, safe: bool) -> None:
    assert loads_tensors_only(ast.parse(source)) == safe
