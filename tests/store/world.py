"""Stores to prove things in: a schema of their own on the shared server, emptied for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from db import schema, tables
from db.campaigns import create_campaign, engine_id, enqueue
from db.embedded import EmbeddedPostgres
from db.identity import engine_digest, task_key
from db.leases import Claim, LeasePolicy, Leases, Wanted
from db.readings import Measurement, Reading, Window, WindowKind
from db.records import EngineSpec, MeasurementProtocol, ModelSpec, Reality, Task, Weights, Workload
from db.results import Owner, open_session
from db.store import Store

MODEL = ModelSpec(name="llama-small", weights=Weights.RANDOM, architecture={"hidden_size": 64})
ENGINE = EngineSpec(model=MODEL, backend="simulated", board="rtx-a6000")
PROTOCOL = MeasurementProtocol(
    name="quick",
    window_s=2.0,
    repeats=3,
    repeats_max=3,
    interval_target=0.05,
    warmup_max=4,
    warmup_agree=2,
    warmup_tolerance=0.2,
    idle_s=1.0,
)
BOOT = "boot-of-this-host"
FREE = {"lease_id": None, "lease_expires_at": None, "not_before": None}


def task(
    batch_size: int = 1,
    *,
    input_tokens: int = 8,
    output_tokens: int = 8,
    replicate: int = 0,
    engine: EngineSpec = ENGINE,
    protocol: MeasurementProtocol = PROTOCOL,
    reality: Reality = Reality.SIMULATED,
    **beyond: Any,
) -> Task:
    """A task; `beyond` its sizes, the fields of its workload."""
    work = Workload(
        input_tokens=input_tokens, output_tokens=output_tokens, batch_size=batch_size, **beyond
    )
    key = task_key(engine_digest(engine), work, protocol, reality, replicate)
    return Task(
        key=key,
        engine=engine,
        workload=work,
        protocol=protocol,
        reality=reality,
        replicate=replicate,
    )


def reading(
    energy_j: float | None = 10.0,
    *,
    duration_s: float = 2.0,
    reality: Reality = Reality.SIMULATED,
    method: str = "roofline",
    **more: Any,
) -> Reading:
    return Reading(
        started_ns=1_000,
        ended_ns=1_000 + round(duration_s * 1e9),
        started_at=1.7e9,
        reality=reality,
        energy_j=energy_j,
        energy_method=None if energy_j is None else method,
        reasons=more.pop("reasons", () if energy_j is not None else ("no_energy",)),
        **more,
    )


def repeat(ordinal: int = 0, read: Reading | None = None, **work: Any) -> Window:
    done = {"batches": 1, "requests": 1, "input_tokens": 8, "output_tokens": 8, **work}
    return Window(kind=WindowKind.REPEAT, ordinal=ordinal, reading=read or reading(), **done)


def measurement(*windows: Window, marks: Sequence[str] = ()) -> Measurement:
    return Measurement(windows=windows or (repeat(),), warmup_batches=2, marks=tuple(marks))


@contextmanager
def ground(
    server: EmbeddedPostgres, name: str = "ground", *, bare: bool = False
) -> Iterator[Store]:
    """A store in a Postgres schema of its own, dropped at the end; a bare one has no tables."""
    keeper = sa.create_engine(server.owner_url(), isolation_level="AUTOCOMMIT")
    url = make_url(server.owner_url()).update_query_dict(
        {"options": f"-csearch_path={name} -csynchronous_commit=off"}
    )
    store = Store(url.render_as_string(hide_password=False))
    try:
        with keeper.connect() as connection:
            connection.exec_driver_sql(f"drop schema if exists {name} cascade")
            connection.exec_driver_sql(f"create schema {name}")
            if not bare:
                schema.upgrade(store)
            yield store
            store.close()
            connection.exec_driver_sql(f"drop schema {name} cascade")
    finally:
        store.close()
        keeper.dispose()


class World:
    """An emptied store with one campaign of some tasks, and short words for what tests do."""

    def __init__(self, store: Store, tasks: Sequence[Task] = ()) -> None:
        self.store = store
        with store.begin() as connection:  # four times as fast as truncate
            connection.execute(sa.update(tables.tasks).values(state="excluded", reason="", **FREE))
            for table in reversed(tables.metadata.sorted_tables):
                connection.execute(sa.delete(table))
        self.campaign_id = self.campaign("proof", tasks)
        self.engine_id = self.engine()
        self.leases = self.under(LeasePolicy())

    def under(self, policy: LeasePolicy) -> Leases:
        return Leases(self.store, policy)

    def campaign(self, name: str, tasks: Sequence[Task]) -> int:
        with self.store.begin() as connection:
            found = create_campaign(connection, name, "me", "a: 1")
            enqueue(connection, found, tasks)
            return found

    def engine(self, engine: EngineSpec = ENGINE) -> int:
        with self.store.begin() as connection:
            return engine_id(connection, engine)

    def session(self, engine: int | None = None, reality: Reality = Reality.SIMULATED) -> uuid.UUID:
        chosen = uuid.uuid4()
        with self.store.begin() as connection:
            open_session(
                connection,
                chosen,
                campaign_id=self.campaign_id,
                engine_id=engine or self.engine_id,
                owner=Owner(host="h", boot=BOOT, pid=1, pid_started_s=1.0),
                gpu_uuids=[],
                meter="none",
                reality=reality,
            )
        return chosen

    def claim(self, session: uuid.UUID, leases: Leases | None = None) -> Claim:
        """Claim a task that must be there."""
        found = (leases or self.leases).claim(self.campaign_id, self.engine_id, session)
        assert found is not None, "nothing to claim"
        return found

    def wanted(self, session: uuid.UUID) -> Wanted:
        """Any task that comes next."""
        return Wanted(campaign_id=self.campaign_id, engine_id=self.engine_id, session_id=session,
                      keys=None, replicate=None)  # fmt: skip

    def nothing_to_claim(self) -> bool:
        return self.leases.claim(self.campaign_id, self.engine_id, self.session()) is None

    def expire(self, *leases: uuid.UUID) -> None:
        """Make leases old; waiting for it would prove the same, later."""
        self.sql(
            "update tasks set lease_expires_at = now() - interval '1 second' "
            "where lease_id = any(%(leases)s) and state = 'leased'",
            leases=list(leases),
        )

    def reap(self, max_lost: int = 3) -> int:
        """Reap as if the server had been up for long."""
        return self.under(LeasePolicy(lease_s=0.0, max_lost=max_lost)).reap()

    def sql(self, text: str, **values: Any) -> list[Any]:
        """Run a statement and commit; returns its rows, if it has any."""
        with self.store.begin() as connection:
            found = connection.exec_driver_sql(text, values)
            return list(found.fetchall()) if found.returns_rows else []

    def one(self, text: str, **values: Any) -> Any:
        """Return the only value of the only row."""
        (row,) = self.sql(text, **values)
        (value,) = row
        return value

    def task(self, task_id: int) -> Any:
        (row,) = self.sql("select * from tasks where id = %(id)s", id=task_id)
        return row

    def state(self, task_id: int) -> str:
        return str(self.task(task_id).state)

    def outcomes(self, task_id: int) -> list[str | None]:
        """The outcomes of a task's attempts, oldest first."""
        text = "select outcome from attempts where task_id = %(id)s order by number"
        return [row.outcome for row in self.sql(text, id=task_id)]

    def counted(self) -> list[tuple[str, float | None]]:
        """(task key, joules) of the rows that count."""
        text = "select task_key, energy_j from measurements order by task_key"
        return [(row.task_key, row.energy_j) for row in self.sql(text)]
