"""A hub of models on this machine: answers as the real one does, to whoever may have what."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "5f1d" * 10
TOKEN = "hf_" + "k" * 34  # of nobody
_PATH = re.compile(r"/(?:api/models/)?(?P<name>[^/]+/[^/?]+)(?P<rest>/[^?]*)?")

#: How a hub refuses: status, code, words. Without a code it may be that nothing is there.
GATED = (403, "GatedRepo", "Access to this model is restricted. Visit its page to ask for access.")
NOBODY = (401, "", "Invalid username or password.")
NOT_FOUND = (404, "RepoNotFound", "Repository not found")
BUSY = (503, "", "Service Unavailable")
Refusal = tuple[int, str, str]


class Hub(ThreadingHTTPServer):
    """`files` are those of every repository, by name; `private` ones are given for the token.

    `gated` ones tell about themselves and give no file; `dripping` ones give a byte of it and hang
    up, however often they are asked; all the others are refused as listed.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.open: set[str] = set()
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.dripping: set[str] = set()
        self.refused: dict[str, Refusal] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """What makes the hub's own tools ask here, and keep what they get in a folder."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        found, hub = _PATH.match(self.path), self.server
        name, rest = (found["name"], found["rest"] or "") if found else ("", "")
        hub.asked.append(f"{self.command} {self.path}")
        with_token = self.headers["Authorization"] == f"Bearer {TOKEN}"
        about = self.path.startswith("/api/")
        if name in hub.refused:
            self._refuse(*hub.refused[name])
        elif name in hub.private and not with_token:
            self._refuse(*NOBODY)
        elif name in hub.gated and not about:
            self._refuse(*GATED)
        elif name not in hub.open | hub.private | hub.gated | hub.dripping:
            self._refuse(*(NOT_FOUND if with_token else NOBODY))
        elif about and rest.startswith("/tree/"):
            files = [{"type": "file", "path": path, "oid": _oid(content), "size": len(content)}
                     for path, content in hub.files.items()]  # fmt: skip
            self._send(json.dumps(files).encode())
        elif about:
            siblings = [{"rfilename": path} for path in hub.files]
            told = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(told).encode())
        else:
            content = hub.files[rest.rpartition("/")[2]]
            drips = name in hub.dripping and self.command == "GET"
            told = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT}
            self._send(content, told, most=1 if drips else None)

    def _send(
        self, content: bytes, headers: Mapping[str, str] | None = None, most: int | None = None
    ) -> None:
        self.send_response(200)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:most])
            self.close_connection = most is not None

    def _refuse(self, status: int, code: str, words: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", words)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Serve a hub on a thread for as long as it is needed."""
    hub = Hub(files)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
