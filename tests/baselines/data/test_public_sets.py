"""Public data sets by name, fetched from a local server."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from baselines.cli import main
from baselines.data.config import INSTALLED, PUBLIC
from baselines.data.downloading import RemoteFile
from baselines.data.loading import load_dataset
from baselines.data.public_sets import PUBLIC_SETS, PublicSet, downloaded

RATINGS = "\n".join(f"{user}::{item}::5::{1000 + item}" for user in (1, 2) for item in (1, 2, 3, 4))
MOVIES = "1::Café (1999)::Drama|Comedy\n2::Two (2000)::Drama\n3::Three (2001)::War\n4::4::War"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server from which ``movielens-1m`` comes."""
    folder = tmp_path / "server"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    address = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("SEMID_DOWNLOADS", str(tmp_path / "downloads"))
    small = PublicSet(files=(RemoteFile(url=f"{address}/ml-1m.zip"),), terms="free", page="here")
    monkeypatch.setitem(PUBLIC_SETS, "movielens-1m", small)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield folder
    http.shutdown()
    http.server_close()
    thread.join()


def write_archive(folder: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", RATINGS)
        archive.writestr("ml-1m/movies.dat", MOVIES.encode("latin-1"))
        archive.writestr("ml-1m/users.dat", "1::F::1::10::48067")
    (folder / "ml-1m.zip").write_bytes(content.getvalue())


def test_a_set_is_prepared_by_its_name(served: Path, tmp_path: Path) -> None:
    write_archive(served)
    out = tmp_path / "movies"
    assert main(["data", "prepare", "movielens-1m", "--out", str(out)]) == 0
    dataset = load_dataset(out)
    assert dataset.catalog.fields["title"].to_list()[0] == "Café (1999)"
    assert dataset.interactions is not None
    assert len(dataset.interactions) == 8
    (served / "ml-1m.zip").unlink()
    assert downloaded("movielens-1m") == tmp_path / "downloads/movielens-1m/ml-1m/ml-1m"


def test_commands_take_the_name_directly(served: Path) -> None:
    write_archive(served)
    assert load_dataset("movielens-1m").splits.test.num_targets == 2


def test_what_is_not_on_the_server_ends_in_one_line(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "movies"
    assert main(["data", "prepare", "movielens-1m", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(
        r"ml-1m\.zip could not be downloaded \(status 404 .* put it at .*ml-1m\.zip", line
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yelp", "terms on https://.*Download it there"),
        ("amazon-2014/beuty", "expected one of amazon-2014/.*, got 'amazon-2014/beuty'. Did you"),
        ("amazon-2018/beauty", "Did you mean"),
    ],
)
def test_a_name_without_a_download_is_explained(name: str, message: str) -> None:
    assert PUBLIC.fullmatch(name)
    with pytest.raises(ValueError, match=message):
        downloaded(name)


def test_every_set_is_found_by_its_name_and_has_files_of_their_own() -> None:
    assert [name for name in PUBLIC_SETS if not PUBLIC.fullmatch(name)] == ["movielens-100k"]
    assert "movielens-100k" in INSTALLED  # downloaded only where its package is missing
    urls = [file.url for each in PUBLIC_SETS.values() for file in each.files]
    assert len(set(urls)) == len(urls)
    assert all(re.fullmatch(r"https://[\w./~%-]+", url) for url in urls)
    counts = {
        year: sum(f"amazon-{year}/" in name for name in PUBLIC_SETS) for year in (2014, 2018, 2023)
    }
    assert counts == {2014: 24, 2018: 29, 2023: 33}
