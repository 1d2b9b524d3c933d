"""Slots of prompts: which vectors stand there, how large they are, and where they come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from building import build, require_fit
from safetensors.torch import load_file
from tiny_lm import TITLES, write_model
from tiny_recommenders import (
    CATALOG,
    loss_of,
    recommender,
    some_batch,
    some_splits,
    state_of,
    teacher,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import histories

from baselines.evaluation.config import EvaluationConfig
from baselines.lm.config import LanguageModelConfig
from baselines.models.config import BackboneConfigs
from baselines.models.fit import FitSettings, fit_backbone
from baselines.models.merging import load_adapter, merge_and_save
from baselines.recommenders.config import LlaraConfig
from baselines.teachers.bert4rec import BERT4Rec
from baselines.teachers.lightgcn import LightGCN
from baselines.teachers.sasrec import SASRec
from baselines.teachers.simple import Popularity
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance, ProvenanceError
from tca.config import ObjectiveConfig

NAMES = ("llara", "collm", "allmrec")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


def fit(made: Any, folder: Path, *, epochs: int = 1) -> Any:
    return fit_backbone(
        made,
        FitSettings(
            objective=ObjectiveConfig(masked=False),
            training=TrainingConfig(epochs=epochs, lr=0.02, batch_events=60),
            evaluation=EvaluationConfig(validation_beam=12),
            seed=0,
        ),
        None,
        some_splits(),
        folder=folder,
        lineage=Provenance(kind="generator", content="", inputs=made.input_hashes),
        title="test",
    )


def by_hand(made: Any, model: Any, past: list[int], answer: list[int]) -> Tensor:
    """Input vectors of a prompt and an answer as a person would put them together."""
    tokenizer = AutoTokenizer.from_pretrained(made.config.model)
    words = model.get_input_embeddings()
    taught_by = teacher()

    def written(text: str) -> list[Tensor]:
        return [words(torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]))]

    def item_vector(item: int) -> Tensor:
        table = taught_by.item_vectors()
        vector = table[item] / table.square().mean().sqrt()
        if made.label == "A-LLMRec":
            vector = made.of_vectors.encoder(vector).sigmoid()
        projector = made.item_projector if made.label == "A-LLMRec" else made.projector
        return projector(vector).unsqueeze(0)

    def user_vector() -> Tensor:
        alone = torch.stack([state_of([item], taught_by) for item in range(12)])
        state = state_of(past, taught_by) / alone.square().mean().sqrt()
        projector = made.user_projector if made.label == "A-LLMRec" else made.projector
        return projector(state).unsqueeze(0)

    parts: list[Tensor] = []
    if made.label != "LLaRA":
        parts += [user_vector(), *written(" had ")]
    else:
        parts += written("had ")
    for number, item in enumerate(past):
        parts += written(", ") if number else []
        parts += [*written('"'), *written(TITLES[item]), *written('" '), item_vector(item)]
    parts += written("; next ")
    return torch.cat([*parts, words(torch.tensor(answer, dtype=torch.int64))])


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_input_vectors_put_together_by_hand(
    llama: Path, tiny_codes: Tensor, name: str
) -> None:
    made = recommender(name, llama, tiny_codes).eval()
    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    for past, item in (([3, 1, 4], 8), ([9], 5)):
        path = made.paths[item][made.paths[item] >= 0].tolist()
        given = by_hand(made, model, past, path[:-1]).unsqueeze(0)
        logits = model(inputs_embeds=given).logits[0, -len(path) :]
        read = made.start(histories(past))
        for pos, token in enumerate(path):
            expected = logits[pos]
            torch.testing.assert_close(read.logits()[0, 0], expected, atol=1e-5, rtol=1e-4)
            read = read.extend(torch.zeros(1, 1).long(), torch.tensor([[token]]))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_vectors_begin_as_large_as_words_and_differ_from_item_to_item(
    llama: Path, tiny_codes: Tensor, name: str
) -> None:
    made = recommender(name, llama, tiny_codes)
    words = made.base.get_input_embeddings().weight
    vectors = made.project_items(torch.arange(12))
    assert vectors.shape == (12, words.shape[1])
    torch.testing.assert_close(vectors.square().mean(), words.square().mean(), rtol=0.1, atol=0)
    assert (torch.pdist(vectors) > 0.01).all()


@pytest.mark.parametrize("name", NAMES)
def test_only_the_items_of_the_batch_are_projected_each_once(
    llama: Path, tiny_codes: Tensor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = recommender(name, llama, tiny_codes).eval(), []
    project = type(made).project_items

    def spy(self: Any, items: Tensor) -> Tensor:
        seen.append(items.tolist())
        return project(self, items)

    monkeypatch.setattr(type(made), "project_items", spy)
    read = made.start(histories([3, 1, 3], [9, 1]))
    read.extend(torch.zeros(2, 1).long(), made.paths[[0, 1], 0].unsqueeze(1))
    assert seen == [[1, 3, 9]]


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_neither_trained_nor_saved_nor_changed(
    llama: Path, tiny_codes: Tensor, name: str, tmp_path: Path
) -> None:
    taught_by = teacher()
    before = {key: value.clone() for key, value in taught_by.state_dict().items()}
    made = recommender(name, llama, tiny_codes, taught_by=taught_by)
    assert not any(value is own for value in made.parameters() for own in taught_by.parameters())
    assert all(value.requires_grad for value in taught_by.parameters())
    fit(made, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in taught_by.state_dict().items())
    files = [load_file(path) for path in tmp_path.rglob("model.safetensors")]
    saved = {key for weights in files for key in weights}
    assert saved == set(made.trainable_names()), (
        "each stage has its part, and nothing else is saved"
    )
    assert not {"item_vectors", "texts"} & saved


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("items", ["titles", "codes"])
def test_what_was_learned_loads_onto_a_fresh_backbone_and_does_not_merge(
    llama: Path, tiny_codes: Tensor, name: str, items: str, tmp_path: Path
) -> None:
    made = recommender(name, llama, tiny_codes, items=items)
    state = fit(made, tmp_path / "trained")
    again = recommender(name, llama, tiny_codes, items=items, seed=5)
    assert load_adapter(tmp_path / "trained", again) == state
    assert not again.training
    past = histories([3, 1, 4], [9])
    with torch.no_grad():
        assert torch.equal(again.start(past).logits(), made.start(past).logits())
    with pytest.raises(ValueError, match=f"{made.label} reads vectors .* load_adapter"):
        merge_and_save(made, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("name", NAMES)
def test_another_teacher_or_another_prompt_is_another_model(
    llama: Path, tiny_codes: Tensor, name: str, tmp_path: Path
) -> None:
    fit(recommender(name, llama, tiny_codes), tmp_path)
    other = recommender(name, llama, tiny_codes, taught_by=teacher(seed=1))
    with pytest.raises(ProvenanceError, match="the item_vectors of the adapters"):
        load_adapter(tmp_path, other)
    if name == "llara":
        own = LlaraConfig(item="{item}, {vector}")
        other = recommender(name, llama, tiny_codes, own=own)
        with pytest.raises(ProvenanceError, match="the prompts_with_vectors of the adapters"):
            load_adapter(tmp_path, other)


def test_states_of_users_are_bound_to_all_weights_of_the_teacher(
    llama: Path, tiny_codes: Tensor
) -> None:
    changed = teacher()
    with torch.no_grad():
        changed.position_embedding.weight[0, 0] += 1
    for name in NAMES:
        made = [recommender(name, llama, tiny_codes, taught_by=t) for t in (teacher(), changed)]
        differ = made[0].input_hashes != made[1].input_hashes
        assert differ == (name != "llara"), "LLaRA has no slot for a user"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("llara", Popularity, "LLaRA .* but Popularity has no item vectors. Use"),
        ("collm", Popularity, "no item vectors and no states of users. Use --teacher.model"),
        ("collm", BERT4Rec, "BERT4Rec has no states of users"),
        ("allmrec", BERT4Rec, "A-LLMRec .* but BERT4Rec has no states of users"),
    ],
)
def test_a_teacher_without_the_vectors_is_refused_by_its_class(
    llama: Path, name: str, kind: Any, said: str
) -> None:
    configs = BackboneConfigs(lm=LanguageModelConfig(model=str(llama)))
    with pytest.raises(ValueError, match=said):
        require_fit(name, configs, CATALOG, kind)
    require_fit("llara", configs, CATALOG, LightGCN)
    require_fit(name, configs, CATALOG, SASRec)
    require_fit("lm", configs, CATALOG, kind)


@pytest.mark.parametrize("name", NAMES)
def test_no_teacher_is_refused(llama: Path, tiny_codes: Tensor, name: str) -> None:
    configs = BackboneConfigs(lm=LanguageModelConfig(model=str(llama)))
    with pytest.raises(ValueError, match="needs a teacher with vectors, got none"):
        build(name, configs, tiny_codes, (3, 3, 2), catalog=CATALOG)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_the_projectors_through_the_language_model(
    llama: Path, tiny_codes: Tensor, name: str
) -> None:
    for checkpointing in (False, True):
        made = recommender(name, llama, tiny_codes, gradient_checkpointing=checkpointing)
        made.begin_stage(made.stages[-1].name)
        made.train()
        loss_of(made, dataclasses.replace(some_batch(), progress=1.0)).backward()
        projectors = {key: p for key, p in made.named_parameters() if "projector" in key}
        assert projectors
        for key, value in projectors.items():
            assert value.grad is not None, key
            if key.endswith("weight") and value.dim() == 2:
                assert value.grad.abs().max() > 0, key
