"""The model card: a model's description, results, provenance and licence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.lm.config import LanguageModelConfig
from baselines.models.trained import TrainedModel
from baselines.teachers.fitted import FittedTeacher

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_TAGS = ["recommendation", "generative-recommendation", "semantic-ids"]


def model_card(model: TrainedModel, repo_id: str, *, licence: str) -> ModelCard:
    """The model card, as Markdown.

    Args:
        model: The model. Its ``about`` may hold ``row``, ``seed``, ``metrics`` (by policy and
            name, each with ``mean`` and ``sd`` over seeds), ``settings`` and ``data``.
        repo_id: The model's repository, ``owner/name``.
        licence: The model's licence, spelled as on the Hub, such as ``cc-by-4.0``.

    Raises:
        ValueError: If no licence is given.
    """
    from huggingface_hub import ModelCard, ModelCardData

    if not isinstance(licence, str) or not licence.strip():
        raise ValueError(
            "expected a licence for the model card, got none. Name the one that others may use "
            "the model under, such as licence='apache-2.0' or 'cc-by-nc-4.0'."
        )
    base = _base(model)
    header = ModelCardData(
        license=licence,
        library_name="semid",
        tags=_TAGS,
        base_model=base if base and not Path(base).exists() else None,
    )
    sections = {
        "Use": _use(repo_id),
        "Results": _results(model.about),
        "Model": _model(model),
        "Settings of the comparison": _pairs(model.about.get("settings", {})),
        "Data": _pairs(model.about.get("data", {})),
        "Licence": _licences(model, licence),
    }
    lines = ["---", header.to_yaml(), "---", "", f"# {repo_id.split('/')[-1]}", ""]
    lines += ["A generative recommender: it generates the next item's semantic ID or title."]
    for title, text in sections.items():
        if text:
            lines += ["", f"## {title}", "", *text]
    return ModelCard("\n".join(lines) + "\n")


def _base(model: TrainedModel) -> str | None:
    config = model.spec.config
    return config.model if isinstance(config, LanguageModelConfig) else None


def _use(repo_id: str) -> list[str]:
    return [
        "```python",
        "from baselines import Recommender",
        "",
        f'shop = Recommender.from_pretrained("{repo_id}")',
        "shop.recommend([[item_id, another_id]], k=10)  # a history's item IDs, oldest first",
        "```",
    ]


def _results(about: Mapping[str, Any]) -> list[str]:
    """The metrics of the table row that the model was picked from."""
    metrics: Mapping[str, Mapping[str, Any]] = about.get("metrics", {})
    if not metrics:
        return []
    names = list(dict.fromkeys(name for of_policy in metrics.values() for name in of_policy))
    rows = [[name, *(_shown(values.get(name)) for values in metrics.values())] for name in names]
    seeds = about.get("seeds", ())
    intro = f"Row `{about.get('row')}` of a comparison: mean and standard deviation over seeds "
    intro += f"{', '.join(map(str, seeds))}; this is seed {about.get('seed')}."
    return [intro, "", *_table(["metric", *(f"seen items {name}" for name in metrics)], rows)]


def _shown(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "" if value is None else f"{value:.4f}"
    spread = "" if value.get("sd") is None else f" ± {value['sd']:.4f}"
    return f"{value['mean']:.4f}{spread}"


def _model(model: TrainedModel) -> list[str]:
    spec, ids = model.spec, model.items.ids
    facts = {
        "backbone": spec.backbone,
        "objective": spec.objective.name,
        "alpha, the teacher's weight": f"{spec.objective.alpha:g}",
        "seed": spec.seed,
        "epochs": f"{model.state.epoch} (best: {model.state.best_epoch})",
        "beam": spec.evaluation.beam,
        "items": len(model.items.catalog),
        "semantic IDs": f"{ids.scheme}, sizes {'x'.join(map(str, ids.sizes))}",
        "weights": model.identity["model"],
    }
    if (second := model.items.second) is not None:
        facts["second semantic IDs"] = f"{second.scheme}, sizes {'x'.join(map(str, second.sizes))}"
    if model.spec.evaluation.slots:
        facts["places for items without training events"] = model.spec.evaluation.slots
    if model.partner is not None:
        facts["mixed into the search"] = f"a second model, with weight {1 - model.partner.weight:g}"
    return _pairs(facts)


def _licences(model: TrainedModel, licence: str) -> list[str]:
    notes = [
        f"The weights: {licence}. They were trained on {_data_name(model)}, which has its own "
        "terms.",
        "The item IDs and texts in this folder are under the terms of the data.",
    ]
    if base := _base(model):
        notes.append(f"The language model {Path(base).name} has its own licence.")
    encoder = model.items.ids.text_encoder
    if encoder is not None:
        notes.append("The text encoder, if it is a published model, has its own licence.")
    if any(teacher.model.needs_interactions for teacher in _teachers(model)):
        notes.append("The folder holds the training interactions, which its teacher needs.")
    return [f"- {note}" for note in notes]


def _teachers(model: TrainedModel) -> Iterator[FittedTeacher]:
    """The teachers stored with the model."""
    if model.teacher is not None and model.spec.backbone_class.needs_teacher:
        yield model.teacher
    if model.partner is not None and isinstance(model.partner.model, FittedTeacher):
        yield model.partner.model


def _data_name(model: TrainedModel) -> str:
    return str(model.about.get("data", {}).get("name", "its training data"))


def _pairs(facts: Mapping[str, Any]) -> list[str]:
    """A table of names and values; nested values are listed under both names."""
    rows = [[name, str(value)] for name, value in _flat(facts)]
    return _table(["", "value"], rows) if rows else []


def _flat(facts: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        full = f"{of}, {name}" if of else name
        if isinstance(value, Mapping):
            yield from _flat(value, full)
        else:
            yield full, value


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(text) for text in row)} |" for row in cells]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
