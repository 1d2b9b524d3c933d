"""Models on the Hugging Face Hub: pushed as whole folders, and loaded by name."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Push a complete model with its model card, in one commit.

    Results stored with the weights, such as ranks of test users, are not pushed.

    Args:
        model: The model to push.
        repo_id: ``owner/name`` of the repository, created if it does not exist.
        licence: The model's licence, spelled as on the Hub, such as ``cc-by-4.0``.
        private: Whether a new repository is private; None for the owner's default.
        token: Hub token; None for the one stored by ``hf auth login``.

    Returns:
        URL of the commit.

    Raises:
        ValueError: If no licence is given, or ``repo_id`` is not ``owner/name``.
        OSError: If the Hub rejects the request; a ``ConnectionError`` if it cannot be reached.
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
        with _reaching_the_hub():
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="Push a semid model"
            )
    return str(commit.commit_url)


def model_folder(
    source: str | os.PathLike[str], *, token: str | None = None, revision: str | None = None
) -> Path:
    """A model's local folder, or a local copy of a model on the Hub.

    Args:
        source: A folder, or, if no such folder exists, ``owner/name`` on the Hub.
        token: Hub token for private repositories.
        revision: Branch, tag or commit on the Hub; None for the main branch.

    Raises:
        FileNotFoundError: If there is neither such a folder nor such a repository with a model.
    """
    folder = Path(source)
    if folder.exists() or not _REPO_ID.fullmatch(str(source)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        with _reaching_the_hub():
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


@contextmanager
def _reaching_the_hub() -> Iterator[None]:
    """Turn the client's network errors into ``ConnectionError``, which is an ``OSError``.

    Their base class belongs to the HTTP library that the installed client uses, and is the same for
    the rejections of the Hub, which are ``OSError`` already.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except HTTPError as error:
        if isinstance(error, OSError):
            raise
        raise ConnectionError(
            f"the Hub could not be reached ({error}). Check the network, and HF_ENDPOINT if it is "
            "set, then try again."
        ) from error


def _without_places(model: TrainedModel) -> TrainedModel:
    """The model with local language models by name only; the user gives their path on loading."""
    spec, partner = model.spec, model.partner
    if isinstance(spec.config, LanguageModelConfig) and Path(spec.config.model).exists():
        config = dataclasses.replace(spec.config, model=Path(spec.config.model).name)
        spec = dataclasses.replace(spec, config=config)
    if partner is not None and isinstance(partner.model, TrainedModel):
        partner = dataclasses.replace(partner, model=_without_places(partner.model))
    return dataclasses.replace(model, spec=spec, partner=partner)
