"""How long a request takes: bench_latency.py --batches 1 4 16 --histories 64 256 2048.

A grid after the one that NVIDIA publishes for generation over semantic ids: requests answered
together, tokens of history (levels times items) and beams. TIGER with random weights writes the
next item by our beam search and by ``transformers.generate`` with ``TrieLogitsProcessor``: the same
weights, the same trie, and the same items must be found. Both take turns in one run, on the CPU
and, where there is one, on the GPU.

What a way needs is estimated before it runs: its memory from the shape, its time from smaller
cells. Above a limit it does not run, and the table says so. On a machine that others use too, take
``--threads 1 --processor --devices cpu``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from bench_decode import Found, disagreement, generated, searched
from measuring import add_catalogue, codes_of, interleaved, prepare, ratios, write_figures

from baselines.backbones.config import TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories
from semid.generation import TrieLogitsProcessor

Way = Callable[[], Found]

_OURS, _GENERATE = "beam search", "generate"
_CHECK = "moved_items_and_largest_score_difference"
_FLOAT, _GIB = 4, 2**30

SHAPES = {
    "tiger": TigerConfig(),
    "nvidia": TigerConfig(num_layers=8, dim=1024, num_heads=8, head_dim=128, ff_dim=4096),
}
"""TIGER's default shape; and one as wide and deep as the decoder that NVIDIA measures."""


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: requests answered together, tokens of history, and beams."""

    batch: int
    history: int
    beam: int

    @property
    def work(self) -> int:
        """Tokens of history that all beams read; the time of large cells is proportional to it."""
        return self.batch * self.history * self.beam

    def within(self, other: Cell) -> bool:
        """Whether it is at most as large in every respect."""
        return (
            self.batch <= other.batch and self.history <= other.history and self.beam <= other.beam
        )


def needed_memory(config: TigerConfig, cell: Cell, tokens: int) -> dict[str, int]:
    """Bytes of tensors that each way holds at its peak, beside the weights; rounded up to parts.

    ``generate`` repeats the encoded history for every beam and keeps its keys and values once a
    layer, and twice in the layer that it reorders, beside the scores of one layer's attention. The
    beam search keeps them once for every request.
    """
    inner = config.num_heads * config.head_dim
    positions, beams = cell.batch * cell.history, cell.batch * cell.beam
    bias = 2 * config.num_heads * cell.history**2
    wide = positions * (config.dim + max(4 * inner, config.ff_dim))
    eager = 4 * config.num_heads * cell.history * positions
    keys_and_values = 2 * config.num_layers * inner
    written = beams * (4 * tokens + 4 * config.ff_dim + 8 * keys_and_values)
    ours = positions * keys_and_values + max(bias + wide, written)
    repeated = cell.beam * positions
    attention = repeated * (4 * config.num_heads + 2 * inner + config.dim)
    theirs = max(bias + wide + eager, repeated * keys_and_values + attention + written)
    return {_OURS: _FLOAT * ours, _GENERATE: _FLOAT * theirs}


def left_out(needed: int, seconds: float, args: argparse.Namespace) -> str | None:
    """Why a way does not run, if it does not."""
    if needed > args.memory * _GIB:
        return f"needs {needed / _GIB:.1f} GiB"
    if seconds > args.limit:
        return f"about {seconds:.0f} s"
    return None


def histories_of(cell: Cell, backbone: TigerBackbone, gen: torch.Generator) -> Histories:
    """Random histories of as many items as the tokens make, on the device of the model."""
    shape = (cell.batch, cell.history // backbone.trie.depth)
    items = torch.randint(len(backbone.codes), shape, generator=gen).to(backbone.trie.device)
    users = torch.arange(cell.batch, device=items.device)
    return Histories(items=items, mask=torch.ones_like(items, dtype=torch.bool), users=users)


def finished(way: Way) -> Found:
    """What a way finds, once the device has done it."""
    found = way()
    if found[0].is_cuda:
        torch.cuda.synchronize()
    return found


def ways(backbone: TigerBackbone, cell: Cell, gen: torch.Generator) -> dict[str, Way]:
    """Both ways to answer the requests of a cell, by name."""
    histories = histories_of(cell, backbone, gen)
    processor = TrieLogitsProcessor(backbone.trie, start=0, end=0)
    search = partial(searched, backbone, histories, cell.beam)
    generate = partial(generated, backbone, histories, cell.beam, logits_processor=[processor])
    return {_OURS: partial(finished, search), _GENERATE: partial(finished, generate)}


def measure(
    backbone: TigerBackbone, cell: Cell, seconds: dict[str, float], args: argparse.Namespace
) -> dict[str, Any]:
    """Milliseconds of both ways in one cell, or why one does not run.

    Args:
        backbone: The model.
        cell: The cell.
        seconds: What each way is expected to take.
        args: Limits, rounds and seed.
    """
    needed = needed_memory(backbone.config, cell, backbone.vocab.num_tokens)
    skipped = {name: left_out(needed[name], seconds[name], args) for name in needed}
    both = ways(backbone, cell, torch.Generator().manual_seed(args.seed))
    run = {name: way for name, way in both.items() if skipped[name] is None}
    clock = time.process_time if args.processor else time.perf_counter
    with torch.inference_mode():
        times, found = interleaved(run, args.rounds, clock)
    row: dict[str, Any] = {
        **asdict(cell),
        "estimated_gib": {name: size / _GIB for name, size in needed.items()},
        "milliseconds": {name: median(values) for name, values in times.items()},
        "not_run": {name: why for name, why in skipped.items() if why},
    }
    if len(run) == 2:
        row["generate_over_ours"] = ratios(times, _OURS)[_GENERATE]
        row[_CHECK] = disagreement(*found.values())
    return row


def grid(backbone: TigerBackbone, cells: list[Cell], args: argparse.Namespace) -> list[Any]:
    """All cells, the least work first, so that each is estimated from one not much smaller."""
    rows: list[Any] = []
    for cell in sorted(cells, key=lambda cell: cell.work):
        rows.append(measure(backbone, cell, expected_seconds(cell, rows), args))
        print(_line(rows[-1]), flush=True)
    return rows


def expected_seconds(cell: Cell, rows: list[Any]) -> dict[str, float]:
    """About what a call of each way takes: at most in proportion to a cell within this one."""
    expected = {}
    for name in (_OURS, _GENERATE):
        scaled = [
            row["milliseconds"][name] / 1e3 * cell.work / smaller.work
            for row in rows
            if name in row["milliseconds"]
            and (smaller := Cell(row["batch"], row["history"], row["beam"])).within(cell)
        ]
        expected[name] = min(scaled, default=0.0)
    return expected


def _line(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    shown = []
    for name in (_OURS, _GENERATE):
        ms = row["milliseconds"].get(name)
        shown.append(f"not run: {row['not_run'][name]}" if ms is None else f"{ms:,.0f}")
    ratio = row.get("generate_over_ours")
    cells = [row["batch"], f"{row['history']:,}", row["beam"], *shown]
    return f"| {' | '.join(map(str, cells))} | {'' if ratio is None else f'{ratio:.1f}'} |"


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--shape", choices=list(SHAPES), default="tiger", help="of the model")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--histories", type=int, nargs="+", default=[64, 256, 2048], help="tokens")
    parser.add_argument("--beams", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--devices", nargs="+", help="cpu, and cuda where there is one, by default")
    parser.add_argument("--memory", type=float, default=16, help="most GiB of a way's tensors")
    parser.add_argument("--limit", type=float, default=60, help="most seconds of one call")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each way")
    parser.add_argument("--processor", action="store_true", help="time of the processor, not wall")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = options()
    args = parser.parse_args(argv)
    gen = prepare(args)
    codes = codes_of(args, gen)
    levels = codes.shape[1]
    if odd := [tokens for tokens in args.histories if tokens < 1 or tokens % levels]:
        parser.error(f"expected --histories in multiples of an item's {levels} tokens, got {odd}")
    config = replace(SHAPES[args.shape], max_history=max(args.histories) // levels)
    context = BuildContext(codes, (args.codebook,) * levels, seed=args.seed)
    backbone = TigerBackbone(config, context).eval()
    cells = [Cell(*row) for row in itertools.product(args.batches, args.histories, args.beams)]

    figures: dict[str, Any] = {"items": len(codes), "shape": asdict(config), "devices": {}}
    print(
        f"{args.shape}: {config.num_layers} layers of encoder and decoder, {config.dim} wide, "
        f"float32, {len(codes):,} items, {args.threads} threads; medians of {args.rounds}"
    )
    for device in args.devices or ["cpu", "cuda"][: 1 + torch.cuda.is_available()]:
        on_cpu = device == "cpu"  # where ``generate`` is faster with eager attention
        backbone.t5.set_attn_implementation("eager" if on_cpu else "sdpa")
        name = device if on_cpu else torch.cuda.get_device_name(device)
        print(f"\n{name}, milliseconds\n\n| batch | history | beam | ours | `generate` | ratio |")
        print("|---|---|---|---|---|---|")
        rows = grid(backbone.to(device), cells, args)
        figures["devices"][name] = rows
        checks = [row[_CHECK] for row in rows if _CHECK in row]
        moved = sum(moved for moved, _ in checks)
        difference = max((difference for _, difference in checks), default=0.0)
        print(f"\n{moved} items moved; scores differ by {difference:.1e} at most")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
