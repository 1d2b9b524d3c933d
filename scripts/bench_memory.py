"""Peak memory of every stage by the size of the catalogue: bench_memory.py --sizes 10000 1000000.

Random titles, vectors, events and codes; models with random weights in their default shapes. Each
stage runs in a process of its own, and its figure is the most that was resident, with libraries and
catalogue: the first row is the libraries alone. Where a size is expected to need more memory or
time than allowed, by the smaller sizes, it is not run, and the table says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
from bench_step import mass_of_best, training_step
from bench_teacher import write_shop
from measuring import (
    add_catalogue,
    add_tiger,
    codes_of,
    paths_of,
    prepare,
    random_histories,
    random_sequences,
    run_measured,
    tiger_of,
    write_figures,
)

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.cli import main as semid
from baselines.contracts.backbone import Backbone, BuildContext
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from semid.decoding import beam_search
from semid.trie import CodeTrie
from tca.config import ObjectiveConfig

Sizes = dict[int, dict[str, Any]]  # what a stage took by size, or why it was not run

_BASE, _INPUTS = "libraries", "inputs"
_BATCH, _BEAM, _EVENTS, _TOP_K, _FIT_ITEMS = 64, 50, 640, 1000, 20_000


def inputs(args: argparse.Namespace) -> None:
    """Titles, events and vectors that the commands read."""
    write_shop(args, args.items, args.folder / "shop")
    row = pl.int_range(args.items, eager=True)
    title = pl.format("w{} v{} u{}", row % 997, row * 31 % 1009, row * 17 % 4999)
    items = pl.select(row.alias("item_id"), title.alias("title"))
    items.write_parquet(args.folder / "shop" / "items.parquet")
    shape, rng = (args.items, 64), np.random.default_rng(args.seed)
    path = args.folder / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape)
    for begin in range(0, args.items, 1 << 16):
        part = vectors[begin : begin + (1 << 16)]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)


def command(args: argparse.Namespace, *words: str) -> None:
    """Run a command of semid on the inputs, in this process."""
    status = semid([*words, "--data", str(args.folder / "shop"), "--quiet"])
    if status:
        raise SystemExit(status)


def build(args: argparse.Namespace, source: str) -> None:
    """IDs of all items, fitted on some of them."""
    with TemporaryDirectory(dir=args.folder) as out:
        some = str(min(args.items, _FIT_ITEMS))
        vectors = source.format(folder=args.folder)
        options = ["--ids.embeddings", vectors, "--ids.fit_items", some]
        command(args, "build", "--out", f"{out}/ids", *options)


def train_teacher(args: argparse.Namespace) -> None:
    """An epoch of SASRec with a sampled softmax, its validation and test."""
    with TemporaryDirectory(dir=args.folder) as out:
        options = ["--teacher.sasrec.loss", "sampled_softmax", "--training.epochs", "1"]
        command(args, "teacher", "train", "--out", f"{out}/teacher", *options)


def build_trie(args: argparse.Namespace) -> None:
    """The trie of random codes."""
    CodeTrie.from_paths(paths_of(args, prepare(args)), args.levels * args.codebook)


def teacher_mass(args: argparse.Namespace) -> None:
    """The distributions of one batch of targets, from the teacher's best items."""
    gen = prepare(args)
    trie = CodeTrie.from_paths(paths_of(args, gen), args.levels * args.codebook)
    teacher = SASRec(SASRecConfig(), args.items, seed=args.seed).eval()
    histories = random_histories(_BATCH, args.items, teacher.max_history, gen)
    targets = torch.randint(args.items, (_BATCH,), generator=gen)
    with torch.inference_mode():
        mass_of_best(teacher, trie, min(args.items, _TOP_K))(histories, targets, {})


def backbone_of(args: argparse.Namespace, name: str, gen: torch.Generator) -> Backbone:
    """A backbone on random codes."""
    codes = codes_of(args, gen)
    if name == "TIGER":
        return tiger_of(args, codes)
    context = BuildContext(codes, (args.codebook,) * args.levels, seed=args.seed)
    return CausalBackbone(CausalConfig(), context).eval()


def train(args: argparse.Namespace, name: str) -> None:
    """Two steps, the second with the optimizer's state in place."""
    gen = prepare(args)
    backbone = backbone_of(args, name, gen).train()
    optimizer = torch.optim.AdamW(backbone.parameters(), fused=True)
    data = random_sequences(args.items, gen)
    batches = backbone.windows(data).epoch(_EVENTS, np.random.default_rng(args.seed))
    for _, batch in zip(range(2), batches, strict=False):
        training_step(backbone, optimizer, (ObjectiveConfig(), None), batch)


