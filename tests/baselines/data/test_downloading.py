"""Downloads from a local server: whole, resumed, broken off, changed, and unreachable."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from baselines.data import downloading
from baselines.data.downloading import RemoteFile, download

CONTENT = bytes(range(256)) * 4096  # one MiB


@dataclass
class Server:
    """What the server serves, and what was asked of it."""

    content: bytes = CONTENT
    tag: str = '"one"'
    breaks_off: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    address: str = ""

    @property
    def file(self) -> RemoteFile:
        return RemoteFile(url=f"{self.address}/sets/log.bin?version=1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloading, "_PAUSE", 0.0)
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.ranges.append(self.headers.get("Range"))
            if served.answers:
                self.send_error(served.answers.pop(0))
                return
            begin = 0
            if served.ranges[-1] and self.headers["If-Range"] == served.tag:
                begin = int(served.ranges[-1].removeprefix("bytes=").removesuffix("-"))
                if begin >= len(served.content):
                    self.send_error(416)
                    return
            body = served.content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("ETag", served.tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.breaks_off.pop(0)] if served.breaks_off else body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield served
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_file_is_downloaded_once_and_held_to_its_hash(server: Server, tmp_path: Path) -> None:
    path = download(server.file, tmp_path / "sets")
    assert path == tmp_path / "sets" / "log.bin"
    assert path.read_bytes() == CONTENT
    recorded = (tmp_path / "sets" / "log.bin.sha256").read_text()
    assert recorded == f"{hashlib.sha256(CONTENT).hexdigest()}  log.bin\n"
    assert sorted(file.name for file in path.parent.iterdir()) == ["log.bin", "log.bin.sha256"]
    assert download(server.file, tmp_path / "sets") == path
    assert len(server.ranges) == 1
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"bin has the SHA256 .*, expected .*bin\.sha256"):
        download(server.file, tmp_path / "sets")


def test_a_connection_that_breaks_off_is_taken_up_where_it_ended(
    server: Server, tmp_path: Path
) -> None:
    server.breaks_off = [1000, 500_000]
    assert download(server.file, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=501000-"]


def test_a_later_command_goes_on_where_the_first_gave_up(server: Server, tmp_path: Path) -> None:
    server.breaks_off = [10, 10, 10, 10]
    with pytest.raises(ValueError, match=r"1048536 bytes are missing\)\. Repeat the command"):
        download(server.file, tmp_path)
    assert not (tmp_path / "log.bin").exists()
    assert download(server.file, tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=40-"


def test_another_version_on_the_server_is_loaded_from_its_beginning(
    server: Server, tmp_path: Path
) -> None:
    server.breaks_off = [10, 10, 10, 10]
    with pytest.raises(ValueError, match="are missing"):
        download(server.file, tmp_path)
    server.content, server.tag = b"another", '"two"'
    assert download(server.file, tmp_path).read_bytes() == b"another"


def test_a_part_that_is_already_whole_is_loaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "log.bin.part").write_bytes(CONTENT)
    (tmp_path / "log.bin.part.json").write_text('"\\"one\\""')
    assert download(server.file, tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(
    server: Server, tmp_path: Path
) -> None:
    server.answers = [503, 429]
    assert download(server.file, tmp_path / "a").read_bytes() == CONTENT
    server.answers, server.ranges = [404], []
    with pytest.raises(ValueError, match=r"status 404 Not Found\).*put it at .*log\.bin"):
        download(server.file, tmp_path / "b")
    assert len(server.ranges) == 1


def test_content_that_the_publisher_did_not_publish_is_refused(
    server: Server, tmp_path: Path
) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    good = RemoteFile(url=server.file.url, md5=md5)
    assert download(good, tmp_path / "a").read_bytes() == CONTENT
    assert not (tmp_path / "a" / "log.bin.sha256").exists()
    bad = RemoteFile(url=server.file.url, md5="0" * 32)
    with pytest.raises(ValueError, match=f"MD5 {md5}, expected {'0' * 32} by the publisher"):
        download(bad, tmp_path / "b")
    assert not (tmp_path / "b" / "log.bin").exists()


def test_without_a_network_the_message_names_address_and_place(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    file = RemoteFile(url=f"http://127.0.0.1:{port}/log.bin")
    with pytest.raises(ValueError, match=rf":{port}/log\.bin could not .*refused.* put"):
        download(file, tmp_path)
    (tmp_path / "log.bin").write_bytes(b"from elsewhere")
    assert download(file, tmp_path).read_bytes() == b"from elsewhere"
