"""Models on the Hub: pushed whole with a card, and found again, by a stand-in of its client."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError
from tiny_models import fit_model, shop, with_teacher
from tiny_shop import compare, write_shop, write_shop_model

from baselines.models.hub import model_folder
from baselines.models.recommender import Recommender
from baselines.models.trained import Partner

IDS = shop().catalog.item_ids
HISTORIES = [[IDS[3], IDS[7]], [IDS[5], IDS[12], IDS[9]]]
ABOUT = {
    "row": "Causal+TCA soft_ce alpha=0.5",
    "seed": 1,
    "seeds": [0, 1],
    "metrics": {
        "removed": {"N@10": {"mean": 0.12345, "sd": 0.01}, "R@10": {"mean": 0.2, "sd": None}},
        "kept": {"N@10": {"mean": 0.1, "sd": 0.02}, "R@10": {"mean": 0.3, "sd": None}},
    },
    "settings": {"split": "leave_one_out", "beam": 50, "odd | name": "a\nb"},
    "data": {"name": "tiny shop", "statistics": {"users": 40}, "test": "0123abcd"},
}


class LocalHub:
    """What the Hub's client does here, with a folder in place of the Hub."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.tokens = folder, [], []  # type: ignore[var-annotated]

    def client(self) -> type:
        hub = self

        class HfApi:
            def __init__(self, token: str | None = None) -> None:
                hub.tokens.append(token)
                self.create_repo, self.upload_folder = hub.create_repo, hub.upload_folder

        return HfApi

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        assert exist_ok
        self.made.append((repo_id, private))
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1 {commit_message}")

    def snapshot_download(self, repo_id: str, *, token: str | None, revision: str | None) -> str:
        if not (self.folder / repo_id).exists():
            response: Any = SimpleNamespace(headers={}, request=None, status_code=404)
            raise RepositoryNotFoundError(f"no {repo_id} at {revision}", response=response)
        self.tokens.append(token)
        return str(self.folder / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    hub = LocalHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub.client())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return hub


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    model = fit_model(tmp_path_factory.mktemp("model"))
    (model.folder / "test.safetensors").write_text("ranks of users, which are nobody's business")
    return Recommender(dataclasses.replace(model, about=ABOUT))


def test_a_pushed_model_recommends_the_same_by_its_name(hub: LocalHub, ours: Recommender) -> None:
    said = ours.push_to_hub("me/shop", licence="cc-by-4.0", private=True, token="secret")
    assert said.startswith("https://hub/me/shop/commit/1")
    assert (hub.made, hub.tokens) == ([("me/shop", True)], ["secret"])
    names = {path.name for path in (hub.folder / "me/shop").iterdir()}
    assert {"README.md", "model.json", "model.safetensors", "items.parquet", "ids"} <= names
    assert not {name for name in names if name.startswith("test")}
    assert "README.md" not in {path.name for path in ours.model.folder.iterdir()}
    theirs = Recommender.from_pretrained("me/shop")
    assert theirs.recommend(HISTORIES, 5).lists == ours.recommend(HISTORIES, 5).lists


def test_items_that_were_removed_stay_away(hub: LocalHub, ours: Recommender) -> None:
    mine = Recommender(ours.model)
    mine.remove_items([IDS[4]])
    mine.push_to_hub("me/less", licence="mit")
    lists = Recommender.from_pretrained("me/less").recommend(HISTORIES, len(IDS)).lists
    assert IDS[4] not in {each.item_id for found in lists for each in found}


def test_a_folder_comes_before_the_hub(hub: LocalHub, ours: Recommender) -> None:
    ours.save_pretrained("me/shop")
    assert model_folder("me/shop") == Path("me/shop")
    assert not hub.tokens


def test_the_card_holds_table_settings_data_and_licence(hub: LocalHub, ours: Recommender) -> None:
    ours.push_to_hub("me/shop", licence="cc-by-4.0")
    card = ModelCard.load(hub.folder / "me/shop" / "README.md")
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "semid")
    assert "semantic-ids" in card.data.tags
    text = card.text
    assert "| metric | seen items removed | seen items kept |" in text
    assert "| N@10 | 0.1235 ± 0.0100 | 0.1000 ± 0.0200 |" in text
    assert "| R@10 | 0.2000 | 0.3000 |" in text
    assert "Row `Causal+TCA soft_ce alpha=0.5` of a comparison" in text
    assert "over seeds 0, 1; this is seed 1." in text
    for line in ("| beam | 50 |", "| statistics, users | 40 |", "| test | 0123abcd |"):
        assert line in text
    assert "| odd \\| name | a b |" in text
    assert f"| weights | {ours.model.identity['model']} |" in text
    assert "- The weights: cc-by-4.0. They were trained on tiny shop" in text
    assert 'from_pretrained("me/shop")' in text
    widths: list[int] = []
    for line in text.splitlines():
        cells = line.replace("\\|", "").count("|")
        if line.startswith("|"):
            assert widths in ([], [cells]), "all lines of a table have its columns"
            widths = [cells]
        else:
            widths = []


