"""A wire to a Postgres that can be cut and mended: the store is away for some, and up all along."""

from __future__ import annotations

import selectors
import socket
import threading
from pathlib import Path

from sqlalchemy.engine import make_url

SOCKET = ".s.PGSQL.{port}"


class Wire:
    """Passes bytes between a socket of its own and the server's; `url` leads through it."""

    def __init__(self, url: str, folder: Path) -> None:
        """Listen; `folder` gets the socket."""
        known = make_url(url)
        name = SOCKET.format(port=known.query["port"])
        self._theirs, self._ours = Path(str(known.query["host"])) / name, folder / name
        through = known.update_query_dict({"host": str(folder)})
        self.url = through.render_as_string(hide_password=False)
        self._pairs: list[socket.socket] = []
        self._changed = threading.Lock()
        self._listening: socket.socket | None = None
        self.mend()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        with self._changed:
            if self._listening is not None:
                self._ours.unlink()
                _end(self._listening)  # whoever waits on it closes it
                self._listening = None
            while self._pairs:
                _end(self._pairs.pop())

    def mend(self) -> None:
        """Accept connections again."""
        with self._changed:
            if self._listening is None:
                self._listening = socket.socket(socket.AF_UNIX)
                self._listening.bind(str(self._ours))
                self._ours.chmod(0o777)
                self._listening.listen(64)
                threading.Thread(target=self._accept, args=[self._listening], daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                listening.close()
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._theirs))
            with self._changed:
                self._pairs += [near, far]
                if self._listening is not listening:  # cut meanwhile
                    _end(near)
            threading.Thread(target=_pass, args=[near, far], daemon=True).start()


def _pass(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    with near, far, selectors.DefaultSelector() as waiting:
        for end in other:
            waiting.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                assert isinstance(key.fileobj, socket.socket)
                try:
                    data = key.fileobj.recv(1 << 16)
                    other[key.fileobj].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    _end(near)
                    _end(far)
                    return


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already
