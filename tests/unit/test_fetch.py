"""Bringing traces: from a real server, from a copy, in pieces, and what is said when it fails."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from campaign import cli
from workers.workloads import tracefiles

CONTENT = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"1,20,3\n2,0,5\n" * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "azure-2023-conv"


class Server(ThreadingHTTPServer):
    """Serves some content, with or without ranges, whole or cut off; keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.cut: int | None = None
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/trace.csv"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, content = self.headers["Range"], self.server.content
        self.server.asked.append(asked)
        if self.path != "/trace.csv":
            self.send_error(404)
            return
        begin = int(asked.removeprefix("bytes=")[:-1]) if asked and self.server.ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = len(content) if self.server.cut is None else begin + self.server.cut
        self.wfile.write(content[begin:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def folder(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of traces of a user to whom the catalogue offers the server's content."""
    monkeypatch.setenv("CAMPAIGN_HOME", str(tmp_path))
    known = tracefiles.listed()
    offered = replace(known[NAME], url=server.url, sha256=DIGEST, bytes=len(CONTENT), rows=4000)
    unchecked = replace(offered, name="azure-2024-code", file="code.csv", sha256=None, bytes=None)
    changed = {**known, NAME: offered, "azure-2024-code": unchecked}
    for module in ("workers.workloads.tracefiles", "campaign.verbs.fetch"):
        monkeypatch.setattr(f"{module}.listed", lambda: changed)
    return tmp_path / "traces"


def kept(folder: Path) -> Path:
    return folder / tracefiles.listed()[NAME].file


def part(folder: Path) -> Path:
    return folder / f".{kept(folder).name}.part"


def fails(capsys: Any, *words: str) -> str:
    """The one line that a fetch ends with, exit code 2."""
    assert cli.main(["fetch", *words]) == 2
    line = [text for text in capsys.readouterr().err.splitlines() if text.startswith("campaign:")]
    assert len(line) == 1
    return line[0]


def test_a_trace_is_brought_checked_and_counted(folder: Path, capsys: Any) -> None:
    assert cli.main(["fetch", NAME, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["sha256"], row["path"]) == (NAME, DIGEST, str(kept(folder)))
    assert (row["rows"], row["requests"], row["dropped"]) == (4000, 2000, {"zero_tokens": 2000})
    assert kept(folder).read_bytes() == CONTENT
    assert list(folder.iterdir()) == [kept(folder)]


def test_what_is_here_is_not_brought_again(folder: Path, server: Server, capsys: Any) -> None:
    for _ in range(2):
        assert cli.main(["fetch", NAME]) == 0
    assert server.asked == [None]
    assert "2000 requests, 2000 left out (zero_tokens)" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_is_continued_or_begun_again(
    folder: Path, server: Server, capsys: Any, ranges: bool
) -> None:
    server.cut, server.ranges = 10_000, ranges
    assert "broke off after 10000 bytes; 0.0 MB are kept" in fails(capsys, NAME)
    assert part(folder).read_bytes() == CONTENT[:10_000]
    assert not kept(folder).exists()
    server.cut = None
    assert cli.main(["fetch", NAME]) == 0
    assert server.asked == [None, "bytes=10000-"]
    assert kept(folder).read_bytes() == CONTENT


def test_a_rest_that_is_longer_than_the_file_begins_again(folder: Path, server: Server) -> None:
    folder.mkdir()
    (folder / ".code.csv.part").write_bytes(CONTENT + b"more")
    assert cli.main(["fetch", "azure-2024-code"]) == 0
    assert server.asked == [f"bytes={len(CONTENT) + 4}-", None]
    assert (folder / "code.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("started", [b"", CONTENT[:-7] + b"9,99,9\n"])
def test_a_wrong_checksum_keeps_nothing(
    folder: Path, server: Server, capsys: Any, started: bytes
) -> None:
    if started:
        folder.mkdir()
        part(folder).write_bytes(started)
    else:
        server.content = CONTENT.replace(b"1,20,3", b"1,20,4", 1)
    line = fails(capsys, NAME)
    assert "is another file: its SHA-256 begins with" in line
    assert f"that of the trace with {DIGEST[:12]}" in line
    assert "nothing was kept" in line
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CONTENT[:40] + b"1,20,3\n", "it has 4,000 rows, this file 1"),
        (b"a,b\n1,2\n", "its first line is 'a,b'"),
    ],
)
def test_without_a_checksum_a_file_with_other_rows_is_refused_and_nothing_is_kept(
    folder: Path, tmp_path: Path, server: Server, capsys: Any, content: bytes, why: str
) -> None:
    (tmp_path / "other.csv").write_bytes(content)
    line = fails(capsys, "azure-2024-code", "--from", str(tmp_path / "other.csv"))
    assert why in line
    assert line.endswith("; nothing was kept")
    assert list(folder.iterdir()) == []
    assert cli.main(["fetch", "azure-2024-code"]) == 0
    assert (folder / "code.csv").read_bytes() == CONTENT


def test_without_a_checksum_a_file_with_other_rows_that_is_here_is_said(
    folder: Path, capsys: Any
) -> None:
    folder.mkdir()
    (folder / "code.csv").write_bytes(CONTENT[:40] + b"1,20,3\n2,20,3\n")
    line = fails(capsys, "azure-2024-code")
    assert "it has 4,000 rows, this file 2; remove" in line
    assert line.endswith("code.csv, then fetch")


def test_what_no_checksum_vouches_for_is_said_with_the_name_that_tasks_give_it(
    folder: Path, capsys: Any
) -> None:
    assert cli.main(["fetch", "azure-2024-code", NAME]) == 0
    unchecked, checked = (t for t in capsys.readouterr().err.splitlines() if "requests" in t)
    assert "no checksum is published, only its rows are checked" in unchecked
    assert unchecked.endswith(f"azure-2024-code@{DIGEST[:12]}")
    assert "no checksum" not in checked


def test_a_file_that_was_changed_here_is_not_taken_for_the_trace(folder: Path, capsys: Any) -> None:
    assert cli.main(["fetch", NAME]) == 0
    kept(folder).write_bytes(CONTENT + b"3,1,1\n")
    assert "is another file; remove it, then fetch" in fails(capsys, NAME)


def test_no_server_no_page_and_no_such_copy_are_said(
    folder: Path, server: Server, capsys: Any, tmp_path: Path
) -> None:
    assert "the server answered 404 Not Found" in fails(
        capsys, NAME, "--from", server.url.replace("trace", "other")
    )
    assert "Connection refused" in fails(capsys, NAME, "--from", "http://127.0.0.1:1/x")
    assert "gone.csv: No such file" in fails(capsys, NAME, "--from", str(tmp_path / "gone.csv"))
    assert "no http:// or https:// address" in fails(capsys, NAME, "--from", "ftp://x/y")
    assert not kept(folder).exists()


def test_a_disk_without_room_is_said_before_anything_comes(
    folder: Path, server: Server, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=100))
    assert "free some, or set CAMPAIGN_HOME" in fails(capsys, NAME)
    assert server.asked == []


def test_a_disk_that_fills_up_is_said(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("campaign.catalogue.download.shutil.copyfileobj", full)
    assert "No space left on device" in fails(capsys, NAME)
    assert not part(folder).exists()


def test_a_copy_serves_where_there_is_no_network(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.csv").write_bytes(CONTENT)
    assert cli.main(["fetch", NAME, "--from", str(tmp_path / "copy.csv")]) == 0
    assert kept(folder).read_bytes() == CONTENT


def test_a_file_of_ones_own_is_kept_under_the_name_of_its_content(
    folder: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "mine.csv").write_bytes(CONTENT)
    assert cli.main(["fetch", str(tmp_path / "mine.csv"), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["name"] == f"mine@{DIGEST[:12]}"
    assert Path(row["path"]).read_bytes() == CONTENT


def test_names_that_are_none_are_answered_with_the_nearest(folder: Path, capsys: Any) -> None:
    assert "did you mean azure-2023-conv" in fails(capsys, "azure-2023-cnv")
    assert "name that one" in fails(capsys, "--from", "x")
    assert "leave --from out" in fails(capsys, "./x.csv", "--from", "y")


def test_without_a_name_the_traces_are_listed(folder: Path, capsys: Any) -> None:
    assert cli.main(["fetch", NAME]) == 0
    assert cli.main(["fetch", "--json"]) == 0
    rows = {row["name"]: row["path"] for row in json.loads(capsys.readouterr().out)}
    assert rows[NAME] == str(kept(folder))
    assert rows["burstgpt-1"] is None
