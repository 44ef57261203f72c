"""A store with a campaign in it that measured, estimated, failed, and has something left."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import make_url

from db.campaigns import create_campaign, engine_id, enqueue, write_exclusions
from db.embedded import EmbeddedPostgres
from db.leases import LeasePolicy, Leases
from db.readings import EnergyEstimate, Loaded, Phase, PhaseEnergy, PhaseMethod, Window
from db.records import EngineSpec, Exclusion, ModelSpec, Outcome, Reality, Weights
from db.results import Owner, close_session, describe_session, open_session
from db.store import Store
from tests.store.world import ENGINE, MODEL, ground, measurement, reading, repeat, task
from workers.process import this_process

ON_CPU = EngineSpec(model=MODEL, backend="transformers", board="cpu:x:2")
REAL_MODEL = ModelSpec(name="llama-real", weights=Weights.REAL, commit="abc")
DRAFT = ModelSpec(name="llama-tiny", weights=Weights.REAL, commit="def")
ON_GPU = EngineSpec(
    model=REAL_MODEL, backend="vllm", board="a100-sxm-80gb", mode="online",
    speculation="draft_model", speculative_tokens=4, draft=DRAFT,
)  # fmt: skip
LOAD = {"arrival": "poisson", "rate_rps": 2.5, "decoding": "sample", "temperature": 0.7}
ESCAPE = "\x1b[31m"
TRACEBACK = f"Traceback\n  in a file\nRuntimeError: boom {ESCAPE}red\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A store, its two logins, and the ids in it that tests ask about."""

    store: Store
    url: str
    reader_url: str
    simulated: uuid.UUID
    failed_load: uuid.UUID

    @property
    def here(self) -> tuple[str, str]:
        """The overrides that name this store on a command line."""
        return f"store.url='{self.url}'", f"store.reader_url='{self.reader_url}'"

    def key(self, where: str) -> str:
        """The key of the first task of which this is true."""
        return str(self.value(f"select key from tasks where {where} order by id limit 1"))

    def value(self, sql: str) -> Any:
        """The only value of a statement's first row."""
        with self.store.begin() as connection:
            return connection.exec_driver_sql(sql).scalar_one()


@contextmanager
def filled(server: EmbeddedPostgres, name: str) -> Iterator[Filled]:
    """A campaign in a schema of its own: 4 simulated results of 6, 1 estimated, 1 measured."""
    with ground(server, name) as store:
        with store.begin() as connection:
            for rights in (f"usage on schema {name}", f"select on all tables in schema {name}"):
                connection.exec_driver_sql(f"grant {rights} to campaign_reader")
        simulated, failed_load = fill(store)
        path = {"options": f"-csearch_path={name}"}
        reader = make_url(server.reader_url()).update_query_dict(path)
        yield Filled(
            store=store,
            url=store.url,
            reader_url=reader.render_as_string(hide_password=False),
            simulated=simulated,
            failed_load=failed_load,
        )


PHASES = tuple(
    PhaseEnergy(phase=phase, method=PhaseMethod.STEPS, duration_s=1.0, energy_j=4.0, tokens=8)
    for phase in (Phase.PREFILL, Phase.DECODE)
)


def fill(store: Store) -> tuple[uuid.UUID, uuid.UUID]:
    campaign = _campaign(store)
    leases = Leases(store, LeasePolicy(max_faults=1))
    simulated = _session(store, campaign, ENGINE, Reality.SIMULATED, {"a": 1, "b": 2})
    for joules in (10.0, 11.0, 12.0, 13.0):
        claim = leases.claim(campaign, _engine(store, ENGINE), simulated)
        assert claim is not None
        marks = ["short_window"] if joules < 12 else []
        windows = [repeat(n, reading(joules + n), phases=PHASES) for n in range(3)]
        leases.finish(claim.lease_id, simulated, measurement(*windows, marks=marks))
    claim = leases.claim(campaign, _engine(store, ENGINE), simulated)
    assert claim is not None
    leases.give_back(
        claim.lease_id, simulated, Outcome.FAULTED, kind="out_of_memory", error=TRACEBACK
    )
    estimate = EnergyEstimate(energy_estimated_j=7.0, method="codecarbon")
    nothing = reading(None, reality=Reality.REAL, estimate=estimate)
    _measure(store, leases, campaign, ON_CPU, repeat(0, nothing))
    counted = reading(16.0, reality=Reality.REAL, method="nvml_counter")
    told = {"latencies": {"ttft_s": {"p50": 0.25}}, "counters": {"drafts": 8.0}, "straddling": 1}
    _measure(store, leases, campaign, ON_GPU, repeat(0, counted, **told))
    failed_load = _session(store, campaign, ENGINE, Reality.SIMULATED, {"a": 1, "b": 3})
    with store.begin() as connection:
        close_session(
            connection, failed_load, "failed", error="Traceback\nValueError: no engine",
            stderr_tail="first line\nlast words\n",
        )  # fmt: skip
    return simulated, failed_load


def _campaign(store: Store) -> int:
    tasks = [task(size, replicate=number) for number in (0, 1) for size in (1, 4, 8)]
    real = [task(size, engine=ON_CPU, reality=Reality.REAL) for size in (1, 4)]
    gpu = [task(1, engine=ON_GPU, reality=Reality.REAL, **LOAD)]
    left_out = Exclusion(
        engine=ENGINE, workload=None, reason="memory", detail="40 GB > 24 GB", points=4
    )
    with store.begin() as connection:
        campaign = create_campaign(connection, "quickstart", "me", "a: 1")
        enqueue(connection, campaign, [*tasks, *real, *gpu])
        write_exclusions(connection, campaign, [left_out])
        create_campaign(connection, "empty", "me", "a: 1")
    return campaign


def _engine(store: Store, engine: EngineSpec) -> int:
    with store.begin() as connection:
        return engine_id(connection, engine)


def _session(
    store: Store,
    campaign: int,
    engine: EngineSpec,
    reality: Reality,
    resolved: dict[str, int],
    owner: Owner | None = None,
) -> uuid.UUID:
    chosen = uuid.uuid4()
    with store.begin() as connection:
        open_session(
            connection,
            chosen,
            campaign_id=campaign,
            engine_id=engine_id(connection, engine),
            owner=owner or this_process(),
            gpu_uuids=["GPU-1"],
            meter="nvml",
            reality=reality,
        )
        loaded = Loaded(resolved=resolved, software={engine.backend: "1.0"}, pid=1)
        describe_session(connection, chosen, loaded, (), "nvml")
    return chosen


def _measure(
    store: Store, leases: Leases, campaign: int, engine: EngineSpec, window: Window
) -> None:
    """Measure one task of an engine in a session on another host."""
    elsewhere = Owner(host="elsewhere", boot="another boot", pid=7, pid_started_s=1.0)
    session = _session(store, campaign, engine, Reality.REAL, {"a": 1}, elsewhere)
    claim = leases.claim(campaign, _engine(store, engine), session)
    assert claim is not None
    leases.finish(claim.lease_id, session, measurement(window))
