"""Encoding and fitting of RQ-KMeans at scale: bench_encode.py --items 1000000 --dim 128 --levels 3.

Encoding takes turns with ``faiss.ResidualQuantizer`` on the same codebooks at the same beam, and
with the matrix products that it cannot do without: every kept prefix's residual with the codebook
of the next level, in the same chunks. At beam 1 these are ``vectors @ codebook.T`` once for each
level. On a machine that others use too, take ``--threads 1 --processor``. Fitting is measured in a
process of its own by what it takes beyond the memory in use before the data is there: the mark of
resident memory at its highest (Linux only), data included.
"""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from measuring import add_catalogue, interleaved, ratios, write_figures
from torch import Tensor

from semid.tokenizers import RQKMeans
from semid.tokenizers.kmeans import CHUNK
from semid.tokenizers.residual import reconstruct, residual_codes, residual_kmeans

_STATUS = Path("/proc/self/status")


def resident(mark: str) -> float:
    """Megabytes of resident memory, now (``VmRSS``) or at most so far (``VmHWM``)."""
    if not _STATUS.exists():
        return float("nan")
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(mark))
    return int(line.split()[1]) / 1e3


def random_vectors(args: argparse.Namespace, items: int) -> Tensor:
    """Vectors of some clusters and a lot around them, float32 ``(item, dim)``."""
    gen = torch.Generator().manual_seed(args.seed)
    centers = torch.randn(1000, args.dim, generator=gen)
    vectors = torch.empty(items, args.dim)
    for part in vectors.split(1 << 14):
        part.normal_(generator=gen)
        part += centers[torch.randint(len(centers), (len(part),), generator=gen)]
    return vectors


def fit_alone(args: argparse.Namespace) -> dict[str, float]:
    """Fit in this process, which did nothing before; seconds and megabytes."""
    torch.set_num_threads(args.threads)
    small = random_vectors(args, 4 * args.codebook)
    tokenizer = RQKMeans(
        codebook_sizes=(args.codebook,) * args.levels, iterations=args.iterations, seed=args.seed
    )
    tokenizer.fit(small)  # loads the libraries
    before = resident("VmRSS")
    vectors = random_vectors(args, args.items)
    start = time.perf_counter()
    tokenizer.fit(vectors)
    seconds = time.perf_counter() - start
    data = vectors.nbytes / 1e6
    peak = resident("VmHWM") - before
    return {"seconds": seconds, "data_MB": data, "peak_MB": peak, "over_the_data": peak / data}


def faiss_quantizer(codebooks: list[Tensor], beam: int, threads: int) -> object:
    """``faiss.ResidualQuantizer`` with our codebooks, which all have ``2^bits`` codes."""
    import faiss

    faiss.omp_set_num_threads(threads)
    size, dim = codebooks[0].shape
    quantizer = faiss.ResidualQuantizer(dim, len(codebooks), size.bit_length() - 1)
    quantizer.train_type = faiss.ResidualQuantizer.Skip_codebook_tables
    faiss.copy_array_to_vector(torch.cat(codebooks).numpy().ravel(), quantizer.codebooks)
    quantizer.is_trained = True
    quantizer.max_beam_size = beam
    return quantizer


def unpacked(packed: np.ndarray, size: int, levels: int) -> Tensor:
    """Codes int64 ``(item, level)`` out of faiss's bits, lowest first."""
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : levels * (size.bit_length() - 1)]
    places = 1 << np.arange(size.bit_length() - 1)
    return torch.from_numpy(bits.reshape(len(packed), levels, -1).astype(np.int64) @ places)


def products(vectors: Tensor, codebooks: list[Tensor], beam: int) -> None:
    """The matrix products of an encoding, and nothing else."""
    width = 1
    for codebook in codebooks:
        for part in vectors.split(CHUNK):
            for _ in range(width):
                part @ codebook.T
        width = min(beam, width * len(codebook))


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.set_defaults(items=1_000_000, levels=3)
    parser.add_argument("--dim", type=int, default=128, help="width of the vectors")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--iterations", type=int, default=10, help="of k-means")
    parser.add_argument("--sample", type=int, default=50_000, help="items that faiss encodes")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--processor", action="store_true", help="time of the processor, not wall")
    args = parser.parse_args(argv)
    if args.codebook & (args.codebook - 1):
        parser.error(f"--codebook must be a power of two for faiss, got {args.codebook}")

    with get_context("spawn").Pool(1) as alone:
        fit = alone.apply(fit_alone, (args,))
    print(
        f"fit {args.items} x {args.dim}, {args.levels} x {args.codebook}, {args.iterations} "
        f"iterations: {fit['seconds']:.1f} s, {fit['data_MB']:.0f} MB of data, at most "
        f"{fit['peak_MB']:.0f} MB with it, {fit['over_the_data']:.2f} times the data"
    )

    torch.set_num_threads(args.threads)
    vectors = random_vectors(args, args.items)
    vectors -= vectors[: args.sample].mean(dim=0)
    sample = vectors[: args.sample]
    codebooks = residual_kmeans(
        sample, (args.codebook,) * args.levels, iterations=args.iterations, seed=args.seed
    )
    beams = {}
    clock = time.process_time if args.processor else time.perf_counter
    print(f"encoding; ratios on {len(sample)} items, {args.threads} threads")
    names = ("seconds for all", "faiss over ours", "ours over products", "same codes")
    print(f"{'beam':<6}" + "".join(f"{name:>26}" for name in (*names, "our error over faiss's")))
    for beam in args.beams:
        quantizer = faiss_quantizer(codebooks, beam, args.threads)
        times, found = interleaved(
            {
                "ours": lambda beam=beam: residual_codes(sample, codebooks, beam=beam),
                "faiss": lambda q=quantizer: q.compute_codes(sample.numpy()),
                "products": lambda beam=beam: products(sample, codebooks, beam),
            },
            args.rounds,
            clock,
        )
        theirs = unpacked(found["faiss"], args.codebook, args.levels)
        errors = [
            float((sample - reconstruct(codes, codebooks)).square().sum())
            for codes in (found["ours"], theirs)
        ]
        over = ratios(times, "ours")
        start = clock()
        residual_codes(vectors, codebooks, beam=beam)
        figures = {
            "seconds_for_all": clock() - start,
            "faiss_over_ours": over["faiss"],
            "ours_over_products": ratios(times, "products")["ours"],
            "same_codes": float((found["ours"] == theirs).all(dim=1).float().mean()),
            "error_over_that_of_faiss": errors[0] / errors[1],
        }
        beams[str(beam)] = figures
        print(f"{beam:<6}" + "".join(f"{value:>26.4f}" for value in figures.values()))
    sizes = {"items": args.items, "dim": args.dim, "levels": args.levels, "codes": args.codebook}
    write_figures(args, {**sizes, "sample": args.sample, "fit": fit, "beams": beams})
    return 0


if __name__ == "__main__":
    sys.exit(main())