def test_a_model_of_no_table_has_a_card_too(hub: LocalHub, ours: Recommender) -> None:
    alone = Recommender(dataclasses.replace(ours.model, about={}))
    alone.push_to_hub("me/alone", licence="mit")
    text = ModelCard.load(hub.folder / "me/alone" / "README.md").text
    assert "## Model" in text
    assert "## Results" not in text


def test_the_card_says_that_a_teacher_brings_interactions(
    hub: LocalHub, ours: Recommender, tmp_path: Path
) -> None:
    for kind in ("sasrec", "lightgcn"):
        model = with_teacher(ours.model, tmp_path / kind, kind)
        Recommender(model).push_to_hub(f"me/{kind}", licence="mit")
        text = ModelCard.load(hub.folder / "me" / kind / "README.md").text
        assert "mixed into the search" in text
        assert ("holds the training interactions" in text) == (kind == "lightgcn")


@pytest.mark.parametrize("licence", ["", "  ", None])
def test_no_card_without_a_licence(hub: LocalHub, ours: Recommender, licence: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a licence for the model card, got none\."):
        ours.push_to_hub("me/shop", licence=licence)
    assert not hub.made


@pytest.mark.parametrize("name", ["shop", "me/my/shop", "me/", ""])
def test_what_is_no_repository_is_refused(hub: LocalHub, ours: Recommender, name: str) -> None:
    with pytest.raises(ValueError, match="expected a repository owner/name"):
        ours.push_to_hub(name, licence="mit")
    assert not hub.made


def test_a_hub_that_cannot_be_reached_is_the_promised_error(
    hub: LocalHub, ours: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise HTTPError("[Errno -2] Name or service not known")

    def rejected(*args: Any, **kwargs: Any) -> None:
        response: Any = SimpleNamespace(headers={}, request=None, status_code=404)
        raise RepositoryNotFoundError("no such owner", response=response)

    monkeypatch.setattr(hub, "upload_folder", unreachable)
    with pytest.raises(OSError, match=r"Hub could not be reached \(\[Errno -2\] Name.*try again"):
        ours.push_to_hub("me/shop", licence="mit")
    monkeypatch.setattr(hub, "create_repo", rejected)
    with pytest.raises(RepositoryNotFoundError, match="no such owner"):
        ours.push_to_hub("me/shop", licence="mit")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(FileNotFoundError, match="from the Hub: the Hub could not be reached"):
        Recommender.from_pretrained("me/shop")


def test_what_is_neither_here_nor_there_is_one_line(hub: LocalHub) -> None:
    with pytest.raises(FileNotFoundError, match="got no such folder, and from the Hub: no me/nobo"):
        Recommender.from_pretrained("me/nobody")
    (hub.folder / "me" / "other").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"a repository without model\.json"):
        Recommender.from_pretrained("me/other")
    with pytest.raises(FileNotFoundError, match="expected a trained model in nowhere, got no such"):
        Recommender.from_pretrained("nowhere")


def test_a_language_model_is_named_without_its_place(hub: LocalHub, tmp_path: Path) -> None:
    data = write_shop(tmp_path / "shop")
    base = write_shop_model(data, tmp_path / "base")
    assert compare(data, base, tmp_path / "out", arms="lm:msl") == 0
    ours = Recommender.from_pretrained(tmp_path / "out" / "lm-msl-0")
    ours.push_to_hub("me/lm", licence="mit")
    pushed = hub.folder / "me" / "lm"
    for name in ("model.json", "README.md"):
        assert str(tmp_path) not in (pushed / name).read_text()
    assert json.loads((pushed / "model.json").read_text())["spec"]["config"]["model"] == "base"
    assert "The language model base has its own licence." in (pushed / "README.md").read_text()
    theirs = Recommender.from_pretrained("me/lm", base=str(base))
    known = [[each] for each in theirs.model.items.catalog.item_ids[:2]]
    assert theirs.recommend(known, 3).lists == ours.recommend(known, 3).lists


def test_a_language_model_that_moved_is_named_also_of_a_partner(
    tmp_path: Path, ours: Recommender
) -> None:
    data = write_shop(tmp_path / "shop")
    base = write_shop_model(data, tmp_path / "base")
    assert compare(data, base, tmp_path / "out", arms="lm:msl") == 0
    alone = Recommender.from_pretrained(tmp_path / "out" / "lm-msl-0")
    partner = Partner(model=alone.model, weight=0.5)
    fused = Recommender(dataclasses.replace(alone.model, partner=partner))
    fused.save_pretrained(tmp_path / "fused")
    known = [[each] for each in fused.model.items.catalog.item_ids[:2]]
    expected = fused.recommend(known, 3).lists
    base.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"at .*base, got no such folder. Say where it is"):
        Recommender.from_pretrained(tmp_path / "fused")
    found = Recommender.from_pretrained(tmp_path / "fused", base=str(tmp_path / "moved"))
    assert found.recommend(known, 3).lists == expected
    ours.save_pretrained(tmp_path / "codes")
    with pytest.raises(ValueError, match="which has no language model"):
        Recommender.from_pretrained(tmp_path / "codes", base=str(tmp_path / "moved"))
