"""What batch recommendations cost: bench_batch.py --model FOLDER --histories users.parquet.

``semid recommend`` as a command, by one process and by workers of Ray, for the given histories,
repeated up to a number: they must write the same file. Beside it, for a TIGER, plain ``generate``
of transformers, constrained to the items, on some of the histories.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import torch
from bench_decode import allowed_tokens
from measuring import prepare, write_figures

from baselines.backbones.tiger import TigerBackbone
from baselines.data.histories import UserHistories
from baselines.models.recommender import Recommender
from baselines.models.requests import batches, known_histories
from semid.provenance import hash_file


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained model")
    parser.add_argument("--histories", type=Path, required=True, help="as of semid recommend")
    parser.add_argument("--number", type=int, default=100_000, help="histories recommended for")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="workers of Ray")
    parser.add_argument("--sample", type=int, default=512, help="histories given to generate")
    parser.add_argument("--batch", type=int, default=64, help="of generate")
    parser.add_argument("--threads", type=int, default=1, help="of the process and of each worker")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)
    prepare(args)

    recommender = Recommender.from_pretrained(args.model)
    given = UserHistories.read(args.histories, known=recommender.model.items.catalog.ids)
    ray = ["--ray", "local", "--ray.workers", str(args.workers), "--ray.cpus", str(args.threads)]
    with TemporaryDirectory() as folder:
        users = Path(folder) / "users.parquet"
        repeated(given, args.number).write_parquet(users)
        seconds, hashes = {}, {}
        for name, options in (("one process", []), (f"{args.workers} workers of Ray", ray)):
            out = Path(folder) / "lists.parquet"
            seconds[name] = recommended(args, users, out, options)
            hashes[name] = hash_file(out)
    rates = {name: args.number / taken for name, taken in seconds.items()}
    if isinstance(recommender.model.backbone, TigerBackbone):
        rates["generate"] = generated(args, recommender, given)
    same = len(set(hashes.values())) == 1
    for name, rate in rates.items():
        print(f"{name:<20}{rate:>10.0f} histories/s{rate / rates['one process']:>10.2f} x")
    print(f"the same file: {same}")
    write_figures(args, {"histories": args.number, "rates": rates, "same": same})
    return 0 if same else 1


def repeated(given: UserHistories, number: int) -> pl.DataFrame:
    """The histories again and again, each time of other users."""
    lists = given.lists(0, len(given))["history"]
    rows = pl.int_range(number, eager=True)
    return pl.DataFrame({"user_id": rows, "history": lists.gather(rows % len(lists))})


def recommended(args: argparse.Namespace, users: Path, out: Path, options: list[str]) -> float:
    """Seconds that the command takes, from its start to its end."""
    command = [sys.executable, "-m", "baselines.cli", "recommend", "--model", str(args.model)]
    command += ["--histories", str(users), "--out", str(out), "--k", str(args.k)]
    command += ["--empty", "popular", *options]
    environment: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@torch.inference_mode()
def generated(args: argparse.Namespace, recommender: Recommender, given: UserHistories) -> float:
    """Histories a second of ``generate`` with the beam of the model."""
    model = recommender.model
    backbone, beam = model.backbone, model.spec.evaluation.beam
    assert isinstance(backbone, TigerBackbone)
    backbone.t5.set_attn_implementation("eager")  # on CPU ``generate`` is faster so than by default
    known = known_histories(model.items.catalog, given, "skip")
    known = known.part(0, min(args.sample, len(given)))
    allowed = allowed_tokens(backbone.vocab.tokens(backbone.codes).tolist())
    done, start = 0, time.perf_counter()
    for rows, histories in batches(known, args.batch, backbone.max_history):
        tokens, mask = backbone.encoder_input(histories)
        backbone.t5.generate(
            input_ids=tokens,
            attention_mask=mask.long(),
            num_beams=beam,
            num_return_sequences=args.k,
            max_new_tokens=backbone.trie.depth,
            length_penalty=0.0,
            prefix_allowed_tokens_fn=allowed,
        )
        done += len(rows)
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
