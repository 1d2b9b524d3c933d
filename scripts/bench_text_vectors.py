"""Whether alike texts are bought together: bench_text_vectors.py --data FOLDER --embeddings lsa.

For each source of item vectors, the share of adjacent pairs of the training sequences whose second
item is among the first's nearest others by cosine (ties to the lower row), and the seconds that
making the vectors took. ``tfidf`` is the content teacher's; others are as for ``--ids.embeddings``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import prepare, write_figures
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from baselines.data.content_texts import content_texts, tfidf
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset
from baselines.data.sequences import SequenceSet
from baselines.evaluation.ranking import stable_topk
from baselines.teachers.counting_config import TFIDF
from semid.embed import embeddings_from

_ROWS = 1024  # items compared with all others at once


def adjacent_pairs(sequences: SequenceSet) -> NDArray[np.int64]:
    """Each item beside the one after it in its sequence; ``(pair, 2)``, as often as it occurs."""
    follows = np.ones(len(sequences.items), dtype=bool)
    follows[sequences.offsets[:-1][sequences.lengths > 0]] = False
    second = np.flatnonzero(follows)
    return np.stack([sequences.items[second - 1], sequences.items[second]], axis=1)


def neighbours(vectors: Any, k: int) -> NDArray[np.int64]:
    """The ``k`` nearest others of each row of a dense or sparse matrix; ``(item, k)``."""
    unit, found = normalize(vectors), []
    for first in range(0, unit.shape[0], _ROWS):
        product = unit[first : first + _ROWS] @ unit.T
        cosines = product if isinstance(product, np.ndarray) else product.toarray()
        rows = np.arange(len(cosines))
        cosines[rows, rows + first] = -np.inf
        found.append(stable_topk(torch.from_numpy(cosines).float(), k).numpy())
    return np.concatenate(found)


def vectors_of(source: str, dataset: Dataset, template: str | None) -> Any:
    """Item vectors of a source, ``(item, dim)``; sparse for TF-IDF."""
    if source == TFIDF:
        return tfidf(content_texts(dataset.catalog, template))
    return embeddings_from(source, dataset.catalog, template=template).vectors


def main(argv: list[str] | None = None) -> int:
    """Run the comparison, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of items and interactions")
    parser.add_argument("--embeddings", nargs="+", default=[TFIDF, "lsa"])
    parser.add_argument("--template", help="text of an item; by default all its text fields")
    parser.add_argument("--nearest", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    prepare(args)
    dataset = load_dataset(args.data)
    first, second = adjacent_pairs(dataset.splits.train).T
    print(f"{len(first):,} adjacent pairs of {len(dataset.catalog):,} items")
    figures = {}
    for source in args.embeddings:
        started = time.perf_counter()
        vectors = vectors_of(source, dataset, args.template)
        seconds = time.perf_counter() - started
        near = neighbours(vectors, args.nearest)[first]
        share = float((near == second[:, None]).any(axis=1).mean())
        figures[source] = {"dim": vectors.shape[1], "share": share, "seconds": seconds}
        print(
            f"{source:12} {vectors.shape[1]:7} dimensions {share:.4f} {seconds:6.1f} s", flush=True
        )
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
