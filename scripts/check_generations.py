"""Three refreshes of a catalogue: check_generations.py --data FOLDER --folder runs/generations.

Items are held out at random, a model is trained without them, and each generation brings a part of
them back by ``semid build --extends``. Checked: no id moves, the updated trie is the one built
anew, and a trained model that is given the new items codes them alike. Shown: N@10, seen items
removed, of each generation's model, without further training, on the same test targets, by the
generation that brought the target's item; and last that of a model trained on everything with the
same ids. Targets that a model does not know are misses. Further options go to ``semid train``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from measuring import write_figures

from baselines.cli import main as semid
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.evaluation.measures import Measures
from baselines.models.new_items import with_new_items
from baselines.models.other_data import rank_on
from baselines.models.trained import TrainedModel
from semid.ids import SemanticIds
from semid.trie import CodeTrie

METRIC = "N@10"


@dataclass(frozen=True, kw_only=True)
class World:
    """The data of all generations, below one folder.

    Attributes:
        folder: The folder.
        whole: The data with all items.
        groups: Item ids by generation, those of the first training first.
    """

    folder: Path
    whole: Dataset
    groups: list[list[str] | list[int]]

    @classmethod
    def of(cls, args: argparse.Namespace) -> World:
        """Hold items out, and write the data of each generation."""
        write_plain_layout(load_dataset(args.data), args.folder / "whole")
        whole = load_dataset(args.folder / "whole")
        number, ids = args.generations * args.items, whole.catalog.ids
        if number >= len(ids):
            raise SystemExit(f"expected more than {number} items to hold out, got {len(ids)}")
        rows = np.random.default_rng(args.seed).permutation(len(ids))
        held = rows[:number].reshape(args.generations, args.items)
        groups = [ids.gather(part).to_list() for part in (np.sort(rows[number:]), *held)]
        world = cls(folder=args.folder, whole=whole, groups=groups)
        for generation in range(len(groups)):
            world._write(generation)
        return world

    def _write(self, generation: int) -> None:
        folder, whole = self.data(generation), self.folder / "whole"
        folder.mkdir(exist_ok=True)
        items, events = (pl.read_parquet(whole / f"{n}.parquet") for n in ("items", "interactions"))
        known = pl.DataFrame({"item_id": [i for g in self.groups[: generation + 1] for i in g]})
        known.join(items, on="item_id", maintain_order="left").write_parquet(
            folder / "items.parquet"
        )
        events.join(known, on="item_id", how="semi", maintain_order="left").write_parquet(
            folder / "interactions.parquet"
        )

    def data(self, generation: int) -> Path:
        """Folder of the data of one generation."""
        return self.folder / f"data-{generation}"

    def ids(self, generation: int) -> Path:
        """Folder of the ids of one generation."""
        return self.folder / ("model/ids" if generation == 0 else f"ids-{generation}")

    def new_items(self, generation: int) -> pl.DataFrame:
        """The items that a generation brings, with their texts."""
        items = pl.read_parquet(self.folder / "whole" / "items.parquet")
        group = pl.DataFrame({"item_id": self.groups[generation]})
        return group.join(items, on="item_id", maintain_order="left")


def run(*words: str | Path) -> None:
    """Run a command of semid, or end with its status."""
    if status := semid([str(word) for word in words]):
        raise SystemExit(status)


def refreshed(world: World, generation: int) -> dict[str, Any]:
    """Extend the ids of the generation before, and check them."""
    begin = time.perf_counter()
    data, before = world.data(generation), world.ids(generation - 1)
    how = ("--ids.collisions", "next_nearest", "--overwrite", "true")
    run("build", "--data", data, "--extends", before, "--out", world.ids(generation), *how)
    seconds = time.perf_counter() - begin
    old, new = SemanticIds.load(before), SemanticIds.load(world.ids(generation))
    assert new.generation is not None
    old_trie = CodeTrie.from_paths(old.codes, max(old.sizes))
    begin = time.perf_counter()
    followed = new.generation.next_trie(old_trie, new.codes)
    trie_seconds = time.perf_counter() - begin
    anew = CodeTrie.from_paths(new.codes, max(new.sizes))
    return {
        "moved": sum(old.codes_of(item) != new.codes_of(item) for item in old.item_ids),
        "shared": len(new) - len(set(map(tuple, new.codes.tolist()))),
        "same_trie": all(
            getattr(followed, name).equal(getattr(anew, name))
            for name in ("first_child", "token_of_node", "item_order", "first_item", "last_item")
        ),
        "seconds": seconds,
        "trie_seconds": trie_seconds,
        "step": vars(new.generation.last),
    }


def measured(world: World, model: TrainedModel) -> dict[str, Any]:
    """N@10 of all test targets, by generation of the target's item; and new items in the lists."""
    ranks, _ = rank_on(model, world.whole)
    items = model.items
    measures = Measures(
        evaluation=model.spec.evaluation, popularity=items.counts, catalog=items.catalog
    )
    values = measures.per_user(ranks)["removed"][METRIC]
    test, ids = world.whole.splits.test, world.whole.catalog
    targets = test.items[test.targets()[1]]
    parts = [np.isin(targets, ids.rows(group)) for group in world.groups]
    listed = ranks.top[ranks.top >= 0]
    held = [item for group in world.groups[1:] for item in group]
    is_new = np.isin(listed, model.items.catalog.find(pl.Series(held)))
    return {
        "items": len(model.items.catalog),
        "all": float(values.mean()),
        "parts": [float(values[part].mean()) if part.any() else None for part in parts],
        "targets": [int(part.sum()) for part in parts],
        "new_in_lists": float(is_new.mean()),
        "new_recommended": len(np.unique(listed[is_new])),
    }


