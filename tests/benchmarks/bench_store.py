"""What the store costs: a million tasks enqueued and resumed, and one task measured among them.

Ratios of one run, each against the baseline that its name says, so that figures of a busy machine
still compare. BENCH_QUICK=1 takes a tenth of the tasks. A missed limit fails the run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psycopg
import pytest

from db.dumping import libpq_url
from db.embedded import EmbeddedPostgres
from tests.conftest import end_processes_below

pytestmark = pytest.mark.timeout(3600)

ROOT = Path(__file__).resolve().parents[2]
QUICK = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
TASKS, FEW = (100_000 if QUICK else 1_000_000), 1_000
#: Speed of expanding and enqueueing over that of the COPY; bytes that it may take.
SPEED, PEAK_BYTES = 0.4, 1e9
#: Seconds until a resumed campaign dispatches, without the start of Ray.
FIRST_DISPATCH_S = 5.0
#: A task over a bare actor call with one committed INSERT; among many tasks over among few.
OVERHEAD, GROWTH = 1.5, 1.2
#: Tasks that are timed one after the other; the first ones, for which statements are parsed, not.
TIMED, UNTIMED = 80, 10
#: How often all are timed in turn: a busy machine is busy for each, and a slow one slow.
ROUNDS = 5
#: The longest of the prompts among many tasks; among few all have half of it.
LONGEST = TASKS // 10_000
#: Columns of a task that its enqueue writes.
COLUMNS = (
    "key, engine_id, protocol_id, input_tokens, output_tokens, batch_size, workload, reality, "
    "replicate, ordinal"
)
START = """
import json, resource, sys, time
import campaign.configuration.validate
campaign.configuration.validate.MAX_POINTS = 10**7
from campaign.configuration.config import load
from db.place import Place, opened
place, settings = Place(folder=sys.argv[1]), load(json.loads(sys.argv[2]))
"""
#: Prints tasks, seconds of the expansion and of the enqueue, and the most bytes.
ENQUEUE = f"""{START}
from campaign.running.prepare import prepare
with opened(place) as store:
    began = time.perf_counter()
    prepared = prepare(settings, place)
    expanded = time.perf_counter()
    prepared.enqueue(store.store)
    ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([len(prepared.grid.tasks), expanded - began, ended - expanded, peak]))
"""
#: Prints when the first session is launched; Ray is left out.
RESUME = f"""{START}
from campaign.running.driver import drive
from campaign.running.fleet import Fleet
def launch(self, assignment, berth):
    print(json.dumps([time.time(), time.process_time()]), file=sys.__stdout__, flush=True)
    raise SystemExit
Fleet.start, Fleet.launch, Fleet.shutdown = lambda f: f.berths.look(), launch, lambda f: None
drive(settings, as_json=False)
"""
#: Prints the seconds of each call of a bare actor that commits an INSERT.
BARE = """
import json, sys, time
import psycopg, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
class Bare:
    def __init__(self, url):
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute("create table if not exists bare (id int, said text)")
    def insert(self, number):
        self.connection.execute("insert into bare values (%s, 'ok')", (number,))
bare = ray.remote(Bare).remote(sys.argv[1])
took = []
for number in range(-20, int(sys.argv[2])):
    began = time.perf_counter()
    ray.get(bare.insert.remote(number))
    took.append(time.perf_counter() - began)
print(json.dumps(took[20:]))
"""
#: Measures the tasks of one engine in an actor; ends once enough are done.
MEASURE = f"""{START}
import uuid
import ray
from campaign.running.driver import Driver
from campaign.running.live import Live
from campaign.running.prepare import begun
from workers.actor import SessionActor
ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
with begun(settings, place) as (store, found):
    driver = Driver(settings, found, place, store, Live())
    number = sorted(found.engines)[int(sys.argv[4])]
    job = driver._assignments.of(number)
    actor = ray.remote(SessionActor).options(max_concurrency=2).remote(job, alone=False)
    ray.get(actor.whereabouts.remote())
    running = actor.run.remote()
    query = "select count(*) from attempts where session_id = %(s)s and outcome = 'ok'"
    while not ray.wait([running], timeout=0.2)[0]:
        with store.begin() as connection:
            done = connection.exec_driver_sql(query, {{"s": job.session_id}}).scalar()
        if done >= int(sys.argv[3]):
            actor.stop.remote()
    report = ray.get(running)
