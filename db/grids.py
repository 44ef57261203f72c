"""What a campaign's grid was expanded from, what it came to by engine, and how fast that goes.

Owns `campaigns.grid`. Estimates stand there, never a measurement.
Everything here runs inside a transaction the caller opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.engine import Connection

from db.engines import read_engine
from db.records import EngineSpec, Workload
from db.store import rows, statements
from db.workloads import beyond_sizes

SQL = statements("grids.sql")

#: Attempts that `paces` looks back on.
NEWEST = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """An engine of a campaign: its tasks, and estimates of the mean task and of a load, seconds.

    `context_tokens` and `batch_size` are the most that one of its tasks asks for.
    """

    engine_id: int
    tasks: int
    task_s: float
    load_s: float
    context_tokens: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Seconds that a task of an engine and a workload is estimated to take."""

    engine_id: int
    workload: Workload
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Points of a grid that cannot work, for one reason."""

    reason: str
    detail: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """A campaign whose tasks are those of the grid that was asked for."""

    id: int
    engines: Sequence[tuple[Enrolled, EngineSpec]]
    exclusions: Sequence[Excluded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What sessions of an engine took lately: seconds of all `tasks`, and of all `loads`.

    `expected_s` are those that were estimated of the same tasks; the last of them ended `ago_s`
    ago, None where there is none.
    """

    tasks: int = 0
    tasks_s: float = 0.0
    expected_s: float = 0.0
    loads: int = 0
    loads_s: float = 0.0
    ago_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """The engines of a campaign with their estimates, and what they took lately, by engine id."""

    engines: Sequence[tuple[Enrolled, EngineSpec]]
    paces: Mapping[int, Pace]


def remember(
    connection: Connection,
    campaign_id: int,
    digest: str | None,
    engines: Iterable[Enrolled],
    works: Iterable[Expected] = (),
) -> None:
    """Note what a campaign's tasks were expanded from, and the engines they came to.

    Without a digest nobody finds them again by it: the next run expands its grid. A workload that
    is not among `works` is expected to take the mean of its engine.
    """
    grid = {
        "digest": digest,
        "engines": [asdict(engine) for engine in engines],
        "works": [_columns(work) for work in works],
    }
    values = {"campaign_id": campaign_id, "grid": json.dumps(grid)}
    connection.exec_driver_sql(SQL["remember"], values)


def _columns(work: Expected) -> dict[str, object]:
    """Return the columns of a task's workload, by which its row is found again."""
    asked = work.workload
    return {
        "engine_id": work.engine_id,
        "input_tokens": asked.input_tokens,
        "output_tokens": asked.output_tokens,
        "batch_size": asked.batch_size,
        "workload": json.loads(beyond_sizes(asked)),
        "seconds": round(work.seconds, 3),
    }


def recall(connection: Connection, name: str, digest: str) -> Recalled | None:
    """Return a campaign whose tasks are those of this grid; None if they are not, or not known."""
    found = rows(connection, SQL["recall"], {"name": name, "digest": digest})
    if not found:
        return None
    excluded = rows(connection, SQL["exclusions"], {"campaign_id": found[0].id})
    return Recalled(
        id=found[0].id,
        engines=enrolled(connection, found[0].id),
        exclusions=[Excluded(**row._asdict()) for row in excluded],
    )


def enrolled(connection: Connection, campaign_id: int) -> list[tuple[Enrolled, EngineSpec]]:
    """Return the engines of a campaign's grid; none where an older program expanded it."""
    names = Enrolled.__dataclass_fields__
    return [
        (Enrolled(**{name: getattr(row, name) for name in names}), read_engine(row))
        for row in rows(connection, SQL["engines"], {"campaign_id": campaign_id})
    ]


def pacing(connection: Connection, campaign_id: int) -> Pacing:
    """Return the estimates of a campaign's engines, and what corrects them."""
    engines = enrolled(connection, campaign_id)
    return Pacing(engines=engines, paces=paces(connection, campaign_id) if engines else {})


def paces(connection: Connection, campaign_id: int, newest: int = NEWEST) -> dict[int, Pace]:
    """Return what the newest attempts tell of a campaign's engines, by engine id."""
    found = rows(connection, SQL["paces"], {"campaign_id": campaign_id, "newest": newest})
    return {
        row.engine_id: Pace(tasks=row.tasks, tasks_s=row.tasks_s, expected_s=row.expected_s or 0.0,
                            loads=row.loads, loads_s=row.loads_s, ago_s=row.ago_s)
        for row in found
    }  # fmt: skip
