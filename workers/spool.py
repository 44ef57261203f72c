"""Attempts that ended while the store was away: a file each, until the store has them.

Owns the form of the files, and that a file is there whole or not at all. It decides nothing about
a task: that is the lease statements' business. It never removes a file that the store did not
answer for, and never guesses at what a damaged one held.
"""

from __future__ import annotations

import hashlib
import json
import os
import types
import typing
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from db.errors import ConfigError, LeaseLost, StoreUnavailable
from db.leases import Leases
from db.readings import Measurement
from db.records import Outcome
from db.store import refusals

#: Changes when a field does that older programs cannot do without.
FORMAT = 1
#: A power trace has megabytes; what is larger than this is no attempt.
MAX_BYTES = 1 << 28
SUFFIX = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended, with the token to write it.

    `measurement` is there if it was finished or voided, `kind` and `error` if it was not accepted.
    `store` is where its lease came from, as people know it.
    """

    task_id: int
    key: str
    lease_id: uuid.UUID
    session_id: uuid.UUID
    outcome: Outcome
    measurement: Measurement | None = None
    kind: str | None = None
    error: str | None = None
    permanent: bool = False
    store: str = ""


def send(leases: Leases, ended: Ended) -> Outcome:
    """Write how an attempt ended; repeating it changes nothing. Returns what it counts as."""
    if ended.outcome is Outcome.OK:
        if ended.measurement is None:
            raise ConfigError("it says that it was measured, and holds no measurement")
        return leases.finish(ended.lease_id, ended.session_id, ended.measurement)
    leases.give_back(
        ended.lease_id,
        ended.session_id,
        ended.outcome,
        kind=ended.kind,
        error=ended.error,
        permanent=ended.permanent,
        measurement=ended.measurement,
    )
    if ended.kind == "out_of_memory":
        leases.exclude_larger(ended.task_id)
    return ended.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a spool sent: how many attempts by outcome, and what could not be sent, a line each.

    `elsewhere` counts attempts whose lease another store gave.
    """

    outcomes: Mapping[str, int]
    problems: tuple[str, ...] = ()
    elsewhere: int = 0


class Spool:
    """A folder of ended attempts, for the eyes of its owner alone."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something has to be kept."""
        self.folder = folder

    def keep(self, ended: Ended) -> Path:
        """Write an attempt, whole or not at all, and see it on the disk; returns its file."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"{ended.lease_id}{SUFFIX}"
        draft = self.folder / f".{ended.lease_id}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_packed(ended))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path

    def files(self) -> list[Path]:
        """Return the files of the attempts that are kept."""
        return sorted(self.folder.glob(f"[!.]*{SUFFIX}")) if self.folder.is_dir() else []

    def deliver(self, leases: Leases, store: str) -> Delivery:
        """Send everything that is kept to the store that people know as `store`.

        A file goes once the store has answered for it; one that cannot be sent stays. Raises
        StoreUnavailable where the store does not answer.
        """
        outcomes: dict[str, int] = {}
        problems: list[str] = []
        elsewhere = 0
        for path in self.files():
            try:
                ended = read(path)
                outcome = _delivered(leases, ended, store)
            except StoreUnavailable:
                raise
            except FileNotFoundError:  # another process has just sent it
                continue
            except (ConfigError, LeaseLost, OSError) as error:
                problems.append(f"{path}: {error}; it stays there")
            else:
                if outcome is None:
                    elsewhere += 1
                    continue
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                path.unlink(missing_ok=True)
        return Delivery(outcomes=outcomes, problems=tuple(problems), elsewhere=elsewhere)


def _delivered(leases: Leases, ended: Ended, store: str) -> Outcome | None:
    """Send an attempt to the store that gave its lease; None if that is another one."""
    try:
        leases.require(ended.lease_id, ended.session_id, ended.key)
    except LeaseLost:
        if ended.store != store:
            return None
        raise
    with refusals():
        return send(leases, ended)


# ---- the form of a file ------------------------------------------------------------------------


def _packed(ended: Ended) -> str:
    body = json.dumps(asdict(ended), default=str, sort_keys=True)
    return json.dumps({"format": FORMAT, "sha256": _digest(body), "attempt": json.loads(body)})


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def read(path: Path) -> Ended:
    """Return the attempt in a file. Raises ConfigError for anything but a whole one of ours."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > MAX_BYTES:
            raise ConfigError(f"is larger than {MAX_BYTES >> 20} MB: no spooled attempt")
        text = file.read(MAX_BYTES)
    try:
        packed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is no whole JSON document ({error})") from error
    if not isinstance(packed, dict) or "attempt" not in packed:
        raise ConfigError("is no spooled attempt")
    if packed.get("format") != FORMAT:
        said = str(packed.get("format"))[:20]
        raise ConfigError(f"has format {said}, this program reads {FORMAT}: use the one it is from")
    if packed.get("sha256") != _digest(json.dumps(packed["attempt"], sort_keys=True)):
        raise ConfigError("was changed or damaged: its SHA-256 is another")
    ended: Ended = _value(Ended, packed["attempt"], "attempt")
    return ended


def _value(kind: Any, found: object, where: str) -> Any:  # noqa: ANN401 - of whatever type is asked
    """Return a JSON value as the type that a field declares. Raises ConfigError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not types.NoneType)
        return None if found is None else _value(inner, found, where)
    if origin is tuple and isinstance(found, list):
        return tuple(_value(arguments[0], one, f"{where}[{n}]") for n, one in enumerate(found))
    if origin is Mapping and isinstance(found, dict):
        return {key: _value(arguments[1], one, f"{where}.{key}") for key, one in found.items()}
    if is_dataclass(kind) and isinstance(found, dict):
        return _record(kind, found, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum | uuid.UUID) and isinstance(found, str):
        with suppress(ValueError):
            return kind(found)
    if kind is float and type(found) in (int, float):
        return float(typing.cast("float", found))
    if type(found) is kind:
        return found
    raise ConfigError(f"{where}: {str(found)[:40]!r} is no {getattr(kind, '__name__', kind)}")


def _record(kind: Any, found: Mapping[str, object], where: str) -> object:  # noqa: ANN401 - a class
    """Return a dataclass from its fields, all of which must be known, and there if required."""
    declared = typing.get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for name in found.keys() - names:
        raise ConfigError(f"{where}.{name[:40]}: is no field of it")
    values = {n: _value(declared[n], found[n], f"{where}.{n}") for n in names & found.keys()}
    try:
        made: object = kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
    return made