assert report.error is None, report
print(json.dumps([str(job.session_id)]))
"""


MODELS = ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-1B", "facebook/opt-125m",
          "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-0.5B")  # fmt: skip
#: Ray on a busy machine is slow to start, and says so; its workers do not make way for others, as
#: in a campaign.
ENVIRONMENT = {"RAY_DISABLE_DOCKER_CPU_WARNING": "1", "RAY_raylet_start_wait_time_s": "180",
               "RAY_worker_niceness": "0"}  # fmt: skip


def grid(tasks: int) -> str:
    """Ten engines, of many tasks four replicates; a batch is done in no time, a window in one."""
    replicates, outputs, inputs = 1, 100, [LONGEST // 2]
    if tasks > FEW:
        replicates, outputs, inputs = 4, 250, list(range(1, LONGEST + 1))
    return json.dumps([
        "cluster=simulated", "engine=simulated", "campaign=bench", "protocol=quick",
        "protocol.window_s=1e-6",
        "board=[rtx-a6000,h100-sxm-80gb]",
        f"model=[{','.join(MODELS)}]",
        f"replicates={replicates}",
        f"workload.input_tokens={inputs}",
        f"workload.output_tokens={list(range(1, outputs + 1))}",
    ])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """A store that holds tasks, and what it took to bring them there."""

    home: Path
    url: str
    grid: str
    tasks: int
    expand_s: float
    enqueue_s: float
    peak_bytes: float

    def child(self, code: str, *arguments: object) -> list[float]:
        """Run code in a process of its own; returns the list it prints last."""
        return child(code, self.home, self.home / "store", self.grid, *arguments)

    def sql(self, text: str, *values: object) -> list[tuple[float, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(text, values)
            return found.fetchall() if found.description else []


def child(code: str, home: Path, *arguments: object) -> list[float]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | ENVIRONMENT | {"CAMPAIGN_HOME": str(home)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert said, done.stderr[-2000:]
    return json.loads(said[-1])


def enqueued(tasks: int) -> Iterator[Enqueued]:
    home = Path(tempfile.mkdtemp(prefix="campaign-bench-")).resolve()
    home.chmod(0o755)
    try:
        with EmbeddedPostgres(home / "store"):
            found, expand_s, enqueue_s, peak = child(ENQUEUE, home, home / "store", grid(tasks))
            assert found == tasks
        # A server that was stopped has written out what is enqueued: that is no cost of a task.
        with EmbeddedPostgres(home / "store") as server:
            store = Enqueued(home=home, url=libpq_url(server.owner_url()), grid=grid(tasks),
                             tasks=tasks, expand_s=expand_s, enqueue_s=enqueue_s,
                             peak_bytes=peak)  # fmt: skip
            store.sql("vacuum analyze")
            yield store
    finally:
        end_processes_below(home)
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def many() -> Iterator[Enqueued]:
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    yield from enqueued(TASKS)


@pytest.fixture(scope="module")
def few() -> Iterator[Enqueued]:
    yield from enqueued(FEW)


def judge(what: str, ratio: float, limit: float, *, least: bool = False) -> None:
    """Print a ratio with its limit, and fail where it is missed."""
    met = ratio >= limit if least else ratio <= limit
    bound = "at least" if least else "at most"
    print(f"  {what}: {ratio:.2f} ({bound} {limit:g}: {'met' if met else 'MISSED'})")
    assert met, f"{what}: {ratio:.2f}, {bound} {limit:g} was asked for"


def test_one_task_against_a_bare_actor_call_and_one_committed_insert(
    many: Enqueued, few: Enqueued
) -> None:
    rounds = [
        (median(child(BARE, few.home, few.url, TIMED)), measured_s(few, n), measured_s(many, n))
        for n in range(ROUNDS)
    ]
    bare_s, among_few_s, among_many_s = (median(seconds) for seconds in zip(*rounds, strict=True))
    print(f"\na task from claim to finish: {among_few_s * 1e3:.1f} ms among {few.tasks:,}, "
          f"{among_many_s * 1e3:.1f} ms among {many.tasks:,}; a bare actor call with one committed "
          f"INSERT {bare_s * 1e3:.1f} ms")  # fmt: skip
    judge("among many tasks over among few", median(m / f for _, f, m in rounds), GROWTH)
    judge("a task over the bare call", median(f / b for b, f, _ in rounds), OVERHEAD)


def measured_s(store: Enqueued, engine: int) -> float:
    """Return the seconds of a task of an engine in the median, with its share of what comes before.

    That is what a session does from its row in the store on; before that its process starts and
    connects, which the bare call leaves out as well.
    """
    (session,) = store.child(MEASURE, UNTIMED + TIMED, engine)
    (prepared_s,), *_ = store.sql(
        "select extract(epoch from min(a.opened_at) - s.started_at)::float8 "
        "from sessions s join attempts a on a.session_id = s.id where s.id = %s group by s.id",
        session,
    )
    opened = [one for (one,) in store.sql(
        "select extract(epoch from opened_at)::float8 from attempts "
        "where session_id = %s and outcome = 'ok' order by opened_at", session,
    )]  # fmt: skip
    assert len(opened) >= UNTIMED + TIMED, f"{len(opened)} tasks were measured"
    timed = opened[UNTIMED : UNTIMED + TIMED]
    return median(after - before for before, after in pairwise(timed)) + prepared_s / TIMED


def test_first_dispatch_of_a_resumed_campaign_against_five_seconds(many: Enqueued) -> None:
    began = time.time()
    launched, _ = many.child(RESUME)
    nothing_done_s = launched - began
    finish(many)
    began = time.time()
    launched, computed_s = many.child(RESUME)
    first_s = launched - began
    print(f"\n{many.tasks:,} tasks resumed: first dispatch after {first_s:.2f} s with 99 % done, "
          f"{nothing_done_s:.2f} s with none; Ray's start left out; {computed_s:.2f} s of them "
          "this process computed")  # fmt: skip
    judge("seconds over five", first_s / FIRST_DISPATCH_S, 1.0)


def finish(store: Enqueued) -> None:
    """Give 99 of 100 tasks an accepted attempt."""
    store.sql("insert into sessions (id, campaign_id, engine_id, host, boot, pid, pid_started_s, "
              "meter, reality, ended_at, outcome) select gen_random_uuid(), c.id, e.id, 'h', 'b', "
              "1, 1, 'none', 'simulated', now(), 'ended' from campaigns c, engines e")  # fmt: skip
    store.sql(
        "insert into attempts (task_id, number, lease_id, session_id, outcome, closed_at) "
        "select t.id, t.attempts + 1, gen_random_uuid(), s.id, 'ok', now() + interval '20 seconds' "
        "from tasks t join sessions s using (engine_id) "
        "where mod(t.ordinal, 100) > 0 and t.state = 'pending' and s.host = 'h' order by t.id"
    )
    store.sql(
        "update tasks t set state = 'done', attempts = a.number, lease_id = a.lease_id "
        "from attempts a where a.task_id = t.id and t.state = 'pending' and a.outcome = 'ok'"
    )
    store.sql("vacuum analyze")


def test_expand_and_enqueue_against_copy_of_the_same_rows() -> None:
    for store in enqueued(TASKS):  # one of its own: a machine's speed changes within minutes
        copy_s = copied_s(store)
    print(f"\n{store.tasks:,} tasks expanded in {store.expand_s:.1f} s and enqueued in "
          f"{store.enqueue_s:.1f} s, peak {store.peak_bytes / 1e6:.0f} MB; a COPY of their rows "
          f"{copy_s:.1f} s")  # fmt: skip
    judge("speed over a COPY's", copy_s / (store.expand_s + store.enqueue_s), SPEED, least=True)
    judge("peak memory over a gigabyte", store.peak_bytes / PEAK_BYTES, 1.0)


def copied_s(store: Enqueued) -> float:
    """Return the seconds of a COPY of the tasks into their own table, emptied before."""
    with psycopg.connect(store.url, autocommit=True) as connection:
        cursor, file = connection.cursor(), store.home / "rows"
        query = f"copy (select {COLUMNS} from tasks order by ordinal) to stdout"
        with file.open("wb") as out, cursor.copy(query) as rows:
            for block in rows:
                out.write(block)
        cursor.execute("truncate tasks cascade")
        began = time.perf_counter()
        with file.open("rb") as source, cursor.copy(f"copy tasks ({COLUMNS}) from stdin") as rows:
            while block := source.read(1 << 18):
                rows.write(block)
        return time.perf_counter() - began
