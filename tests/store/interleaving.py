"""Two connections stepped by hand: statements run when told, commit when told, and waiting is seen.

No step depends on time: whether a statement waits for a lock is what Postgres says of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from sqlalchemy.engine import Connection

from db.connecting import Listening
from db.leases import LeasePolicy, Leases
from db.store import Store
from tests.store.world import World

T = TypeVar("T")
DEADLINE_S = 30.0


class Hand(Store):
    """A store of one connection whose transaction stays open until `commit`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._held = self._engine.connect()
        self.pid = self._held.exec_driver_sql("select pg_backend_pid()").scalar_one()
        self._held.rollback()
        self._thread = ThreadPoolExecutor(1)
        self.running: Future[Any] | None = None

    def retrying(self, work: Callable[[Connection], T], *, single: bool = False) -> T:
        if not self._held.in_transaction():
            self._held.begin()
        return work(self._held)

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Run something on this connection that may have to wait."""
        self.running = self._thread.submit(call)
        return self.running

    def commit(self) -> None:
        self._held.commit()

    def leave(self) -> None:
        """Roll back whatever is open, once the statement that runs has come back."""
        if self.running is not None:
            self.running.exception(DEADLINE_S)
        self._held.rollback()
        self._held.close()
        self._thread.shutdown()
        self.close()


class Stage:
    """A world, and hands on its store."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hands: list[Hand] = []

    def hand(self) -> Hand:
        self.hands.append(Hand(self.world.store.url))
        return self.hands[-1]

    def leases(self, hand: Hand, policy: LeasePolicy | None = None) -> Leases:
        return Leases(hand, policy or LeasePolicy())

    def waits(self, hand: Hand) -> None:
        """Return as soon as the hand's statement waits for a lock; fail if it does not wait."""
        assert self._waits(hand), "it did not wait"

    def at_once(self, hand: Hand, running: Future[T]) -> T:
        """Return the result of a statement that must not wait for any lock."""
        assert not self._waits(hand), "it waited"
        return running.result()

    def _waits(self, hand: Hand) -> bool:
        """Whether the hand's statement waits (True) or came back (False), whichever is first."""
        assert hand.running is not None
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if hand.running.done():
                return False
            if self.world.one("select pg_blocking_pids(%(pid)s)", pid=hand.pid):
                return True
        raise TimeoutError("the statement neither waits nor comes back")

    def leave(self) -> None:
        idle = [hand for hand in self.hands if hand.running is None or hand.running.done()]
        for hand in [*idle, *(hand for hand in self.hands if hand not in idle)]:
            hand.leave()


@contextmanager
def stage(world: World) -> Iterator[Stage]:
    """Hands for one scene; what they left open is rolled back."""
    scene = Stage(world)
    try:
        yield scene
    finally:
        scene.leave()


class Forgetful(Listening):
    """A connection that dies around its next commit, as often as `deaths` says how.

    A statement that is a transaction of its own commits as well.
    """

    where = "forgetful"
    deaths: list[str]

    def commit(self) -> None:
        with self.dying():
            super().commit()

    @contextmanager
    def dying(self) -> Iterator[None]:
        how = self.deaths.pop(0) if self.deaths else None
        if how == "unheard":  # killed by the server: what was sent is rolled back
            with psycopg.connect(self.info.dsn, autocommit=True) as other:
                other.execute("select pg_terminate_backend(%s)", (self.info.backend_pid,))
        yield
        if how == "unanswered":  # committed, and nobody hears of it
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        if not self.autocommit:
            with super().pipeline() as sent:
                yield sent
            return
        with self.dying(), super().pipeline() as sent:  # its end commits
            yield sent


class ForgetfulCursor(psycopg.Cursor[Any]):
    """A cursor of such a connection."""

    connection: Forgetful

    def execute(self, *arguments: Any, **named: Any) -> Self:
        if not self.connection.autocommit or self.connection.pgconn.pipeline_status:
            return super().execute(*arguments, **named)
        with self.connection.dying():
            return super().execute(*arguments, **named)


@contextmanager
def losing(world: World, *deaths: str) -> Iterator[Store]:
    """A store whose connections die at its first commits: ``unheard`` or ``unanswered``."""
    left = list(deaths)

    class Dying(Forgetful):
        deaths = left

    class Losing(Store):
        def _connect(self, words: Sequence[Any], named: Mapping[str, Any]) -> Listening:
            return Dying.connect(*words, **named, cursor_factory=ForgetfulCursor)

    store = Losing(world.store.url)
    try:
        yield store
        assert not left, f"connections did not die: {left}"
    finally:
        store.close()
