"""Downloads that can be resumed, and whose content is held to a hash."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from baselines.runtime.progress import track
from semid.atomic import alone_in, atomic_write

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_PATIENCE = 60  # seconds without a byte
_ATTEMPTS, _PAUSE = 4, 1.0
_OF_THE_NETWORK = (URLError, ConnectionError, TimeoutError, http.client.HTTPException)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that is downloaded once.

    Attributes:
        url: Its address, ``http`` or ``https``.
        md5: Its MD5 in hexadecimal, where the publisher gives one. Without it, the SHA-256 of the
            first download is recorded beside the file, and the file is held to that.
    """

    url: str
    md5: str | None = None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return urlsplit(self.url).path.rpartition("/")[2]


def download(file: RemoteFile, folder: str | Path) -> Path:
    """The path of a file in a folder, downloaded if it is not there.

    What has come so far is kept as ``NAME.part``, and a later call goes on from there if the file
    on the server is still the same. Processes that want the same folder wait for each other.

    Args:
        file: The file.
        folder: Created if needed.

    Raises:
        ValueError: If the server cannot be reached, refuses or breaks off, or if the content does
            not have the expected hash.
    """
    path = Path(folder) / file.name
    with alone_in(folder):
        if not path.exists():
            part = path.with_name(path.name + ".part")
            try:
                _fetch(file.url, part)
            except _OF_THE_NETWORK as error:
                raise ValueError(
                    f"{file.url} could not be downloaded ({_reason(error)}). Repeat the command to "
                    f"go on, or get the file elsewhere and put it at {path}"
                ) from error
            _require_hash(file, part, path)
            part.replace(path)
            _tag(part).unlink(missing_ok=True)
        else:
            _require_hash(file, path, path)
    return path


def _fetch(url: str, part: Path) -> None:
    """Load the rest of ``part``, again after a connection that breaks off."""
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch_rest(url, part)
        except _OF_THE_NETWORK as error:
            came = part.exists() and part.stat().st_size > before
            if attempt == _ATTEMPTS or not (came or _may_pass(error)):
                raise
            logger.warning("%s broke off (%s), trying again", url, _reason(error))
            time.sleep(_PAUSE * attempt)
        else:
            return


def _fetch_rest(url: str, part: Path) -> None:
    tag, begun = _read_tag(part), part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "semid", "Accept-Encoding": "identity"}
    if begun and tag:
        headers |= {"Range": f"bytes={begun}-", "If-Range": tag}
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_PATIENCE)
    except HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        answer = urlopen(Request(url), timeout=_PATIENCE)  # what we have is all of it, or too much
    with answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        begun = begun if goes_on else 0
        if not goes_on:
            _write_tag(part, answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
        length = answer.headers.get("Content-Length")
        with part.open("ab" if goes_on else "wb") as out:
            _copy(answer, out, begun=begun, left=int(length) if length else None)


def _copy(answer: Any, out: IO[bytes], *, begun: int, left: int | None) -> None:
    title = f"{out.name.removesuffix('.part')}, MB"
    whole = None if left is None else begun + left
    with track(title, _megabytes(whole)) as progress:
        progress.advance(_megabytes(begun))
        shown = begun
        while block := answer.read(_BLOCK):
            out.write(block)
            begun += len(block)
            progress.advance(_megabytes(begun) - _megabytes(shown))
            shown = begun
    if whole is not None and begun < whole:
        raise http.client.IncompleteRead(b"", whole - begun)


def _megabytes(size: int | None) -> int:
    return (size or 0) // 10**6


def _may_pass(error: Exception) -> bool:
    """Whether a later attempt may succeed."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code == http.client.TOO_MANY_REQUESTS
    return not isinstance(error, URLError)


def _require_hash(file: RemoteFile, have: Path, path: Path) -> None:
    """Compare what we ``have`` with what ``path`` must hold, or record it for the next time."""
    recorded = path.with_name(path.name + ".sha256")
    kind = "md5" if file.md5 else "sha256"
    with have.open("rb") as content:
        found = hashlib.file_digest(content, kind).hexdigest()
    expected, said_by = file.md5, "the publisher"
    if expected is None:
        with suppress(FileNotFoundError):
            expected, said_by = recorded.read_text(encoding="utf-8").split()[0], str(recorded)
    if expected is None:
        atomic_write(recorded, f"{found}  {path.name}\n")
    elif found != expected:
        raise ValueError(
            f"{have} has the {kind.upper()} {found}, expected {expected} by {said_by}. Delete the "
            "file to download it anew" + ("" if file.md5 else ", and the record, if it is outdated")
        )


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"status {error.code} {error.reason}"
    if isinstance(error, URLError):
        return str(error.reason)
    if isinstance(error, http.client.IncompleteRead):
        return f"{error.expected} bytes are missing"
    return str(error) or type(error).__name__


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_tag(part: Path) -> str | None:
    """What the server calls the version of which ``part`` is the beginning."""
    try:
        found = json.loads(_tag(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _write_tag(part: Path, tag: str | None) -> None:
    part.unlink(missing_ok=True)  # it belongs to another version
    atomic_write(_tag(part), json.dumps(tag))
