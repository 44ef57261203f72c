"""What a report costs: seconds and bytes for 50,000 measurements of as many configurations.

Nothing is averaged away in this store, so it is the largest page that 50,000 rows can give.
BENCH_QUICK=1 takes a tenth. A page over 5 MB fails the run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from campaign.cli import main
from db import schema
from db.embedded import EmbeddedPostgres
from db.store import Store
from tests.conftest import end_processes_below

pytestmark = pytest.mark.timeout(1800)

QUICK = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
ROWS = 5_000 if QUICK else 50_000
MOST_BYTES = 5_000_000

FILL = """
insert into campaigns (name, owner, config) values ('bench', 'bench', '');

insert into protocols (digest, name, numbers) values ('bench', 'default', '{{}}');

insert into engines (digest, model, weights, architecture, backend, dtype, tensor_parallel, board,
                     board_count, options)
select concat('bench-', m, '-', b, '-', k), 'acme/model-' || m, 'real', '{{}}', k, 'bfloat16', 1,
       'board-' || b, 1, '{{}}'
  from generate_series(1, 25) m, generate_series(1, 10) b,
       unnest(array['vllm', 'transformers']) k;

insert into tasks (key, engine_id, protocol_id, input_tokens, output_tokens, batch_size, workload,
                   reality, replicate, ordinal)
select concat('v1:', e.id, '-', w), e.id, 1, 64 << mod(w, 5), 16 << mod(w / 5, 5), 1 << (w / 25),
       '{{}}', 'real', 0, w
  from engines e, generate_series(0, {rows} / 500 - 1) w;

insert into campaign_tasks select 1, id from tasks;

insert into sessions (id, campaign_id, engine_id, host, boot, pid, pid_started_s, meter, reality,
                      gpu_uuids, software, ended_at, outcome)
select gen_random_uuid(), 1, e.id, 'h', 'b', 1, 1, 'nvml', 'real', '{{GPU-1}}',
       '{{"vllm": "0.32.0"}}', now(), 'ended'
  from engines e;

insert into attempts (task_id, number, lease_id, session_id, opened_at, closed_at, outcome, marks)
select t.id, 1, gen_random_uuid(), s.id, now(), now(), 'ok',
       case when mod(t.id, 7) = 0 then '{{interval_wide}}' else '{{}}' end::text[]
  from tasks t join sessions s using (engine_id);

update tasks t set state = 'done', attempts = 1, lease_id = a.lease_id from attempts a
 where a.task_id = t.id;

insert into windows (session_id, attempt_id, kind, ordinal, started_at, started_ns, duration_s,
                     batches, requests, input_tokens, output_tokens, ttft_s, itl_s, e2e_s, reality,
                     energy_j, energy_method, timing_uncertainty_j)
select a.session_id, a.id, 'repeat', n, now(), 0, 5 + random(), 4, 4 * t.batch_size,
       4 * t.batch_size * t.input_tokens, 4 * t.batch_size * t.output_tokens, random(), random(),
       1 + random(), 'real', 1000 * (1 + random()) * t.output_tokens, 'nvml_counter', 1.0
  from attempts a join tasks t on t.id = a.task_id, generate_series(0, 2) n;

analyze
"""


@pytest.fixture(scope="module")
def large() -> Iterator[Store]:
    home = Path(tempfile.mkdtemp(prefix="campaign-bench-")).resolve()
    home.chmod(0o755)
    try:
        with EmbeddedPostgres(home / "store") as server:
            store = Store(server.owner_url())
            schema.upgrade(store)
            for statement in FILL.format(rows=ROWS).split(";\n"):
                with store.begin() as connection:
                    connection.exec_driver_sql(statement)
            yield store
            store.close()
    finally:
        end_processes_below(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_page_of_many_rows_against_five_megabytes(
    form: str, large: Store, tmp_path: Path
) -> None:
    path = tmp_path / f"report.{form}"
    began, burned = time.perf_counter(), time.process_time()
    words = ["report", "--format", form, "-o", str(path), f"store.url='{large.url}'"]
    assert main(words) == 0
    took, cpu = time.perf_counter() - began, time.process_time() - burned
    size = path.stat().st_size
    print(f"\n  {form}: {ROWS:,} rows, {size / 1e6:.2f} MB in {took:.1f} s, {cpu:.1f} s of a core")
    assert size < MOST_BYTES
