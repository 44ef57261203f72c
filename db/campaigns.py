"""Campaigns, their engines and tasks: written once.

Enqueueing is by COPY into a temporary table, so that a million tasks cost little more than the
bare copy. Everything here runs inside a transaction the caller opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import Connection

from db import tables
from db.identity import PROTOCOL_FIELDS, digest, engine_digest
from db.records import EngineSpec, Exclusion, MeasurementProtocol, ModelSpec, Task
from db.store import rows, statements
from db.workloads import beyond_sizes

SQL = statements("campaigns.sql")
Spec = TypeVar("Spec", EngineSpec, MeasurementProtocol)

#: Rows that are sent at once.
BLOCK = 4096


def create_campaign(connection: Connection, name: str, owner: str, config: str) -> int:
    """Create a campaign, or refresh its configuration; returns its id."""
    statement = insert(tables.campaigns).values(name=name, owner=owner, config=config)
    statement = statement.on_conflict_do_update(
        index_elements=["name"], set_={"config": statement.excluded.config}
    )
    return int(connection.execute(statement.returning(tables.campaigns.c.id)).scalar_one())


def engine_id(connection: Connection, engine: EngineSpec) -> int:
    """Return the id of an engine, writing it on first sight."""
    return _upsert(
        connection,
        tables.engines,
        {
            "digest": engine_digest(engine),
            "model": engine.model.name,
            "model_commit": engine.model.commit,
            "weights": str(engine.model.weights),
            "architecture": dict(engine.model.architecture),
            "backend": engine.backend,
            "backend_version": engine.version,
            "dtype": engine.dtype,
            "quantization": engine.quantization,
            "tensor_parallel": engine.tensor_parallel,
            "threads": engine.threads,
            "board": engine.board,
            "board_count": engine.board_count,
            "options": dict(engine.options),
            "mode": engine.mode,
            "speculation": engine.speculation,
            "speculative_tokens": engine.speculative_tokens,
            "draft": _model(engine.draft) if engine.draft else None,
            "power_limit_w": engine.power_limit_w,
        },
    )


def _model(model: ModelSpec) -> dict[str, Any]:
    return {
        "name": model.name,
        "weights": str(model.weights),
        "commit": model.commit,
        "architecture": dict(model.architecture),
    }


def protocol_id(connection: Connection, protocol: MeasurementProtocol) -> int:
    """Return the id of a protocol, writing it on first sight."""
    numbers = _numbers(protocol)
    values = {"digest": digest(numbers), "name": protocol.name, "numbers": numbers}
    return _upsert(connection, tables.protocols, values)


def _numbers(protocol: MeasurementProtocol) -> dict[str, Any]:
    return {name: getattr(protocol, name) for name in PROTOCOL_FIELDS}


def read_protocol(connection: Connection, protocol: int) -> MeasurementProtocol:
    """Return a stored protocol."""
    table = tables.protocols
    row = connection.execute(sa.select(table).where(table.c.id == protocol)).one()
    return MeasurementProtocol(name=row.name, **row.numbers)


def _upsert(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> int:
    statement = insert(table).values(values).on_conflict_do_nothing(index_elements=["digest"])
    written = connection.execute(statement.returning(table.c.id)).scalar()
    if written is None:
        found = sa.select(table.c.id).where(table.c.digest == values["digest"])
        written = connection.execute(found).scalar_one()
    return int(written)


def enqueue(connection: Connection, campaign_id: int, tasks: Sequence[Task]) -> int:
    """Make a campaign ask for exactly these tasks; returns how many the store had not seen.

    Tasks queued or measured before, by any campaign, are shared. A task the campaign asked for
    earlier and no longer does leaves the campaign; its results stay in the store.
    """
    engine_ids = _ids(connection, (t.engine for t in tasks), engine_digest, engine_id)
    protocol_ids = _ids(
        connection, (t.protocol for t in tasks), lambda p: digest(_numbers(p)), protocol_id
    )
    connection.exec_driver_sql(SQL["memory"])
    connection.exec_driver_sql(SQL["stage"])
    lines = _lines(tasks, engine_ids, protocol_ids)
    cursor = connection.connection.cursor()
    with cursor.copy(SQL["copy"]) as copy:
        while block := "".join(islice(lines, BLOCK)):
            copy.write(block)
    new = connection.exec_driver_sql(SQL["enqueue"]).rowcount
    connection.exec_driver_sql(SQL["ask_for"], {"campaign_id": campaign_id})
    connection.exec_driver_sql(SQL["unstage"])
    return new


def _lines(
    tasks: Iterable[Task], engine_ids: Mapping[int, int], protocol_ids: Mapping[int, int]
) -> Iterator[str]:
    """Yield the rows of tasks in COPY's text format, which psycopg writes more slowly by row.

    Workloads by their `id()`: a grid has few of them and many tasks.
    """
    asked: dict[int, str] = {}
    for ordinal, task in enumerate(tasks):
        work = task.workload
        columns = asked.get(id(work))
        if columns is None:
            more = _escaped(beyond_sizes(work))
            sizes = f"{work.input_tokens}\t{work.output_tokens}\t{work.batch_size}"
            columns = asked[id(work)] = f"{sizes}\t{more}"
        key = f"{_escaped(task.key)}\t{engine_ids[id(task.engine)]}"
        rest = f"{task.reality}\t{task.replicate}\t{ordinal}"
        yield f"{key}\t{protocol_ids[id(task.protocol)]}\t{columns}\t{rest}\n"


def _escaped(text: str) -> str:
    """Return a text as COPY's text format has it."""
    text = text.replace("\\", "\\\\").replace("\t", "\\t")
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _ids(
    connection: Connection,
    specs: Iterable[Spec],
    digest_of: Callable[[Spec], str],
    write: Callable[[Connection, Spec], int],
) -> dict[int, int]:
    """Return the row of each object, by its `id()`.

    Written in the order of their digests, so that two enqueues that share some never wait for
    each other.
    """
    objects = {id(spec): spec for spec in specs}
    digests = {key: digest_of(spec) for key, spec in objects.items()}
    distinct = {digests[key]: spec for key, spec in objects.items()}
    written = {name: write(connection, distinct[name]) for name in sorted(distinct)}
    return {key: written[name] for key, name in digests.items()}


