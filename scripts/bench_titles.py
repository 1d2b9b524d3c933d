"""What alignment costs where items are titles: bench_titles.py --vocab 128256 --titles 10000.

Random titles of tokens with Zipf's frequencies, each closed by an end token, as paths of a ragged
trie. First the output layer alone, from states of the targets' own positions: plain next-token
prediction, which makes all logits, beside objectives that take a ``Projection``, over the
vocabulary and under the mask, or all logits too. Then training steps of a small Llama that reads
histories of ten titles: the loss of ``transformers`` (``labels=``), which projects every position
on the vocabulary, beside the same objectives. The teacher's mass is computed in the step, from its
scores of all items. All figures come from one run on one machine; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from measuring import interleaved, peak_memory, prepare, ratios, write_figures
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from semid.trie import CodeTrie
from tca.candidates import Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.objective import Objective, ObjectiveConfig, ObjectiveOutput
from tca.projection import Projection

_END, _IGNORED = 0, -100
_PLAIN, _LABELS = "plain ntp, all logits made", "labels= of transformers"
_OBJECTIVES = {
    "ntp over the vocabulary": ObjectiveConfig(masked=False),
    "soft_ntp over the vocabulary": ObjectiveConfig(name="soft_ntp", alpha=0.1, masked=False),
    "soft_ce over the vocabulary": ObjectiveConfig(name="soft_ce", alpha=0.5, masked=False),
    "msl": ObjectiveConfig(name="msl", tau=4.5),
    "soft_ntp, masked": ObjectiveConfig(name="soft_ntp", alpha=0.1, tau=4.5),
    "soft_ce, masked": ObjectiveConfig(name="soft_ce", alpha=0.5, tau=4.5),
}


class Titles:
    """Random titles, their trie, and a teacher's scores of them."""

    def __init__(self, args: argparse.Namespace, gen: torch.Generator) -> None:
        rank = torch.arange(1, args.vocab, dtype=torch.float64)  # token 0 ends a title
        lengths = torch.poisson(torch.full((args.titles,), args.length - 1.0), generator=gen) + 1
        tokens = 1 + torch.multinomial(1 / rank, int(lengths.sum()), True, generator=gen)
        end = torch.tensor([_END])
        rows = [torch.cat([row, end]) for row in torch.split(tokens, lengths.int().tolist())]
        self.paths = pad_sequence(rows, batch_first=True, padding_value=-1)
        self.trie = CodeTrie.from_paths(self.paths, args.vocab)
        self.tokenizer = CollaborativeTokenizer(self.trie)

    def tokens(self, item: int) -> Tensor:
        """A title's tokens and its end."""
        path = self.paths[item]
        return path[path >= 0]


class Batch:
    """Targets with a teacher's scores, and what an objective needs to know of them."""

    def __init__(self, titles: Titles, size: int, gen: torch.Generator) -> None:
        self.titles = titles
        self.items = torch.randint(len(titles.paths), (size,), generator=gen)
        self.scores = 3 * torch.randn(size, len(titles.paths), generator=gen)

    def loss(
        self, config: ObjectiveConfig, logits_at: Callable[[Positions], Tensor | Projection]
    ) -> Tensor:
        """The loss of an objective, from what a model says at the positions that it asks for."""
        objective, trie = Objective(config), self.titles.trie
        at = objective.positions(trie, self.items, together=1)
        found = candidates(trie, self.items, at)
        p = None
        if objective.needs_teacher:
            p = self.titles.tokenizer(self.scores, self.items)[at.target, at.pos]
        output: ObjectiveOutput = objective(logits_at(at), found, p)
        return output.loss


def measure(ways: Mapping[str, Callable[[], Any]], base: str, rounds: int) -> dict[str, Any]:
    """Times and memory of all ways, and the ratios to ``base``."""
    times, _ = interleaved(ways, rounds)
    memory = {name: peak_memory(way) for name, way in ways.items()}
    over = ratios(times, base)
    return {
        name: {
            "milliseconds": median(times[name]),
            "time_over_plain": over[name],
            "megabytes": memory[name] / 1e6,
            "memory_over_plain": memory[name] / memory[base],
        }
        for name in ways
    }