def recommend(args: argparse.Namespace, name: str) -> None:
    """Beam search for a batch of histories."""
    gen = prepare(args)
    backbone = backbone_of(args, name, gen)
    histories = random_histories(_BATCH, args.items, backbone.max_history, gen)
    with torch.inference_mode():
        beam_search(backbone.start(histories), backbone.trie, beam=_BEAM)


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    _BASE: lambda args: None,
    "embeddings and IDs, from titles": partial(build, source="lsa:64"),
    "IDs, from vectors in a file": partial(build, source="{folder}/vectors.npy"),
    "trie": build_trie,
    "teacher, sampled softmax": train_teacher,
    "teacher's best items and mass": teacher_mass,
    "training step, TIGER": partial(train, name="TIGER"),
    "training step, causal": partial(train, name="causal"),
    "recommending, TIGER": partial(recommend, name="TIGER"),
    "recommending, causal": partial(recommend, name="causal"),
}
"""What each process does, by the name of its row."""


def measured(args: argparse.Namespace, stage: str, size: int, folder: str) -> dict[str, float]:
    """Time and peak memory of a stage in a process of its own."""
    own = ["--items", size, "--folder", folder, "--stage", stage]
    shape = ["--levels", args.levels, "--codebook", args.codebook, "--layers", args.layers]
    more = ["--dim", args.dim, "--users", args.users, "--events", args.events]
    words = [*own, *shape, *more, "--seed", args.seed, "--threads", args.threads]
    return run_measured([sys.executable, __file__, *map(str, words)], args.threads)


def expected(row: Sizes, size: int, base: dict[str, float]) -> tuple[float, float]:
    """GiB and processor seconds on a line through the last two sizes that ran.

    The first of a single one is the libraries, of no items.
    """
    ran = [(items, found) for items, found in row.items() if "peak_mib" in found]
    if not ran:
        return 0.0, 0.0
    (fewer, before), (items, last) = [(0, base), *ran][-2:]
    more = (size - items) / (items - fewer)
    mib, seconds = (
        last[figure] + more * max(0.0, last[figure] - before[figure])
        for figure in ("peak_mib", "processor_seconds")
    )
    return mib / 1024, seconds


def table(found: dict[str, Sizes], sizes: list[int]) -> str:
    """MiB by stage and size, as Markdown."""
    lines = [f"| MiB | {' | '.join(f'{size:,} items' for size in sizes)} |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for stage, row in found.items():
        shown = [
            f"{row[size]['peak_mib']:,.0f}"
            if "peak_mib" in row[size]
            else f"not run: {row[size]['not_run']}"
            for size in sizes
        ]
        lines.append(f"| {stage} | {' | '.join(shown)} |")
    return "\n".join(lines)


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    add_tiger(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--users", type=int, default=300, help="whom the teacher is trained on")
    parser.add_argument("--events", type=int, default=12, help="events of a user")
    parser.add_argument("--memory", type=float, default=16, help="most GiB of a stage")
    parser.add_argument(
        "--limit", type=float, default=300, help="most processor seconds of a stage"
    )
    parser.add_argument("--folder", type=Path, help="where inputs are kept meanwhile")
    parser.add_argument("--stage", help=argparse.SUPPRESS)  # in a process of its own
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    args = options().parse_args(argv)
    if args.stage:
        {_INPUTS: inputs, **STAGES}[args.stage](args)
        return 0
    found: dict[str, Sizes] = {stage: {} for stage in args.stages}
    for size in sorted(args.sizes):
        with TemporaryDirectory(dir=args.folder) as folder:
            measured(args, _INPUTS, size, folder)
            base = measured(args, _BASE, size, folder)
            for stage, row in found.items():
                gib, seconds = expected(row, size, base)
                if gib > args.memory:
                    row[size] = {"not_run": f"about {gib:.0f} GiB"}
                elif seconds > args.limit:
                    row[size] = {"not_run": f"about {seconds:.0f} s"}
                else:
                    row[size] = measured(args, stage, size, folder)
                print(f"{size:,} items, {stage}: {row[size]}", file=sys.stderr, flush=True)
    print(table(found, sorted(args.sizes)))
    write_figures(args, {"stages": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