def line(name: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    values = [found["all"], *found["parts"]]
    figures = "".join(f"{'-' if v is None else f'{v:.4f}':>9}" for v in values)
    new = f"{found['new_in_lists']:>9.1%}{found['new_recommended']:>9}"
    return f"{name:<24}{found['items']:>8}{figures}{new}"


def table(rows: dict[str, dict[str, Any]]) -> str:
    """N@10 of each model, and what the newest gains or loses over the first."""
    first, *_, newest, _ = rows.values()
    new = [f"gen. {number}" for number in range(1, len(first["parts"]))]
    head = "".join(f"{name:>9}" for name in ("all", "old", *new, "in lists", "distinct"))
    targets = "".join(f"{count:>9}" for count in [sum(first["targets"]), *first["targets"]])
    gains = [
        after - before
        for after, before in zip(
            [newest["all"], *newest["parts"]], [first["all"], *first["parts"]], strict=True
        )
        if after is not None and before is not None
    ]
    return "\n".join(
        [
            f"{METRIC + ' by target':<24}{'items':>8}{head}",
            f"{'targets':<32}{targets}",
            *(line(name, found) for name, found in rows.items()),
            f"{'newest less first':<32}" + "".join(f"{gain:>+9.4f}" for gain in gains),
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run all generations, print the table, and fail if an id or the trie is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, help="a folder, or synthetic:USERSxITEMS")
    parser.add_argument("--folder", type=Path, required=True, help="for all data, ids and models")
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--items", type=int, default=1000, help="new items a generation")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args, more = parser.parse_known_args(argv)
    torch.set_num_threads(args.threads)
    world = World.of(args)
    how = ("--arm", "causal:ntp", "--training.epochs", str(args.epochs), *more)
    run("train", "--data", world.data(0), "--out", args.folder / "model", *how)
    model = TrainedModel.load(args.folder / "model")
    rows, checks = {"trained on generation 0": measured(world, model)}, []
    for generation in range(1, len(world.groups)):
        check = refreshed(world, generation)
        model = with_new_items(model, world.new_items(generation))
        codes = SemanticIds.load(world.ids(generation)).codes
        checks.append({**check, "same_in_model": model.items.ids.codes.equal(codes)})
        rows[f"generation {generation}"] = measured(world, model)
    codes_file = f"file:{world.ids(len(checks)) / 'semantic_ids.parquet'}"
    again = ("--ids.scheme", codes_file, "--ids.collisions", "keep")
    data = world.data(len(checks))
    run("train", "--data", data, "--out", args.folder / "again", *how, *again)
    rows["trained again"] = measured(world, TrainedModel.load(args.folder / "again"))
    for number, check in enumerate(checks, start=1):
        print(
            f"generation {number}: {check['moved']} ids moved, {check['shared']} shared; the trie "
            f"{'is' if check['same_trie'] else 'IS NOT'} that built anew; the model's codes "
            f"{'are' if check['same_in_model'] else 'ARE NOT'} those of the folder; "
            f"{check['seconds']:.1f} s, trie {1000 * check['trie_seconds']:.1f} ms"
        )
    print(table(rows))
    write_figures(args, {"checks": checks, "rows": rows})
    sound = all(not c["moved"] and c["same_trie"] and c["same_in_model"] for c in checks)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
