"""What the named queries cost on a store of a million windows: seconds of each, to its last row.

The store has phases and GPUs for every window, ten models on five boards, five repeats of each of
200,000 measurements, and is at rest: vacuumed, as it is minutes after the last was written.
BENCH_QUICK=1 takes a tenth. A query over two seconds fails the run: every one printed as a table,
which is a thousand rows; to its last row, as --json and --csv have it, all but those that list all
there is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from campaign.tabular import ROWS_FOR_PEOPLE, print_table
from db import schema
from db.asking import Answer, Limits, Question, asked, shipped
from db.embedded import EmbeddedPostgres
from db.store import Store
from tests.conftest import end_processes_below

pytestmark = pytest.mark.timeout(3600)

QUICK = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
REPLICATES, REPEATS = 5, 5
POINTS = 4_000 if QUICK else 40_000
MOST_S = 2.0
#: A row for every measurement, window or phase there is: judged as a table alone.
LISTS = (
    "measurements", "meters", "phases", "prefill_share", "report_evidence", "report_lengths",
)  # fmt: skip

FILL = """
insert into campaigns (name, owner, config)
select 'bench-' || n, 'bench', '' from generate_series(1, 4) n;

insert into protocols (digest, name, numbers) values ('bench', 'default', '{}');

insert into engines (digest, model, weights, architecture, backend, dtype, tensor_parallel, board,
                     board_count, options, quantization)
select concat('bench-', m, b, v, t), 'acme/model-' || m, 'real', '{}', 'vllm', 'bfloat16', t,
       (array['l4', 'a100-sxm-80gb', 'h100-sxm-80gb', 'rtx-a6000', 't4'])[b], t,
       case v when 1 then '{"enforce_eager": true}' else '{}' end::jsonb,
       case v when 2 then 'fp8' end
  from generate_series(0, 9) m, generate_series(1, 5) b, generate_series(0, 2) v,
       unnest(array[1, 2]) t;

insert into tasks (key, engine_id, protocol_id, input_tokens, output_tokens, batch_size, workload,
                   reality, replicate, ordinal)
select concat('v1:', e.id, '-', w, '-', r), e.id, 1, 64 << mod(w, 6), 16 << mod(w / 6, 6),
       1 << (w / 36), '{}', 'real', r, w * {replicates} + r
  from engines e, generate_series(0, {points} / 300 - 1) w, generate_series(0, {replicates} - 1) r;

insert into campaign_tasks select 1 + mod(id, 4), id from tasks;

insert into sessions (id, campaign_id, engine_id, host, boot, pid, pid_started_s, meter, reality,
                      gpu_uuids, software, ended_at, outcome)
select gen_random_uuid(), 1, e.id, 'h', 'b' || r, 1, 1, 'nvml', 'real', '{GPU-1}',
       '{"vllm": "0.32.0"}', now(), 'ended'
  from engines e, generate_series(0, {replicates} - 1) r;

insert into attempts (task_id, number, lease_id, session_id, opened_at, closed_at, outcome, marks)
select t.id, 1, gen_random_uuid(), s.id, now(), now(), 'ok',
       case when mod(t.id, 50) = 0 then '{interval_wide}' else '{}' end::text[]
  from tasks t join sessions s on s.engine_id = t.engine_id and s.boot = 'b' || t.replicate;

update tasks t set state = 'done', attempts = 1, lease_id = a.lease_id from attempts a
 where a.task_id = t.id;

insert into windows (session_id, kind, ordinal, started_at, started_ns, duration_s, batches,
                     requests, input_tokens, output_tokens, reality, energy_j, energy_method)
select s.id, k, 0, now(), 0, 10, 0, 0, 0, 0, 'real', 600 + random(), 'nvml_counter'
  from sessions s, unnest(array['idle_empty', 'load', 'idle_resident', 'idle_end']) k;

insert into windows (session_id, attempt_id, kind, ordinal, started_at, started_ns, duration_s,
                     batches, requests, running_mean, input_tokens, output_tokens, ttft_s, itl_s,
                     e2e_s, counters, latencies, reality, energy_j, energy_method,
                     timing_uncertainty_j, cpu_package_j, cpu_dram_j)