def output_layer(titles: Titles, args: argparse.Namespace, gen: torch.Generator) -> dict[str, Any]:
    """The output layer alone, forward and backward."""
    batch, depth = Batch(titles, args.targets, gen), titles.trie.depth
    weight = torch.randn(args.vocab, args.dim, generator=gen).mul_(0.02)
    weight.requires_grad_(not args.frozen)
    states = torch.randn(args.targets, depth, args.dim, generator=gen).requires_grad_()
    target = titles.paths[batch.items]

    def backward(loss: Tensor) -> float:
        loss.backward()
        weight.grad = states.grad = None
        return float(loss.detach())

    def plain() -> float:
        real = target >= 0
        return backward(F.cross_entropy(F.linear(states[real], weight), target[real]))

    def projected(at: Positions) -> Projection:
        return Projection(states=states[at.target, at.pos], weight=weight)

    def made(at: Positions) -> Tensor:
        return projected(at).logits()

    ways = {_PLAIN: plain}
    for name, config in _OBJECTIVES.items():
        ways[name] = lambda c=config: backward(batch.loss(c, projected))
    for name in ("soft_ntp over the vocabulary", "soft_ntp, masked"):
        ways[f"{name}, logits made"] = lambda c=_OBJECTIVES[name]: backward(batch.loss(c, made))
    return measure(ways, _PLAIN, args.rounds)


def whole_model(titles: Titles, args: argparse.Namespace, gen: torch.Generator) -> dict[str, Any]:
    """Whole training steps of a small Llama on histories of titles."""
    from transformers import LlamaConfig, LlamaForCausalLM

    batch = Batch(titles, args.batch, gen)
    history = torch.randint(len(titles.paths), (args.batch, args.history), generator=gen)
    prompts = [torch.cat([titles.tokens(int(item)) for item in row]) for row in history]
    answers = [titles.tokens(int(item)) for item in batch.items]
    read = list(zip(prompts, answers, strict=True))
    tokens = pad_sequence([torch.cat(pair) for pair in read], batch_first=True)
    labels = pad_sequence(
        [torch.cat([torch.full_like(prompt, _IGNORED), answer]) for prompt, answer in read],
        batch_first=True,
        padding_value=_IGNORED,
    )
    lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in read])
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    last = torch.tensor([len(prompt) - 1 for prompt in prompts])  # of the prompt

    with torch.random.fork_rng():
        torch.manual_seed(args.seed)
        model: Any = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=args.vocab,
                hidden_size=args.dim,
                intermediate_size=3 * args.dim,
                num_hidden_layers=args.layers,
                num_attention_heads=args.dim // 64 or 1,
                num_key_value_heads=args.dim // 64 or 1,
                tie_word_embeddings=True,
            )
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def learn(loss: Tensor) -> float:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def by_labels() -> float:
        return learn(model(input_ids=tokens, attention_mask=mask, labels=labels).loss)

    def projected(at: Positions) -> Projection:
        states = model.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        states = states[at.target, last[at.target] + at.pos]
        return Projection(states=states, weight=model.lm_head.weight)

    ways = {_LABELS: by_labels}
    for name, config in _OBJECTIVES.items():
        ways[name] = lambda c=config: learn(batch.loss(c, projected))
    figures = measure(ways, _LABELS, args.rounds)
    print(f"a Llama of {args.layers} layers, {args.batch} histories, {tokens.shape[1]} tokens")
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print a table."""
    for name, row in figures.items():
        print(
            f"  {name:<42}{row['milliseconds']:>10.1f} ms{row['time_over_plain']:>8.3f} x"
            f"{row['megabytes']:>10.1f} MB{row['memory_over_plain']:>8.3f} x"
        )


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print tables, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=128_256, help="tokens of the model")
    parser.add_argument("--titles", type=int, default=10_000, help="items of the catalogue")
    parser.add_argument("--length", type=float, default=10.0, help="mean tokens of a title")
    parser.add_argument("--dim", type=int, default=256, help="width of the states")
    parser.add_argument("--layers", type=int, default=4, help="of the Llama")
    parser.add_argument("--targets", type=int, default=64, help="targets of the output layer alone")
    parser.add_argument(
        "--frozen", action="store_true", help="no gradient for the output layer's weights, as LoRA"
    )
    parser.add_argument("--batch", type=int, default=4, help="histories of a training step")
    parser.add_argument("--history", type=int, default=10, help="titles of a history")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    gen = prepare(args)
    titles = Titles(args, gen)
    print(
        f"{args.titles} titles, {args.vocab} tokens, {titles.trie.depth} the longest, at most "
        f"{titles.trie.max_children} may follow, {args.dim} wide, {args.threads} threads"
    )
    layer = output_layer(titles, args, gen)
    print(f"the output layer, {args.targets} targets")
    show(layer)
    model = whole_model(titles, args, gen)
    show(model)
    write_figures(
        args,
        {"max_children": titles.trie.max_children, "output_layer": layer, "whole_model": model},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