def write_exclusions(
    connection: Connection, campaign: int, exclusions: Sequence[Exclusion]
) -> None:
    """Replace the exclusions of a campaign."""
    table = tables.exclusions
    connection.execute(sa.delete(table).where(table.c.campaign_id == campaign))
    values = [
        {
            "campaign_id": campaign,
            "ordinal": ordinal,
            "engine": exclusion.engine.label,
            "workload": exclusion.workload.label if exclusion.workload else None,
            "reason": exclusion.reason,
            "detail": exclusion.detail,
            "points": exclusion.points,
        }
        for ordinal, exclusion in enumerate(exclusions)
    ]
    if values:
        connection.execute(sa.insert(table), values)


def done_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return which of the task keys have a result."""
    table = tables.tasks
    asked = sa.literal(list(keys), ARRAY(sa.Text))
    query = sa.select(table.c.key).where(table.c.state == "done", table.c.key == sa.any_(asked))
    return set(connection.execute(query).scalars())


def frozen_commits(connection: Connection, name: str) -> dict[str, str]:
    """Return the commits of real weights that a campaign was created with, by model."""
    found = rows(connection, SQL["frozen_commits"], {"name": name})
    return {row.model: row.model_commit for row in found}


def outcome_rows(connection: Connection, campaign_id: int) -> list[dict[str, Any]]:
    """Return the accepted measurements of a campaign, one mapping a row."""
    found = rows(connection, SQL["outcome"], {"campaign_id": campaign_id})
    return [dict(row._mapping) for row in found]


def trouble_rows(connection: Connection, campaign_id: int) -> list[dict[str, Any]]:
    """Return the quarantined and excluded tasks of a campaign, one mapping a row."""
    found = rows(connection, SQL["trouble"], {"campaign_id": campaign_id})
    return [dict(row._mapping) for row in found]
