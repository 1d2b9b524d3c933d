"""What alignment costs where items are titles: bench_titles.py --vocab 128256 --titles 10000.

Random titles of tokens with Zipf's frequencies, each closed by an end token, as paths of a ragged
trie. First the output layer alone, from states of the targets' own positions: plain next-token
prediction, which makes all logits, beside objectives that take a ``Projection``, over the
vocabulary and under the mask, or all logits too. Then training steps of ``LanguageBackbone`` on a
small Llama that reads histories of ten items, written as titles or as codes: the loss of
``transformers`` (``labels=``), which projects every position on the vocabulary, beside the same
objectives. The teacher's mass is computed in the step, from its scores of all items. All figures
come from one run on one machine; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from measuring import interleaved, peak_memory, prepare, ratios, write_figures
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import TrainBatch
from baselines.data.sequences import SequenceSet
from baselines.lm.config import LanguageModelConfig, LoraSettings
from baselines.lm.prompts import positions
from semid.catalog import Catalog
from semid.trie import CodeTrie
from tca.candidates import Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput
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


def random_titles(args: argparse.Namespace, gen: torch.Generator) -> list[Tensor]:
    """Tokens of each title, without the end token."""
    rank = torch.arange(1, args.vocab, dtype=torch.float64)  # token 0 ends a title
    lengths = torch.poisson(torch.full((args.titles,), args.length - 1.0), generator=gen) + 1
    tokens = 1 + torch.multinomial(1 / rank, int(lengths.sum()), True, generator=gen)
    return list(torch.split(tokens, lengths.int().tolist()))


class Batch:
    """Targets with a teacher's scores, and what an objective needs to know of them."""

    def __init__(self, trie: CodeTrie, items: Tensor, gen: torch.Generator) -> None:
        self.trie, self.items = trie, items
        self.tokenizer = CollaborativeTokenizer(trie)
        self.scores = 3 * torch.randn(len(items), trie.num_items, generator=gen)

    def loss(
        self, config: ObjectiveConfig, logits_at: Callable[[Positions], Tensor | Projection]
    ) -> Tensor:
        """The loss of an objective, from what a model says at the positions that it asks for."""
        objective, trie = Objective(config), self.trie
        at = objective.positions(trie, self.items, pad_to=1)
        found = candidates(trie, self.items, at)
        p = None
        if objective.needs_teacher:
            p = self.tokenizer(self.scores, self.items)[at.target, at.pos]
        output: ObjectiveOutput = objective(logits_at(at), found, p)
        return output.loss


def measure(
    ways: Mapping[str, Callable[[], Any]], base: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Times and memory of all ways, and the ratios to ``base``."""
    clock = time.process_time if args.processor else time.perf_counter
    times, _ = interleaved(ways, args.rounds, clock)
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


def output_layer(
    titles: list[Tensor], args: argparse.Namespace, gen: torch.Generator
) -> dict[str, Any]:
    """The output layer alone, forward and backward."""
    rows = [torch.cat([title, torch.tensor([_END])]) for title in titles]
    paths = pad_sequence(rows, batch_first=True, padding_value=-1)
    trie = CodeTrie.from_paths(paths, args.vocab)
    items = torch.randint(len(titles), (args.targets,), generator=gen)
    batch, depth = Batch(trie, items, gen), trie.depth
    print(
        f"{args.titles} titles, {args.vocab} tokens, {depth} the longest, at most "
        f"{trie.max_children} may follow, {args.dim} wide, {args.threads} threads"
    )
    weight = torch.randn(args.vocab, args.dim, generator=gen).mul_(0.02)
    weight.requires_grad_(not args.frozen)
    states = torch.randn(args.targets, depth, args.dim, generator=gen).requires_grad_()
    target = paths[items]

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
    return measure(ways, _PLAIN, args)


def language_backbone(
    titles: list[Tensor], items: str, args: argparse.Namespace, gen: torch.Generator
) -> LanguageBackbone:
    """A small Llama with random weights, whose words are the numbers of its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"</s>": _END, **{str(token): token for token in range(1, args.vocab)}}
    raw = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    shape = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.dim,
        intermediate_size=3 * args.dim,
        num_hidden_layers=args.layers,
        num_attention_heads=args.dim // 64 or 1,
        num_key_value_heads=args.dim // 64 or 1,
        tie_word_embeddings=True,
    )
    texts = [" ".join(map(str, title.tolist())) for title in titles]
    catalog = Catalog(item_ids=list(range(len(texts))), fields=pl.DataFrame({"title": texts}))
    codes = torch.randint(args.codebook, (len(texts), args.levels), generator=gen)
    sizes = (args.codebook,) * args.levels
    with torch.random.fork_rng(), TemporaryDirectory() as folder:
        torch.manual_seed(args.seed)
        LlamaForCausalLM(shape).save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>").save_pretrained(folder)
        config = LanguageModelConfig(
            model=folder,
            items=items,  # type: ignore[arg-type]
            template="{history} 1",
            item="{item}",
            separator=" ",
            max_history=args.history,
            lora=LoraSettings(r=args.rank),
        )
        return LanguageBackbone(config, BuildContext(codes, sizes, args.seed, catalog))


