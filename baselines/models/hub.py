"""Models on the Hugging Face Hub: pushed as whole folders, and found again by their names."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from baselines.lm.config import LanguageModelConfig
from baselines.models.files import CARD
from baselines.models.model_card import model_card
from baselines.models.trained import TrainedModel

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")


def push_to_hub(
    model: TrainedModel,
    repo_id: str,
    *,
    licence: str,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Push a whole model with its model card, in one commit.

    Results that lie beside the weights, such as the ranks of test users, stay here.

    Args:
        model: What to push.
        repo_id: ``owner/name`` of a repository, which is made where there is none.
        licence: Of the model, as the Hub spells it, such as ``cc-by-4.0``.
        private: Whether a new repository is private; None for what is usual with the owner.
        token: Of the Hub; None for the one that ``hf auth login`` has kept.

    Returns:
        Address of the commit.

    Raises:
        ValueError: If no licence is named, or ``repo_id`` is no ``owner/name``.
        OSError: If the Hub refuses.
    """
    from huggingface_hub import HfApi

    if not _REPO_ID.fullmatch(repo_id):
        raise ValueError(f"expected a repository owner/name of the Hub, got {repo_id!r}")
    card = model_card(model, repo_id, licence=licence)
    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        _without_places(model).save(folder)
        card.save(folder / "README.md")
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message="Push a semid model"
        )
    return str(commit.commit_url)


def model_folder(
    source: str | os.PathLike[str], *, token: str | None = None, revision: str | None = None
) -> Path:
    """The folder of a model here, or a copy of one that is on the Hub.

    Args:
        source: A folder; or, where there is none, ``owner/name`` on the Hub.
        token: Of the Hub, for private repositories.
        revision: Branch, tag or commit on the Hub; None for its main branch.

    Raises:
        FileNotFoundError: If there is neither such a folder nor such a repository that holds a
            model.
    """
    folder = Path(source)
    if folder.exists() or not _REPO_ID.fullmatch(str(source)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(str(source), token=token, revision=revision))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"expected a trained model in the folder {source} or on the Hub under that name, got "
            f"no such folder, and from the Hub: {error}"
        ) from error
    if not (found / CARD).exists():
        raise FileNotFoundError(
            f"expected a trained model on the Hub under {source}, got a repository without {CARD}. "
            "Name one that push_to_hub has made."
        )
    return found


def _without_places(model: TrainedModel) -> TrainedModel:
    """With language models of this machine by name alone: whoever loads it says where they are."""
    spec, partner = model.spec, model.partner
    if isinstance(spec.config, LanguageModelConfig) and Path(spec.config.model).exists():
        config = dataclasses.replace(spec.config, model=Path(spec.config.model).name)
        spec = dataclasses.replace(spec, config=config)
    if partner is not None and isinstance(partner.model, TrainedModel):
        partner = dataclasses.replace(partner, model=_without_places(partner.model))
    return dataclasses.replace(model, spec=spec, partner=partner)
