"""Reading request traces: when each request came, its prompt tokens and its generated tokens.

Owns which rows count (Azure LLM inference traces of 2023 and 2024, BurstGPT, and any CSV that
names the same columns) and says how many it left out and why. Streams: of a row it keeps 16
bytes. Never repairs a row, never clips a length.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from db.errors import ConfigError
from workers.workloads.tracelines import Columns, Ints, Lines, columns_of, parse

BLOCK_BYTES = 1 << 21
HEADER_BYTES = 1 << 12
#: Rows that are looked at together.
PART = 1 << 20
#: More tokens than any context holds: the file is not what it says.
MOST_TOKENS = 10_000_000
#: A file with a greater share of unreadable lines is not a trace.
MOST_UNREADABLE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in the file's order: `times_s` on the file's own clock, lengths in tokens.

    `rows` is how many the file has; `dropped` how many of them are not here, by reason:
    ``zero_tokens`` (a request that failed) and ``unreadable``.
    """

    times_s: array[float]
    input_tokens: array[int]
    output_tokens: array[int]
    rows: int
    dropped: Mapping[str, int]
    sha256: str

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.times_s)


def read_trace(path: Path) -> Trace:
    """Return the requests of a file.

    Raises ConfigError for a wrong header, no rows, or lengths that cannot be.
    """
    rows = _Rows(path.name)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            columns = columns_of(_header(stream, digest), path.name)
            for block in _blocks(stream, digest):
                rows.take(block, columns)
    except OSError as error:
        raise ConfigError(f"trace {path} cannot be read: {error.strerror}") from error
    return rows.trace(digest.hexdigest())


def without_any(path: Path, mosts: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the mosts, of prompt and output tokens, that leave out every request of a file.

    Reads no further than to a request for each. Raises ConfigError for a wrong header.
    """
    left = sorted(set(mosts))
    try:
        with path.open("rb") as stream:
            columns = columns_of(_header(stream, hashlib.sha256()), path.name)
            for block in _blocks(stream, hashlib.sha256()):
                lines = parse(block, columns)
                counts = (lines.inputs > 0) & (lines.outputs > 0)
                left = [
                    (i, o)
                    for i, o in left
                    if not (counts & (lines.inputs <= i) & (lines.outputs <= o)).any()
                ]
                if not left:
                    break
    except OSError as error:
        raise ConfigError(f"trace {path} cannot be read: {error.strerror}") from error
    return left


def order_of(trace: Trace) -> Sequence[int]:
    """Return the rows in order of time; rows of the same time keep the file's order."""
    times_s = np.frombuffer(trace.times_s)
    if all(bool((part[1:] >= part[:-1]).all()) for part in _parts(times_s)):
        return range(len(trace))
    return array("I", np.argsort(times_s, kind="stable").astype(np.uint32).tobytes())


def fitting(trace: Trace, input_tokens: int, output_tokens: int) -> int:
    """Return how many requests are no longer than this."""
    inputs = np.frombuffer(trace.input_tokens, np.uint32)
    outputs = np.frombuffer(trace.output_tokens, np.uint32)
    pairs = zip(_parts(inputs), _parts(outputs), strict=True)
    return sum(int(((i <= input_tokens) & (o <= output_tokens))[:PART].sum()) for i, o in pairs)


def _parts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a column in parts, each with the first value of the next: masks of all take memory."""
    return (values[at : at + PART + 1] for at in range(0, len(values), PART))


def _header(stream: BinaryIO, digest: hashlib._Hash) -> bytes:
    """Return the first line, or as much of it as a header may have."""
    line = stream.readline(HEADER_BYTES)
    digest.update(line)
    return line


def _blocks(stream: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    """Yield the rest of a file in blocks of whole lines, each line with its end."""
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
    if rest:
        yield rest + b"\n"


class _Rows:
    """The rows of a file so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._times_s, self._inputs, self._outputs = array("d"), array("I"), array("I")
        self._rows = 0
        self._lines = 1  # the header
        self._dropped: Counter[str] = Counter()
        self._unreadable_line = 0

    def take(self, block: bytes, columns: Columns) -> None:
        """Keep the rows of a block that count, and count the others."""
        lines = parse(block, columns)
        self._unreadable(lines)
        numbers = lines.lines[lines.readable] + self._lines + 1
        for values in (lines.inputs, lines.outputs):
            self._refuse(values, numbers)
        kept = (lines.inputs > 0) & (lines.outputs > 0)
        self._dropped["zero_tokens"] += len(kept) - int(kept.sum())
        self._times_s.frombytes(lines.times_s[kept].tobytes())
        self._inputs.frombytes(lines.inputs[kept].astype(np.uint32).tobytes())
        self._outputs.frombytes(lines.outputs[kept].astype(np.uint32).tobytes())
        self._rows += len(lines.lines)
        self._lines += block.count(b"\n")

    def _unreadable(self, lines: Lines) -> None:
        wrong = np.flatnonzero(~lines.readable)
        if len(wrong) and not self._unreadable_line:
            self._unreadable_line = int(lines.lines[wrong[0]]) + self._lines + 1
        self._dropped["unreadable"] += len(wrong)

    def _refuse(self, values: Ints, numbers: Ints) -> None:
        """Raise ConfigError for a length that no request has."""
        wrong = np.flatnonzero((values < 0) | (values > MOST_TOKENS))
        if len(wrong):
            tokens, line = int(values[wrong[0]]), int(numbers[wrong[0]])
            what = "below zero" if tokens < 0 else f"more than {MOST_TOKENS:,}"
            raise ConfigError(f"trace {self._name}: line {line} has {tokens} tokens, {what}")

    def trace(self, sha256: str) -> Trace:
        """Return what was kept. Raises ConfigError where that is no trace."""
        name, unreadable = self._name, self._dropped["unreadable"]
        if not self._rows:
            raise ConfigError(f"trace {name}: it has a header and no rows")
        if unreadable > MOST_UNREADABLE * self._rows:
            raise ConfigError(
                f"trace {name}: {unreadable} of {self._rows} lines are unreadable, the first is "
                f"line {self._unreadable_line}"
            )
        dropped = {reason: count for reason, count in self._dropped.items() if count}
        if not self._times_s:
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            raise ConfigError(f"trace {name}: none of its {self._rows} rows can be used ({why})")
        return Trace(times_s=self._times_s, input_tokens=self._inputs,
                     output_tokens=self._outputs, rows=self._rows, dropped=dropped,
                     sha256=sha256)  # fmt: skip
