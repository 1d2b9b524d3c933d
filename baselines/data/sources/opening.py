"""The text of a file in blocks of UTF-8, whatever its compression and encoding."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.data.sources.contract import Note
from baselines.runtime.progress import track
from semid.delimited import chunks, whole_lines

COMPRESSED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NOT_WINDOWS = b"\x00\x81\x8d\x8f\x90\x9d"
"""Bytes that text in Windows-1252 does not hold."""
_PROGRESS = 2**20


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A file of text that can be read several times.

    Attributes:
        path: The file.
        codec: Its compression, or None.
        encoding: Its encoding.
        is_blank: Whether it holds nothing but blanks.
    """

    path: Path
    codec: str | None
    encoding: str
    is_blank: bool

    def blocks(self) -> Iterator[bytes]:
        """The text in UTF-8, without a byte order mark, in blocks of whole lines."""
        return whole_lines(_as_utf8(_pieces(self.path, self.codec, "reading"), self.encoding))

    def start(self) -> bytes:
        """The first block."""
        return next(whole_lines(_as_utf8(_pieces(self.path, self.codec), self.encoding)), b"")


def open_text(path: Path, encoding: str | None, notes: list[Note]) -> TextFile:
    """Look through a file for what its text is encoded and compressed by.

    Args:
        path: The file.
        encoding: Its encoding, if it is not to be detected: a byte order mark, else UTF-8, else
            Windows-1252.
        notes: Receives what was detected.

    Raises:
        ValueError: If it is damaged, or in another encoding.
    """
    codec = _codec(path)
    try:
        found, is_blank, of_encoding = _encoding(path, codec, encoding)
    except OSError as error:
        if codec is None:
            raise
        raise ValueError(f"its {codec} data is damaged ({error}); fetch it again") from None
    if codec is not None:
        notes.append(Note(kind="guessed", says=f"{path.name}: compressed by {codec}"))
    notes += of_encoding
    return TextFile(path=path, codec=codec, encoding=found, is_blank=is_blank)


def start_of(path: Path, size: int = 100_000) -> str:
    """The first bytes of a file as text; what is not UTF-8 is replaced.

    Raises:
        ValueError: If it is not compressed as its name says.
        OSError: If its compressed data is damaged.
    """
    return next(_pieces(path, _codec(path)), b"")[:size].decode(errors="replace")


def _codec(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(4)
    codec = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    told = COMPRESSED.get(path.suffix.lower())
    if told is not None and codec is None and start:
        raise ValueError(f"its name says {told}, but it does not begin as such; rename it")
    return codec


def _pieces(path: Path, codec: str | None, doing: str | None = None) -> Iterator[bytes]:
    """The bytes of a file, uncompressed, in pieces; with progress if it is said what is done."""
    from pyarrow import CompressedInputStream, OSFile

    with OSFile(str(path)) as file:
        stream = file if codec is None else CompressedInputStream(file, codec)
        if doing is None:
            yield from chunks(stream)
            return
        with track(f"{doing} {path.name}, MB", max(path.stat().st_size // _PROGRESS, 1)) as tracker:
            done = 0
            for piece in chunks(stream):
                yield piece
                tracker.advance(file.tell() // _PROGRESS - done)
                done = file.tell() // _PROGRESS


def _as_utf8(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The same text in UTF-8; the place in a ``UnicodeDecodeError`` counts from the first byte."""
    decoder: Any = codecs.getincrementaldecoder(encoding)()
    before = 0
    is_last = False
    while not is_last:
        piece = next(pieces, b"")
        is_last = not piece
        try:
            text = decoder.decode(piece, is_last)
        except UnicodeDecodeError as error:
            start = before - (len(error.object) - len(piece)) + error.start
            byte = error.object[error.start]
            raise _Undecodable(error.encoding, byte, start) from None
        yield piece if encoding == "utf-8" else text.encode()
        before += len(piece)


class _Undecodable(Exception):
    def __init__(self, encoding: str, byte: int, start: int) -> None:
        super().__init__(
            f"expected text in {encoding}, got the byte 0x{byte:02x} at {start}; name its encoding "
            "by --read.encoding"
        )
        self.byte = byte
        self.start = start


def _encoding(path: Path, codec: str | None, encoding: str | None) -> tuple[str, bool, list[Note]]:
    """Name of the encoding, whether the text is blank, and what is noted."""
    first = next(_pieces(path, codec), b"")
    mark = next((name for mark, name in _MARKS.items() if first.startswith(mark)), None)
    notes = []
    if encoding is not None:
        try:
            b" ".decode(encoding, errors="replace")
        except LookupError:
            raise ValueError(f"there is no encoding {encoding!r}; try utf-8 or latin-1") from None
    elif mark is not None:
        notes.append(Note(kind="guessed", says=f"{path.name}: {mark}, by its first bytes"))
    name = encoding or mark or "utf-8"
    is_blank = True
    try:
        for block in _as_utf8(_pieces(path, codec, "looking through"), name):
            is_blank = is_blank and not block.strip()
    except _Undecodable as error:
        if encoding is not None or mark is not None:
            raise ValueError(str(error)) from None
        return "cp1252", False, [_as_windows(path, codec, error)]
    return name, is_blank, notes


def _as_windows(path: Path, codec: str | None, error: _Undecodable) -> Note:
    """The note on text that is not UTF-8; raises if it is not Windows-1252 either."""
    before, line, example, is_text = 0, 1, "", True
    for block in whole_lines(_pieces(path, codec)):
        is_text = is_text and len(block.translate(None, _NOT_WINDOWS)) == len(block)
        place = error.start - before
        before += len(block)
        if place >= len(block):
            line += block.count(b"\n")
        elif place >= 0:
            line += block.count(b"\n", 0, place)
            start = block.rfind(b"\n", 0, place) + 1
            example = block[start:].partition(b"\n")[0].decode("cp1252", errors="replace")[:200]
    if not is_text:
        raise ValueError(
            f"line {line}: expected text in UTF-8, got the byte 0x{error.byte:02x}; name its "
            "encoding by --read.encoding"
        )
    return Note(
        kind="guessed",
        says=f"{path.name}: not UTF-8, read as Windows-1252 (Latin-1)",
        examples=[{"line": line, "text": example}],
    )
