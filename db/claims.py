"""Rows to judge published claims on, and the statements of the claims, run on them.

Owns the temporary tables `counted`, `phased` and `shapes` of one transaction (claims.sql). Writes
nothing that outlives it, and knows nothing of any claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.errors import ConfigError
from db.standing import campaigns
from db.store import Store, rows, statements

SQL = statements("claims.sql")

#: Marks that leave a row out of every comparison with a paper.
DOUBTFUL = ("short_window", "counter_disagrees", "aliased", "sample_gap")
#: Those of them that say that joules may be wrong; a short window is so by protocol.
IN_DOUBT = frozenset(DOUBTFUL) - {"short_window"}
#: Columns that say what a claim's rows must be for the comparison to be fair.
CONDITIONS = ("weights", "backend", "board", "board_count", "dtype", "mode", "lengths")

_JUDGED = """
with counted as (select * from pg_temp.counted where {where})
select point, figure::float8, attempts from ({sql}) claim where figure is not null
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One counted measurement; `relative_half_width` (95 %) is within its session."""

    attempt_id: int
    session: str
    task_key: str
    replicate: int
    reality: str
    weights: str
    protocol: str
    kin: str
    relative_half_width: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a statement says of one point: its figure, and the attempts it was made of."""

    point: str
    figure: float
    attempts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine of the counted rows, for telling its shape."""

    model: str
    architecture: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The shape of an engine's model: `parameters` in units of one, the others as counted."""

    parameters: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int


class Counted:
    """The rows that count, and the statements that are run on them."""

    def __init__(self, connection: Connection, campaign_id: int | None) -> None:
        """Gather the rows of one campaign, or of all, in the caller's transaction."""
        self._connection = connection
        values = {"doubtful": list(DOUBTFUL), "campaign_id": campaign_id}
        for name in ("counted", "phased", "shapes"):
            connection.exec_driver_sql(SQL[name], values if name == "counted" else {})
        connection.exec_driver_sql("analyze counted")
        found = (Source(**row._asdict()) for row in rows(connection, SQL["read"], {}))
        self.sources = {source.attempt_id: source for source in found}
        self.left_out = int(rows(connection, SQL["left_out"], {"campaign_id": campaign_id})[0][0])

    def tell_shapes(self, shape: Callable[[Built], Sizes | None]) -> None:
        """Say what the architectures of these engines amount to, where that can be told."""
        for row in rows(self._connection, SQL["engines"], {}):
            sizes = shape(Built(model=row.model, architecture=row.architecture))
            if sizes is not None:
                values = {"engine_id": row.id, **asdict(sizes)}
                self._connection.exec_driver_sql(SQL["shape"], values)

    def find(self, claim: str, sql: str, conditions: Mapping[str, Sequence[object]]) -> list[Found]:
        """Run a claim's statement on the rows that meet its conditions.

        The statement selects `point`, `figure` and `attempts` (an array) from `counted`, `phased`
        and `shapes`. ConfigError carries Postgres' own words.
        """
        where = " and ".join(f"{column} = any(%({column})s)" for column in conditions) or "true"
        values = {column: list(wanted) for column, wanted in conditions.items()}
        text = _JUDGED.format(where=where, sql=sql.replace("%", "%%"))
        try:
            found = rows(self._connection, text, values)
        except sa.exc.DBAPIError as error:
            words = str(error.orig).splitlines()[0]
            raise ConfigError(f"claim {claim}: its SQL does not run: {words}") from error
        return [self._one(claim, row) for row in found]

    def _one(self, claim: str, row: sa.Row[Any]) -> Found:
        attempts = tuple(sorted(set(row.attempts)))
        alike = {(self.sources[n].kin, self.sources[n].replicate) for n in attempts}
        if len(alike) != 1:
            raise ConfigError(f"claim {claim}: {row.point}: its SQL joins rows of two kinds")
        return Found(point=row.point, figure=row.figure, attempts=attempts)


@contextmanager
def counted(store: Store, campaign: str | None) -> Iterator[Counted]:
    """Yield the rows that count, of a campaign by its name or of all. Raises ConfigError."""
    with store.begin() as connection:
        campaign_id = None
        if campaign is not None:
            known = campaigns(connection)
            if campaign not in known:
                names = ", ".join(known) or "there is none yet"
                raise ConfigError(f"no campaign is called {campaign}; known: {names}")
            campaign_id = known[campaign].id
        yield Counted(connection, campaign_id)
