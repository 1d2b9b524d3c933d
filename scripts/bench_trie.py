"""What a trie of many items costs: bench_trie.py --items 10000000 --levels 4 --codebook 256.

Times building, saving, loading, adding and removing, and measures what each takes beyond the memory
in use before it: the process's high-water mark of resident memory is reset before every call
(``/proc/self/clear_refs``, Linux only) and read after it. So what a call returns counts as well,
and the pages of a mapped trie that it is the first to read. Freed memory goes back to the system
between calls, or a call could hide in what an earlier one had left. Loading maps a file that is in
the page cache, and includes the first 1,000 look-ups. The changed tries must equal, tensor for
tensor, tries built anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import add_catalogue, paths_of, write_figures
from torch import Tensor

from semid.trie import CodeTrie
from semid.trie_changes import add_items, remove_items

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(mark: str) -> float:
    """Megabytes of resident memory, now (``VmRSS``) or at most since the reset (``VmHWM``)."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(mark))
    return int(line.split()[1]) / 1e3


def measure(work: Callable[[], Any], rounds: int) -> tuple[dict[str, float], Any]:
    """Seconds and largest extra memory of some calls, and what the last one returned."""
    seconds, megabytes = [], []
    for _ in range(rounds):
        result = None  # before the next call takes its place
        if _RESET.exists():
            _RESET.write_text("5")
            before = resident("VmRSS")
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
        megabytes.append(resident("VmHWM") - before if _RESET.exists() else float("nan"))
    figures = {"seconds": median(seconds), "fastest": min(seconds)}
    return {**figures, "extra_megabytes": max(megabytes)}, result


def equal(trie: CodeTrie, paths: Tensor) -> bool:
    """Whether the trie is the one that is built from these paths."""
    built = CodeTrie.from_paths(paths, trie.num_tokens)
    names = [field.name for field in fields(CodeTrie) if field.name != "num_tokens"]
    return all(torch.equal(getattr(trie, name), getattr(built, name)) for name in names)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.set_defaults(items=10_000_000)
    parser.add_argument("--changed", type=int, default=10_000, help="items added, and removed")
    parser.add_argument("--rounds", type=int, default=3, help="calls of each kind")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    gen = torch.Generator().manual_seed(args.seed)
    paths = paths_of(args, gen)
    num_tokens = int(paths.max()) + 1
    drawn = torch.randint(len(paths), (args.changed, paths.shape[1]), generator=gen)
    new = paths.gather(0, drawn)  # each token from some item
    gone = torch.randperm(len(paths), generator=gen)[: args.changed]
    known = paths[torch.randint(len(paths), (1000,), generator=gen)]

    def load() -> CodeTrie:
        trie = CodeTrie.load(file)
        trie.walk(known)
        return trie

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trie.safetensors"
        costs = {}
        costs["build"], trie = measure(lambda: CodeTrie.from_paths(paths, num_tokens), args.rounds)
        costs["save"], _ = measure(lambda: trie.save(file), args.rounds)
        megabytes = file.stat().st_size / 1e6
        costs["load"], trie = measure(load, args.rounds)
        costs["add"], added = measure(lambda: add_items(trie, new), args.rounds)
        costs["remove"], removed = measure(lambda: remove_items(trie, gone), args.rounds)
        stays = torch.ones(len(paths), dtype=torch.bool)
        stays[gone] = False
        agrees = {
            "add": equal(added, torch.cat([paths, new])),
            "remove": equal(removed, paths[stays]),
        }

    print(
        f"{len(paths)} items, {trie.num_nodes} nodes, {megabytes:.0f} MB saved; "
        f"{args.changed} items added or removed; {args.threads} threads"
    )
    print(f"{'':<10}{'seconds':>10}{'fastest':>10}{'extra MB':>12}")
    for name, cost in costs.items():
        row = f"{name:<10}{cost['seconds']:>10.2f}{cost['fastest']:>10.2f}"
        print(f"{row}{cost['extra_megabytes']:>12.0f}")
    print(", ".join(f"{name}: {'as' if same else 'NOT AS'} built" for name, same in agrees.items()))
    sizes = {"items": len(paths), "nodes": trie.num_nodes, "changed": args.changed}
    write_figures(
        args, {**sizes, "saved_megabytes": megabytes, "costs": costs, "as_built_anew": agrees}
    )
    return 0 if all(agrees.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
