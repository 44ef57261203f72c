"""Phases in a report: shares are of replicates whose every phase is known, and no NULL is zero."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db.embedded import EmbeddedPostgres
from db.records import Workload
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.page import Make, Page
from tests.store.reported import engine
from tests.store.world import ground

pytestmark = pytest.mark.store

SHARES = ("pf_share", "mx_share", "de_share")


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "report_phases") as found:
        yield found


def row(prefill_j: float, decode_j: float, replicate: int = 0) -> Row:
    """One measurement of three repeats, each with so many joules in both phases."""
    work = Workload(input_tokens=8, output_tokens=10, batch_size=1)
    return Row(engine=engine(), workload=work, replicate=replicate,
               energies_j=[prefill_j + decode_j] * 3, phases=(prefill_j, decode_j))  # fmt: skip


def change(store: Store, sql: str) -> None:
    with store.begin() as connection:
        connection.exec_driver_sql(sql)


#: Prefill was too short for the meter in the first replicate.
UNKNOWN = """
update phases p set energy_j = null, timing_uncertainty_j = null, reasons = '{phase_unresolved}'
  from windows w join attempts a on a.id = w.attempt_id join tasks t on t.id = a.task_id
 where w.id = p.window_id and p.phase = 'prefill' and p.method = 'steps' and t.replicate = 0
"""
SECOND_RUN = """
insert into phases (window_id, phase, method, duration_s, energy_j, timing_uncertainty_j, tokens)
select window_id, phase, 'prefill_run', 1, case phase when 'prefill' then 20 else 60 end, 0, 8
  from phases where method = 'steps'
"""


def test_shares_add_up_and_a_phase_that_no_step_was_in_takes_nothing(
    empty: Store, make: Make
) -> None:
    insert(empty, "one", [row(10.0, 30.0)])
    page = Page(make())
    (point,) = page.points
    assert [point[name] for name in SHARES] == [0.25, 0.0, 0.75]
    assert "phase_share" in page.charts
    assert not [text for text in page.said("p") if "could not be told apart" in text]


def test_a_configuration_with_an_unknown_phase_has_no_share_and_is_counted(
    empty: Store, make: Make
) -> None:
    insert(empty, "one", [row(10.0, 30.0)])
    change(empty, UNKNOWN)
    page = Page(make())
    (point,) = page.points
    assert [point[name] for name in SHARES] == [None] * 3
    assert (point["pf"], point["de"]) == (None, 3.75)
    assert "phase_share" not in page.charts
    assert "phase_tokens" in page.charts
    (said,) = [text for text in page.said("p") if "could not be told apart" in text]
    assert said.startswith("In 1 configuration of all rows a phase could not be told apart")


def test_a_second_run_that_tells_all_goes_before_steps_that_tell_a_part(
    empty: Store, make: Make
) -> None:
    insert(empty, "one", [row(10.0, 30.0)])
    change(empty, SECOND_RUN)
    (point,) = Page(make()).points
    assert (point["pf_share"], point["pf"]) == (0.25, 1.25)  # by steps, which tell all
    change(empty, UNKNOWN)
    (point,) = Page(make()).points
    assert [point[name] for name in SHARES] == [0.25, 0.0, 0.75]
    assert (point["pf"], point["de"]) == (2.5, 7.5)


def test_a_share_is_of_the_replicates_that_know_every_phase(empty: Store, make: Make) -> None:
    """The first replicate knows decode alone: 30 J of it make no share, but a mean per token."""
    insert(empty, "two", [row(10.0, 30.0), row(50.0, 50.0, replicate=1)])
    change(empty, UNKNOWN)
    (point,) = Page(make()).points
    assert [point[name] for name in SHARES] == [0.5, 0.0, 0.5]
    assert (point["pf"], point["de"]) == (6.25, 5.0)


def test_steps_that_were_mixed_have_a_share_of_their_own(empty: Store, make: Make) -> None:
    insert(empty, "one", [row(10.0, 30.0)])
    mixed = (
        "insert into phases (window_id, phase, method, duration_s, energy_j, timing_uncertainty_j) "
        "select window_id, 'mixed', 'steps', 1, {joules}, 0 from phases where phase = 'prefill'"
    )
    change(empty, mixed.format(joules=10))
    (point,) = Page(make()).points
    assert [point[name] for name in SHARES] == [0.2, 0.2, 0.6]
    change(empty, "update phases set energy_j = null, timing_uncertainty_j = null, "
                  "reasons = '{phase_unresolved}' where phase = 'mixed'")  # fmt: skip
    (point,) = Page(make()).points
    assert [point[name] for name in SHARES] == [None] * 3
