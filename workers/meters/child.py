"""A helper process of a meter: JSON lines over its pipes, and no way to outlive its parent.

It owns the two ends of the conversation. The child ends on the end of its input, and, should a
forked sibling hold that pipe open, as soon as its parent is another process than the one that
started it. It inherits no file descriptor but its pipes. What it last said on stderr is kept, for
whoever asks why it is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

Message = Mapping[str, object]

CHUNK_BYTES = 1 << 16
#: What is kept of a child's stderr, and how long its end is waited for: a grandchild may hold it.
SAID_BYTES, SAID_S = 4096, 1.0

_ROOT = Path(__file__).resolve().parents[2]


class ChildGone(Exception):
    """The child died, or did not answer in time (it is dead by the time this is raised).

    `said` is the end of what it wrote to stderr; the message holds the last line of that.
    """

    def __init__(self, what: str, said: str = "") -> None:
        """Say what became of it, and its last words."""
        lines = said.strip().splitlines()
        super().__init__(f"{what}: {lines[-1].strip()}" if lines else what)
        self.said = said


class Child:
    """The parent's end: one child running `module`, asked and answered in turn."""

    def __init__(
        self, module: str, settings: Message, *, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start the child; `settings` is its first line of input."""
        env = dict(os.environ if environ is None else environ)
        env["PYTHONPATH"] = os.pathsep.join(p for p in (str(_ROOT), env.get("PYTHONPATH")) if p)
        # -P and cwd: a folder called `workers` where the user stands must not shadow this package.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=env, cwd="/", bufsize=0,
        )  # fmt: skip
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._pending = b""
        self._said = b""
        self._listener = _deaf_to_signals(self._listen)
        self.send(settings)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send one message. Raises ChildGone."""
        try:
            self._input.write(json.dumps(message).encode() + b"\n")
        except (BrokenPipeError, ValueError) as error:
            self.stop()
            raise self._gone("is gone") from error

    def receive(self, timeout_s: float) -> Message:
        """Return the next answer, however long it is.

        Raises ChildGone, after killing a child that keeps silent for `timeout_s`.
        """
        chunks = [self._pending]
        while b"\n" not in chunks[-1]:
            chunks.append(self._read(timeout_s))
            if not chunks[-1]:
                self.stop()
                raise self._gone("did not answer")
        last, self._pending = chunks[-1].split(b"\n", 1)
        answer: Message = json.loads(b"".join([*chunks[:-1], last]))
        return answer

    def _gone(self, what: str) -> ChildGone:
        said = self._said.decode(errors="replace")
        return ChildGone(f"the helper process {self.pid} {what}", said)

    def _listen(self) -> None:
        """Keep the end of what the child says on stderr: it must never wait for a reader."""
        with cast("IO[bytes]", self._process.stderr) as stderr:
            while chunk := stderr.read(CHUNK_BYTES):
                self._said = (self._said + chunk)[-SAID_BYTES:]

    def _read(self, timeout_s: float) -> bytes:
        """Return what the child wrote; nothing if it is gone or keeps silent."""
        if self._output.closed or not select.select([self._output], [], [], timeout_s)[0]:
            return b""
        return os.read(self._output.fileno(), CHUNK_BYTES)

    def ask(self, message: Message, timeout_s: float) -> Message:
        """Send a message and return its answer. Raises ChildGone."""
        self.send(message)
        return self.receive(timeout_s)

    def stop(self, patience_s: float = 1.0) -> None:
        """End the child: close its input, and kill it if it does not follow. Safe to repeat."""
        self._input.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._listener.join(SAID_S)


def _deaf_to_signals(work: Callable[[], None]) -> threading.Thread:
    """Start a thread that no signal is delivered to: whoever masks or awaits them has them all."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


class Parent:
    """The child's end: requests in, answers out, and the knowledge of whether the parent lives."""

    def __init__(self) -> None:
        """Take the pipes over; whatever a library prints from now on goes to stderr."""
        self._parent = int(sys.argv[1])
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._pending = b""
        # Ctrl-C reaches the whole foreground group; the parent decides what to do about it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def answer(self, message: Message) -> None:
        """Send one answer."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._out, data) :]

    def alive(self) -> bool:
        """Whether the parent is still the process that started this one."""
        return os.getppid() == self._parent

    def requests(self, wait_s: Callable[[], float] = lambda: 1.0) -> Iterator[Message | None]:
        """Yield each request, or None when none came for `wait_s()`; ends with the parent."""
        while self.alive():
            if b"\n" not in self._pending:
                if not select.select([0], [], [], max(0.0, wait_s()))[0]:
                    yield None
                    continue
                chunk = os.read(0, CHUNK_BYTES)
                if not chunk:
                    return
                self._pending += chunk
                continue
            line, self._pending = self._pending.split(b"\n", 1)
            yield json.loads(line)


def integer(value: object) -> int:
    """Return a message's value that must be an integer. Raises TypeError."""
    if not isinstance(value, int):
        raise TypeError(f"not an integer: {value!r}")
    return value


def items(value: object) -> list[object]:
    """Return a message's value that must be a list. Raises TypeError."""
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r}")
    return value


def mapping(value: object) -> Message:
    """Return a message's value that must be a mapping. Raises TypeError."""
    if not isinstance(value, dict):
        raise TypeError(f"not a mapping: {value!r}")
    return value