select a.session_id, a.id, 'repeat', n, now() + interval '1 ms' * a.id, 0, 5 + random(), 4,
       4 * t.batch_size, t.batch_size, 4 * t.batch_size * t.input_tokens,
       4 * t.batch_size * t.output_tokens, 0.1, 0.02, 1.2, '{"vllm:preemptions": 0}', '{}', 'real',
       (1000 + t.output_tokens) * (1 + 0.02 * random()), 'nvml_counter', 1.0, 200 + random(), 20
  from attempts a join tasks t on t.id = a.task_id, generate_series(0, {repeats} - 1) n;

insert into gpu_energies (window_id, gpu_uuid, gpu_index, name, sibling, energy_j, method,
                          counter_j, integrated_j, ratio, mean_w, max_w, samples, power_limit_w,
                          temperature_c)
select id, 'GPU-1', 0, 'acme', false, energy_j, 'counter', energy_j,
       energy_j * (1 + 0.02 * random()), 1, energy_j / duration_s, 300, 50, 400, 60
  from windows;

insert into phases (window_id, phase, method, duration_s, energy_j, timing_uncertainty_j, tokens)
select id, p, 'steps', duration_s / 2, energy_j / 2, 1, 100
  from windows, unnest(array['prefill', 'decode']) p where kind = 'repeat'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Big:
    """A store of many windows and its two logins."""

    url: str
    reader_url: str
    windows: int


@pytest.fixture(scope="module")
def big() -> Iterator[Big]:
    home = Path(tempfile.mkdtemp(prefix="campaign-bench-")).resolve()
    home.chmod(0o755)
    try:
        with EmbeddedPostgres(home / "store") as server:
            store = Store(server.owner_url())
            schema.upgrade(store)
            began = time.perf_counter()
            windows = fill(store)
            rest(store)
            print(f"\n{windows:,} windows made in {time.perf_counter() - began:.0f} s")
            store.close()
            yield Big(url=server.owner_url(), reader_url=server.reader_url(), windows=windows)
    finally:
        end_processes_below(home)
        shutil.rmtree(home, ignore_errors=True)


def fill(store: Store) -> int:
    numbers = {"{points}": POINTS, "{replicates}": REPLICATES, "{repeats}": REPEATS}
    for statement in FILL.split(";\n"):
        text = statement
        for name, number in numbers.items():
            text = text.replace(name, str(number))
        with store.begin() as connection:
            connection.exec_driver_sql(text)
    with store.begin() as connection:
        return int(connection.exec_driver_sql("select count(*) from windows").scalar_one())


def rest(store: Store) -> None:
    """Do what autovacuum does in its own time."""
    with store.begin(single=True) as connection:
        connection.exec_driver_sql("vacuum analyze")


def shown_s(big: Big, asking: Question) -> float:
    """Return the seconds until a table is printed, as people get it."""
    began = time.perf_counter()
    with answered(big, asking.first(ROWS_FOR_PEOPLE + 1)) as found:
        print_table(found.columns, found.rows, stream=StringIO())
    return time.perf_counter() - began


def read_s(big: Big, asking: Question) -> tuple[float, float, int]:
    """Return the seconds to the first row and to the last, and how many rows there are."""
    began = time.perf_counter()
    first, rows = 0.0, 0
    with answered(big, asking) as found:
        for _ in found.rows:
            first = first or time.perf_counter() - began
            rows += 1
    return first, time.perf_counter() - began, rows


def answered(big: Big, asking: Question) -> AbstractContextManager[Answer]:
    limits, settings = Limits(statement_s=600), {"campaign.weights": "real"}
    return asked(asking, big.url, big.reader_url, limits=limits, settings=settings)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_named_query_against_two_seconds(name: str, big: Big) -> None:
    table_s = shown_s(big, shipped()[name])
    first_s, last_s, rows = read_s(big, shipped()[name])
    print(
        f"\n  {name}: as a table {table_s:.2f} s; {rows:,} rows, the first after {first_s:.2f} s, "
        f"the last after {last_s:.2f} s"
    )
    assert table_s <= MOST_S
    assert name in LISTS or last_s <= MOST_S
