"""What a ``Recommender`` costs above its search: bench_recommend.py --model FOLDER.

Lists of ten for random histories of item ids, in one call, beside ``beam_search`` called by hand on
the same batches, in the same run; ratios are taken round by round. The resident memory is taken
after the first and after the last round.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import psutil
import torch
from measuring import interleaved, prepare, ratios, write_figures

from baselines.models.recommender import Recommendations, Recommender
from baselines.models.requests import KnownHistories, batches, known_histories
from semid import ItemFilter, beam_search, rank_items

_BY_HAND, _RECOMMENDER = "beam_search by hand", "Recommender.recommend"


@torch.inference_mode()
def by_hand(recommender: Recommender, known: KnownHistories, k: int, batch: int) -> list[list[int]]:
    """Rows of the best items, without a policy, a title or an id."""
    backbone, how = recommender.model.backbone, recommender.model.spec.evaluation
    lists: list[list[int]] = [[] for _ in known.lengths]
    for rows, histories in batches(known, batch, backbone.max_history):
        within = ItemFilter(backbone.trie, deny=known.padded(rows))
        found = beam_search(
            backbone.start(histories),
            backbone.trie,
            beam=how.beam,
            renormalize=how.renormalize,
            within=within,
        )
        best = rank_items(found, backbone.trie, k=k, within=within).items.tolist()
        for row, items in zip(rows.tolist(), best, strict=True):
            lists[row] = items
    return lists


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained model")
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    gen = prepare(args)
    recommender = Recommender.from_pretrained(args.model)
    ids = recommender.model.items.catalog.item_ids
    lengths = torch.empty(args.histories).exponential_(1 / 6, generator=gen).long().clamp(1, 50)
    histories = [
        [ids[row] for row in torch.randint(len(ids), (length,), generator=gen).tolist()]
        for length in lengths.tolist()
    ]
    known = known_histories(recommender.model.items.catalog, histories, "refuse")
    memory = []

    def recommended() -> Recommendations:
        found = recommender.recommend(histories, k=args.k, batch_size=args.batch)
        memory.append(psutil.Process().memory_info().rss / 2**20)
        return found

    ways = {
        _BY_HAND: lambda: by_hand(recommender, known, args.k, args.batch),
        _RECOMMENDER: recommended,
    }
    times, found = interleaved(ways, args.rounds)
    rows = dict(zip(ids, range(len(ids)), strict=True))
    lists = [[rows[item.item_id] for item in items] for items in found[_RECOMMENDER]]
    assert lists == found[_BY_HAND], "both give the same lists"
    figures = {
        "histories": args.histories,
        "milliseconds": {name: median(values) for name, values in times.items()},
        "time_over_by_hand": ratios(times, _BY_HAND),
        "resident_MiB": {"first round": memory[0], "last round": memory[-1]},
    }
    for name, ms in figures["milliseconds"].items():  # type: ignore[attr-defined]
        rate = args.histories / ms * 1000
        print(f"{name:<24}{rate:>10.0f} histories/s")
    print(f"resident: {memory[0]:.0f} MiB after the first round, {memory[-1]:.0f} after the last")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