def labelled_loss(model: LanguageBackbone, batch: TrainBatch) -> Tensor:
    """Plain next-token training, the loss on the answer: as ``transformers`` does it."""
    prompt, mask = model.prompts(batch.windows.without_last())
    answer = model.paths[batch.target_items]
    tokens = torch.cat([prompt, answer.clamp_min(0)], dim=1)
    mask = torch.cat([mask, answer >= 0], dim=1)
    labels = torch.cat([torch.full_like(prompt, _IGNORED), answer], dim=1)
    labels = labels.masked_fill(labels < 0, _IGNORED)
    if model.added is None:
        given = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions(mask)}
        loss: Tensor = model.lm(**given, use_cache=False, labels=labels).loss
        return loss
    logits = model.token_logits(model.read(tokens, mask, positions(mask)))  # it knows no codes
    return model.base.loss_function(  # type: ignore[no-any-return]
        logits=logits, labels=labels, vocab_size=logits.shape[-1]
    )


def whole_model(
    titles: list[Tensor], items: str, args: argparse.Namespace, gen: torch.Generator
) -> dict[str, Any]:
    """Whole training steps of the backbone."""
    model = language_backbone(titles, items, args, gen).train()
    length = args.history + 1
    data = SequenceSet(
        items=torch.randint(len(titles), (args.batch * length,), generator=gen).numpy(),
        offsets=np.arange(args.batch + 1) * length,
        first_target=np.full(args.batch, args.history),
        users=np.arange(args.batch),
    )
    windows = model.windows(data)
    batch = windows.batch(np.arange(len(windows)))
    scored = Batch(model.trie, batch.target_items, gen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def learn(loss: Tensor) -> float:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def states_at(at: Positions) -> Tensor | Projection:
        logits: Tensor | Projection = model(batch, at)
        return logits

    ways = {_LABELS: lambda: learn(labelled_loss(model, batch))}
    for name, config in _OBJECTIVES.items():
        ways[name] = lambda c=config: learn(scored.loss(c, states_at))
    figures = measure(ways, _LABELS, args)
    prompt, _ = model.prompts(batch.windows.without_last())
    print(
        f"a Llama of {args.layers} layers that writes {items}, rank {args.rank}, "
        f"{len(windows)} histories, {prompt.shape[1] + model.trie.depth} tokens"
    )
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
    parser.add_argument(
        "--items", nargs="+", default=["titles", "codes"], help="what the Llama writes"
    )
    parser.add_argument("--rank", type=int, default=8, help="of its adapters; 0 trains all weights")
    parser.add_argument("--codebook", type=int, default=256, help="codes a level")
    parser.add_argument("--levels", type=int, default=4, help="of the codes")
    parser.add_argument("--batch", type=int, default=4, help="histories of a training step")
    parser.add_argument("--history", type=int, default=10, help="titles of a history")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each way")
    parser.add_argument("--processor", action="store_true", help="time of the processor, not wall")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    gen = prepare(args)
    titles = random_titles(args, gen)
    figures = {"output_layer": output_layer(titles, args, gen)}
    print(f"the output layer, {args.targets} targets")
    show(figures["output_layer"])
    for items in args.items:
        figures[items] = whole_model(titles, items, args, gen)
        show(figures[items])
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
