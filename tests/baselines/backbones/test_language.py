"""The language-model backbone beside what transformers itself computes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from largest import Largest
from safetensors.torch import load_file, save_file
from tiny_lm import TITLES, write_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import histories, random_sequences

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import TrainBatch, Windows
from baselines.lm.config import LanguageModelConfig, LoraSettings
from baselines.lm.loading import load_base
from baselines.models.merging import load_adapter, merge_and_save
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.catalog import Catalog
from semid.decoding import beam_search, rank_items
from semid.provenance import Provenance, ProvenanceError
from tca.candidates import candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

SIZES = (3, 3, 2)
CATALOG = Catalog(item_ids=list(range(12)), fields=pl.DataFrame({"title": TITLES}))


def backbone(model: Path, codes: Tensor, *, seed: int = 0, **options: Any) -> LanguageBackbone:
    options = {"template": "had {history}; next ", "max_history": 4, **options}
    config = LanguageModelConfig(model=str(model), **options)
    return LanguageBackbone(config, BuildContext(codes, SIZES, seed, CATALOG))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


def some_batch() -> TrainBatch:
    windows = Windows.per_target(random_sequences(12, 4, longest=6), 4)
    return windows.batch(np.arange(len(windows)))


def loss_of(
    made: LanguageBackbone, objective: ObjectiveConfig, batch: TrainBatch, *, dense: bool = False
) -> Tensor:
    """The loss as training computes it; ``dense`` from logits of the whole vocabulary."""
    loss, trie, items = Objective(objective), made.trie, batch.target_items
    at = loss.positions(trie, items, pad_to=made.pad_positions_to)
    p = None
    if loss.needs_teacher:
        scores = torch.randn(len(items), 12, generator=torch.Generator().manual_seed(5))
        p = CollaborativeTokenizer(trie)(3 * scores, items)[at.target, at.pos]
    given = made.token_logits(made.answer_states(batch, at)) if dense else made(batch, at)
    output: ObjectiveOutput = loss(given, candidates(trie, items, at), p)
    return output.loss


def plain_texts(batch: TrainBatch) -> list[tuple[list[str], str]]:
    """History and target of each row, in words."""
    rows = zip(batch.windows.items, batch.windows.mask, strict=True)
    found = [[TITLES[item] for item in items[mask].tolist()] for items, mask in rows]
    return [(words[:-1], words[-1]) for words in found]


def written_out(tokenizer: Any, past: list[str], title: str) -> tuple[list[int], list[int]]:
    """Prompt and answer as a person would put them together."""

    def tokens(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    prompt = tokens("had ")
    for number, word in enumerate(past):
        prompt += [*(tokens(", ") if number else []), *tokens('"'), *tokens(word), *tokens('"')]
    return prompt + tokens("; next "), [*tokens(title), tokenizer.eos_token_id]


def test_plain_training_has_the_loss_of_transformers_labels(
    llama: Path, tiny_codes: Tensor
) -> None:
    made, batch = backbone(llama, tiny_codes), some_batch()
    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    total, count = 0.0, 0
    for past, title in plain_texts(batch):
        prompt, answer = written_out(tokenizer, past, title)
        labels = torch.tensor([[-100] * len(prompt) + answer])
        loss = model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss
        total, count = total + loss.item() * len(answer), count + len(answer)
    ours = loss_of(made, ObjectiveConfig(masked=False), batch)
    torch.testing.assert_close(ours.item(), total / count, rtol=1e-4, atol=0)


def test_msl_is_the_softmax_over_the_children_written_slowly(
    llama: Path, tiny_codes: Tensor
) -> None:
    made, batch = backbone(llama, tiny_codes), some_batch()
    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    ends = [written_out(tokenizer, [], title)[1] for title in TITLES]
    losses = []
    for past, title in plain_texts(batch):
        prompt, answer = written_out(tokenizer, past, title)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
        for pos, token in enumerate(answer):
            legal = sorted({end[pos] for end in ends if end[:pos] == answer[:pos] and end[pos:]})
            log_p = (logits[len(prompt) - 1 + pos, legal] / 4.5).log_softmax(0)
            losses.append(-log_p[legal.index(token)])
    ours = loss_of(made, ObjectiveConfig(name="msl", tau=4.5), batch)
    torch.testing.assert_close(ours, torch.stack(losses).mean(), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_end_token_decides_between_a_title_and_one_that_begins_with_it(
    llama: Path, tiny_codes: Tensor
) -> None:
    made = backbone(llama, tiny_codes).eval()
    found = beam_search(made.start(histories([3, 4], [7])), made.trie, beam=12)
    ranked = rank_items(found, made.trie, k=12)
    for row in ranked.items:
        assert set(row.tolist()) == set(range(12)), "each title once, also the shorter ones"
    assert made.paths[0][-1] == -1
    assert int(made.paths[0][made.paths[0] >= 0][-1]) == made.tokenizer.eos_token_id


@torch.no_grad()
def test_beams_are_those_of_generate_with_a_function_of_allowed_tokens(
    llama: Path, tiny_codes: Tensor
) -> None:
    made, past = backbone(llama, tiny_codes).eval(), histories([3, 4, 0], [7], [1, 9])
    tokens, mask = made.prompts(past)
    assert not mask.all(), "prompts are padded on the left"
    ends = [path[path >= 0].tolist() for path in made.paths]
    end, width = made.tokenizer.eos_token_id, tokens.shape[1]

    def allowed(_: int, read: Tensor) -> list[int]:
        own = read[width:].tolist()
        return [
            path[len(own)] for path in ends if path[: len(own)] == own and path[len(own) :]
        ] or [end]

    written = made.base.generate(
        input_ids=tokens,
        attention_mask=mask.long(),
        prefix_allowed_tokens_fn=allowed,
        num_beams=5,
        num_return_sequences=5,
        max_new_tokens=made.trie.depth,
        length_penalty=0.0,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )
    theirs = [row[: row.index(end) + 1] for row in written[:, width:].tolist()]
    found = beam_search(made.start(past), made.trie, beam=5, renormalize="none")
    ours = rank_items(found, made.trie, k=5).items.flatten().tolist()
    assert [ends[item] for item in ours] == theirs


OBJECTIVES = [
    ObjectiveConfig(name="soft_ntp", alpha=0.1, tau=4.5),
    ObjectiveConfig(name="soft_ntp", alpha=0.1, masked=False),
    ObjectiveConfig(name="msl", tau="adaptive", mean="branching"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["masked", "vocabulary", "adaptive"])
@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
@pytest.mark.parametrize("items", ["titles", "codes"])
def test_what_is_trained_has_the_loss_and_the_gradients_of_all_logits_made(
    tmp_path: Path,
    tiny_codes: Tensor,
    items: str,
    tied: bool,
    precision: str,
    objective: ObjectiveConfig,
) -> None:
    model = write_model(tmp_path / "base", TITLES, tied=tied, spare=30)
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    made = backbone(model, tiny_codes, items=items, dtype=dtype).eval()
    for name, value in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(value, 0.1)
    found = []
    for dense in (True, False):
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            loss = loss_of(made, objective, some_batch(), dense=dense)
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(p.grad is None for p in made.parameters() if not p.requires_grad)
        gradients = {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}
        assert ("added.rows" in gradients) == (items == "codes")
        assert ("added.output_rows" in gradients) == (items == "codes" and not tied)
        found.append((loss.detach(), gradients))
    (theirs, expected), (ours, gradients) = found
    exact = precision == "float32"
    torch.testing.assert_close(ours, theirs, rtol=1e-5 if exact else 0.01, atol=1e-6)
    assert gradients.keys() == expected.keys()
    for name, value in gradients.items():
        if exact:
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4, msg=name)
        else:
            sides = value.flatten(), expected[name].flatten()
            assert torch.cosine_similarity(*sides, dim=0) > 0.99, name


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("items", ["titles", "codes"])
def test_nothing_beside_the_base_is_as_large_as_its_matrix(
    tmp_path: Path, tiny_codes: Tensor, monkeypatch: pytest.MonkeyPatch, items: str, masked: bool
) -> None:
    monkeypatch.setattr("tca.projection._LOGITS_AT_ONCE", 20_000)
    made = backbone(write_model(tmp_path / "base", TITLES, spare=6_000), tiny_codes, items=items)
    matrix = made.base.get_output_embeddings().weight.numel()
    batch, objective = some_batch(), ObjectiveConfig(name="soft_ntp", alpha=0.5, masked=masked)
    with Largest() as largest:
        loss_of(made, objective, batch).backward()
    assert 0 < largest.elements < matrix / 3
    with Largest() as largest:
        loss_of(made, objective, batch, dense=True).backward()
    assert largest.elements > matrix


def test_checkpointed_gradients_are_the_same(llama: Path, tiny_codes: Tensor) -> None:
    gradients = []
    for checkpointing in (False, True):
        made = backbone(
            llama,
            tiny_codes,
            gradient_checkpointing=checkpointing,
            lora=LoraSettings(dropout=0.0),
        ).train()
        for name, value in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(value, 0.1)
        loss_of(made, ObjectiveConfig(), some_batch()).backward()
        gradients.append({n: p.grad for n, p in made.named_parameters() if p.requires_grad})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, msg=name)


def test_prompts_that_lose_items_are_counted_and_said(
    llama: Path, tiny_codes: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    made = backbone(llama, tiny_codes)
    windows = made.windows(random_sequences(12, 20))
    assert not caplog.messages
    texts = plain_texts(windows.batch(np.arange(len(windows))))
    needed = [len(written_out(made.tokenizer, *text)[0]) + made.trie.depth for text in texts]
    most = sorted(needed)[-4]
    count = sum(length > most for length in needed)
    assert 0 < count <= 3
    backbone(llama, tiny_codes, max_length=most).windows(windows.data)
    assert caplog.messages == [
        f"{count} of {len(windows)} prompts are too long and lose their oldest items"
    ]


def learn(made: LanguageBackbone, folder: Path, lineage: Provenance) -> None:
    windows = made.windows(random_sequences(12, 9))
    train(
        made,
        config=TrainingConfig(epochs=2, lr=0.02, batch_events=60),
        seed=0,
        task=TrainingTask(
            windows=windows,
            loss=lambda batch: ObjectiveOutput(
                loss=loss_of(made, ObjectiveConfig(masked=False), batch),
                parts={},
                count=torch.tensor(1),
            ),
            validate=lambda: 1.0,
        ),
        folder=folder,
        lineage=lineage,
        title="test",
    )


@pytest.mark.parametrize(
    ("kind", "tied", "spare"),
    [("llama", False, 0), ("llama", True, 40), ("qwen2", True, 5), ("gemma", True, 0)],
)
@pytest.mark.parametrize("items", ["titles", "codes"])
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_and_added_tokens_load_back_and_merge_into_an_ordinary_folder(
    tmp_path: Path,
    tiny_codes: Tensor,
    kind: str,
    tied: bool,
    spare: int,
    items: str,
    dora: bool,
) -> None:
    model = write_model(tmp_path / "base", TITLES, kind=kind, tied=tied, spare=spare)
    options: dict[str, Any] = {"items": items, "lora": LoraSettings(r=2, dora=dora)}
    made = backbone(model, tiny_codes, **options)
    base = {n: p.detach().clone() for n, p in made.named_parameters() if not p.requires_grad}
    assert any("embed_tokens" in name for name in base)
    lineage = Provenance(kind="generator", content="", inputs=made.input_hashes)
    learn(made, tmp_path / "trained", lineage)
    for name, value in made.named_parameters():
        if name in base:
            assert torch.equal(value, base[name]), f"{name} of the base has moved"
    kept = load_file(tmp_path / "trained" / "model.safetensors")
    assert sum(value.numel() for value in kept.values()) < sum(v.numel() for v in base.values())
    if items == "codes":
        rows = {name for name in kept if name.startswith("added.")}
        assert rows == ({"added.rows"} if tied else {"added.rows", "added.output_rows"})

    again = backbone(model, tiny_codes, seed=7, **options)
    load_adapter(tmp_path / "trained", again)
    past = histories([3, 1, 4], [9])
    with torch.no_grad():
        expected = made.start(past).logits()
        assert torch.equal(again.start(past).logits(), expected)

    merge_and_save(made, tmp_path / "merged")
    with torch.no_grad():
        assert torch.equal(made.start(past).logits(), expected), "the backbone is left as it was"
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    tokens, mask = made.prompts(past)
    assert (tokens[mask] < len(tokenizer)).all()
    if items == "codes":
        assert tokenizer("<a_0><c_1>")["input_ids"] == [made.paths[0, 0], made.paths[1, 2]]
    with torch.no_grad():
        logits = plain(input_ids=tokens, attention_mask=mask.long()).logits[:, -1]
    torch.testing.assert_close(logits, expected[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_a_base_in_bfloat16_learns_through_adapters_in_float32(
    llama: Path, tiny_codes: Tensor, tmp_path: Path, items: str
) -> None:
    made = backbone(llama, tiny_codes, dtype="bfloat16", items=items)
    kinds = {parameter.requires_grad: parameter.dtype for parameter in made.parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}
    full = backbone(llama, tiny_codes, items=items)
    batch = some_batch()
    losses = [loss_of(each.eval(), ObjectiveConfig(), batch) for each in (made, full)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0.03, atol=0.03)
    learn(made, tmp_path / "trained", Provenance(kind="g", content="", inputs=made.input_hashes))
    with torch.no_grad():
        found = beam_search(made.start(histories([3, 4], [7])), made.trie, beam=12)
    assert set(rank_items(found, made.trie, k=12).items[0].tolist()) == set(range(12))


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


def test_a_killed_training_ends_like_an_undisturbed_one(
    llama: Path, tiny_codes: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = Provenance(kind="g", content="")
    learn(backbone(llama, tiny_codes), tmp_path / "undisturbed", lineage)
    forward, calls = LanguageBackbone.forward, iter(range(1000))
    made = backbone(llama, tiny_codes)
    steps = made.windows(random_sequences(12, 9)).num_batches(60)

    def killed(self: LanguageBackbone, *args: Any) -> Tensor:
        if next(calls) == steps + 1:
            raise Killed
        return forward(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageBackbone, "forward", killed)
        with pytest.raises(Killed):
            learn(made, tmp_path / "killed", lineage)
    torch.rand(7)  # what else happened in the process is of no consequence
    learn(backbone(llama, tiny_codes, seed=3), tmp_path / "killed", lineage)
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("undisturbed", "killed")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(value, files[1][name]) for name, value in files[0].items())


def test_adapters_go_where_the_settings_say(llama: Path, tiny_codes: Tensor) -> None:
    def adapted(target: str) -> set[str]:
        made = backbone(llama, tiny_codes, lora=LoraSettings(target=target))
        names = [name for name, value in made.named_parameters() if value.requires_grad]
        return {name.split(".lora_")[0].rpartition(".")[2] for name in names}

    assert adapted("q_proj, v_proj") == {"q_proj", "v_proj"}
    linear = {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    assert adapted("all-linear") == linear
    with pytest.raises(ValueError, match="between embedding and output matrix"):
        adapted("q_proj,embed_tokens")
    with pytest.raises(ValueError, match="c_attn"):
        adapted("c_attn")


def test_a_window_of_some_layers_is_the_context_and_capped_logits_are_projected(
    tmp_path: Path, tiny_codes: Tensor
) -> None:
    model = write_model(tmp_path / "gemma2", TITLES, kind="gemma2", tied=True)
    config = LanguageModelConfig(model=str(model))
    assert load_base(config).context == 64, "its sliding window"
    made = backbone(model, tiny_codes).eval()
    past, batch = histories([3, 1, 4], [9]), some_batch()
    at = Objective(ObjectiveConfig()).positions(made.trie, batch.target_items)
    assert isinstance(made(batch, at), Tensor)
    tokens, mask = made.prompts(past)
    assert tokens.shape[1] + made.trie.depth <= 64
    plain: Any = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.no_grad():
        logits = plain(input_ids=tokens, attention_mask=mask.long()).logits[:, -1:]
        torch.testing.assert_close(made.start(past).logits(), logits, atol=1e-5, rtol=1e-4)
        assert float(logits.abs().max()) <= 3, "its cap"
        first, second = made.paths[0, :2].tolist()
        longer = made.start(past).extend(torch.zeros(2, 1).long(), torch.tensor([[first]] * 2))
        further = torch.cat([tokens, torch.tensor([[first]] * 2)], dim=1)
        seen = torch.cat([mask, torch.ones(2, 1, dtype=torch.bool)], dim=1)
        logits = plain(input_ids=further, attention_mask=seen.long()).logits[:, -1:, second]
    torch.testing.assert_close(
        longer.logits(torch.tensor([second]))[..., 0], logits, atol=1e-5, rtol=1e-4
    )


def test_adapters_of_another_base_or_of_other_titles_are_refused(
    tmp_path: Path, llama: Path, tiny_codes: Tensor
) -> None:
    made = backbone(llama, tiny_codes)
    learn(made, tmp_path / "trained", Provenance(kind="g", content="", inputs=made.input_hashes))
    other = write_model(tmp_path / "other", TITLES, seed=1)
    with pytest.raises(ProvenanceError, match="the base of the adapters"):
        load_adapter(tmp_path / "trained", backbone(other, tiny_codes))
    with pytest.raises(ProvenanceError, match="the prompts of the adapters"):
        load_adapter(tmp_path / "trained", backbone(llama, tiny_codes, separator=" and "))


@pytest.mark.parametrize("lora", [{"r": 4}, {"r": 0}, {"alpha": 3}, {"target": "all-linear"}])
def test_adapters_of_another_kind_are_refused(
    tmp_path: Path, llama: Path, tiny_codes: Tensor, lora: dict[str, Any]
) -> None:
    made = backbone(llama, tiny_codes)
    config = {"shape": dataclasses.asdict(made.config)}
    lineage = Provenance(kind="g", content="", inputs=made.input_hashes, config=config)
    learn(made, tmp_path, lineage)
    load_adapter(tmp_path, backbone(llama, tiny_codes))
    with pytest.raises(ProvenanceError, match=r"lora of the adapters .* trained with .*'r': 8"):
        load_adapter(tmp_path, backbone(llama, tiny_codes, lora=LoraSettings(**lora)))


def test_a_base_in_bfloat16_that_is_trained_itself_is_trained_in_float32(
    llama: Path, tiny_codes: Tensor
) -> None:
    made = backbone(llama, tiny_codes, dtype="bfloat16", lora=LoraSettings(r=0))
    assert {weight.dtype for weight in made.parameters()} == {torch.float32}
    frozen = backbone(llama, tiny_codes, dtype="bfloat16")
    assert made.input_hashes == frozen.input_hashes


def test_the_hash_of_a_base_is_of_its_weights_and_settings_not_of_its_place(tmp_path: Path) -> None:
    def content(folder: Path) -> str:
        return load_base(LanguageModelConfig(model=str(folder))).content

    first = write_model(tmp_path / "a", TITLES)
    second = write_model(tmp_path / "b", TITLES)
    assert content(first) == content(second)
    weights = load_file(second / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1e-3
    save_file(weights, second / "model.safetensors", metadata={"format": "pt"})
    assert content(first) != content(second)
    settings = json.loads((first / "config.json").read_text())
    third = write_model(tmp_path / "c", TITLES)
    (third / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 1e-3}))
    assert content(first) != content(third)
