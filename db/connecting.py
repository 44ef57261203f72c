"""A connection to Postgres: how it is made, what it is told first, and how long it waits.

Owns what every connection of the program has in common. Never sends a statement of its own once
it is made.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen

log = logging.getLogger("campaign.store")

#: A server that vanished from the network is noticed within half a minute, not a quarter of an
#: hour. libpq's own parameters, in seconds and milliseconds.
CONNECTING = {
    "connect_timeout": 10,
    "application_name": "campaign",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
#: For connections that live long and ask for single rows: a plan is made once, without values, in
#: a store that may be empty then. It is to find its row by an index, and in that one's order: what
#: is cheapest without rows, or by a guess that there are few, reads or sorts a large table.
#: Until version 17 what is off and yet unavoidable counts as so costly that each statement would be
#: compiled first (`jit`), which takes a second.
BY_KEY = """
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off;
set enable_mergejoin = off; set enable_hashjoin = off; set jit = off
"""
#: Seconds without a word after which people are told what is waited for.
SILENT_S = 10.0
#: Seconds that a server may keep silent to somebody who has just come in.
GREETING_S = 30.0


def as_long_as_it_takes() -> float:
    """Return how many seconds a server may keep silent where nobody is in a hurry."""
    return math.inf


class Listening(psycopg.Connection[Any]):
    """A connection to the store that people know as `where`.

    `most_s` returns how many seconds its server may keep silent. One that is stopped, or whose disk
    hangs, still acknowledges what it is sent: no setting of TCP ends that wait.
    """

    where: str
    most_s: Callable[[], float] = staticmethod(lambda: GREETING_S)

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:  # noqa: ANN401 - psycopg's own
        """Wait for an answer; OperationalError, and no connection any more, where none comes."""
        return super().wait(self._heard(gen), *args, **kwargs)

    def _heard(self, gen: PQGen[RV]) -> Generator[Any, Any, RV]:
        """Pass on what is asked of the socket; psycopg comes back ten times a second."""
        heard_s, told = time.monotonic(), False
        try:
            wants = next(gen)
            while True:
                ready = yield wants
                silent_s = time.monotonic() - heard_s
                if ready:
                    heard_s += silent_s
                elif silent_s > self.most_s():
                    self.close()
                    raise psycopg.OperationalError(f"silent for {silent_s:.0f} s")
                elif silent_s > SILENT_S and not told:
                    told = True
                    log.warning(
                        "still waiting for the store %s, %.0f s so far: it is at work, waits for "
                        "somebody's lock, or hangs", self.where, silent_s,
                    )  # fmt: skip
                wants = gen.send(ready)
        except StopIteration as ended:
            result: RV = ended.value
            return result


def connected(
    words: Sequence[str], named: Mapping[str, Any], *, where: str, by_key: bool
) -> Listening:
    """Open a connection, for single rows where they are asked `by_key`.

    Behind a pooler the next transaction may be on another connection of the server's: nothing is
    left there for it, neither a setting, which others would get, nor a prepared statement.
    """
    made = Listening.connect(*words, **named)
    made.where = where
    try:
        (server,) = made.execute("select pg_backend_pid()").fetchone() or (None,)
        if server != made.info.backend_pid:  # a pooler makes up its own
            made.prepare_threshold = None
        elif by_key:
            made.execute(BY_KEY)
        made.commit()
    except BaseException:
        made.close()
        raise
    return made
