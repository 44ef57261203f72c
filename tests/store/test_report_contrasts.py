"""Like for like in a report: rows that differ in one thing; none where several could be meant."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from db.embedded import EmbeddedPostgres
from db.records import Reality, Workload
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.page import Make, Page
from tests.store.reported import engine
from tests.store.world import ground

pytestmark = pytest.mark.store

VLLM = engine(options={"enable_prefix_caching": False, "enforce_eager": False})
EAGER = replace(VLLM, options={"enable_prefix_caching": False, "enforce_eager": True})
TRANSFORMERS = replace(VLLM, backend="transformers", options={"attn_implementation": "sdpa"})


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "contrasts") as found:
        yield found


def row(spec=VLLM, joules: float = 100.0, batch_size: int = 8, **more: object) -> Row:
    work = Workload(input_tokens=100, output_tokens=100, batch_size=batch_size)
    return Row(engine=spec, workload=work, energies_j=[joules * x for x in (0.99, 1.0, 1.01)],
               **more)  # fmt: skip


def compared(page: Page, axis: str) -> dict[str, str]:
    """Return the ratios of an axis by what is compared."""
    rows = page.tables.get("Like for like", [])
    return {row[1]: row[2] for row in rows if row and row[0] == axis}


def left_out(page: Page) -> list[str]:
    return [text for text in page.said("p") if text.startswith(("Left out", "In no comparison"))]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_engine_with_other_options_is_another_engine(
    order: Sequence[int], empty: Store, make: Make
) -> None:
    """In whichever order they were written: 100 J, 50 J with graphs, 80 J without."""
    rows = [row(TRANSFORMERS, 100.0), row(VLLM, 50.0), row(EAGER, 80.0)]
    insert(empty, "engines", [rows[place] for place in order])
    page = Page(make())
    assert compared(page, "engine") == {
        "transformers → vllm enforce_eager=False": "0.5",
        "transformers → vllm enforce_eager=True": "0.8",
    }
    assert left_out(page) == []


def test_options_that_all_rows_of_an_engine_have_are_not_named(empty: Store, make: Make) -> None:
    insert(empty, "engines", [row(TRANSFORMERS, 100.0), row(VLLM, 50.0)])
    assert compared(Page(make()), "engine") == {"transformers → vllm": "0.5"}


def test_another_version_is_another_engine(empty: Store, make: Make) -> None:
    insert(empty, "versions", [row(VLLM, 50.0), row(VLLM, 80.0, replicate=1)])
    with empty.begin() as connection:
        connection.exec_driver_sql(
            "update sessions s set software = software || jsonb_build_object('vllm', "
            "case t.replicate when 0 then '0.32.0' else '0.26.0' end) "
            "from attempts a join tasks t on t.id = a.task_id where a.session_id = s.id"
        )
    assert compared(Page(make()), "engine") == {"vllm 0.26.0 → vllm 0.32.0": "0.625"}


def test_rows_that_were_metered_in_two_ways_are_never_chosen_between(
    empty: Store, make: Make
) -> None:
    """At batch 64 one replicate has the counter's joules and one the samples', which are two rows.

    Batches 1 and 8 are compared, 1 and 64 are not.
    """
    rows = [row(batch_size=1, joules=100.0), row(batch_size=8, joules=160.0),
            row(batch_size=64, joules=640.0),
            row(batch_size=64, joules=1600.0, replicate=1,
                windows={"energy_method": "nvml_integrated"})]  # fmt: skip
    insert(empty, "methods", rows)
    page = Page(make())
    assert compared(page, "batch size") == {"1 → 8": "0.2"}
    (said,) = left_out(page)
    assert said.endswith("none is chosen: batch size (2 configurations).")


def test_forms_of_one_model_are_no_three_models(empty: Store, make: Make) -> None:
    """What two shallower forms of a model do says nothing of another model."""
    forms = [engine(f"acme/one{form}") for form in ("", "@layers=8", "@layers=16")]
    insert(empty, "forms", [row(form, joules, batch_size=size) for form in forms
                            for size, joules in ((1, 100.0), (8, 160.0))])  # fmt: skip
    page = Page(make())
    (line,) = (row for row in page.tables["Like for like"] if row and row[0] == "batch size")
    assert line[4:] == ["extremes of the pairs", "3", "1"]
    assert [text for text in page.said("p") if text.startswith("Seen in one model only")]


def test_measured_rows_whose_joules_are_in_doubt_are_in_no_finding(
    empty: Store, make: Make
) -> None:
    rows = [row(batch_size=1, joules=100.0), row(batch_size=8, joules=100.0),
            row(batch_size=64, joules=100.0, marks=["aliased", "short_window"])]  # fmt: skip
    insert(empty, "marked", rows)
    page = Page(make())
    assert compared(page, "batch size") == {"1 → 8": "0.125"}
    assert left_out(page) == ["In no comparison: 1 configuration marked aliased."]
    assert len(page.points) == 3


def test_it_is_said_among_how_many_comparisons_a_finding_was_found(
    empty: Store, make: Make
) -> None:
    def tried(page: Page) -> list[str]:
        return [text for text in page.said("p") if text.startswith("Found among")]

    boards = [replace(VLLM, board=board) for board in ("h100-sxm-80gb", "l4", "rtx-a6000")]
    rows = [row(spec, joules) for spec, joules in zip(boards, (100.0, 200.0, 101.0), strict=True)]
    insert(empty, "two", rows[:2])
    assert tried(Page(make())) == []
    insert(empty, "third", rows[2:])
    (said,) = tried(Page(make()))
    assert said.startswith("Found among 2 comparisons.")


def limits_told(page: Page) -> list[str]:
    return [text for text in page.said("p") if text.startswith("Rows of")]


def test_gpus_of_one_board_with_other_limits_are_said(empty: Store, make: Make) -> None:
    """400 W in one session, 250 W in another; a limit that was asked for is no surprise."""
    rows = [row(batch_size=size, replicate=n) for size in (1, 8) for n in (0, 1)]
    rows += [row(replace(VLLM, power_limit_w=300.0)),
             replace(row(batch_size=64), reality=Reality.SIMULATED)]  # fmt: skip
    insert(empty, "limits", rows)
    assert limits_told(Page(make())) == []
    with empty.begin() as connection:
        connection.exec_driver_sql(
            "update gpu_energies g set power_limit_w = 250 + 150 * t.replicate "
            "from windows w join attempts a on a.id = w.attempt_id "
            "join tasks t on t.id = a.task_id join engines e on e.id = t.engine_id "
            "where w.id = g.window_id and e.power_limit_w is null and t.reality = 'real'"
        )
    (said,) = limits_told(Page(make()))
    assert "h100-sxm-80gb are of GPUs that enforced 250 and 400 W" in said


def test_marks_say_nothing_of_computed_joules(empty: Store, make: Make) -> None:
    rows = [row(batch_size=size, joules=100.0, marks=["aliased"], reality=Reality.SIMULATED)
            for size in (1, 8)]  # fmt: skip
    insert(empty, "simulated", rows)
    page = Page(make())
    assert compared(page, "batch size") == {"1 → 8": "0.125"}
    assert left_out(page) == []


def test_where_all_are_in_doubt_nothing_is_said_and_why(empty: Store, make: Make) -> None:
    insert(empty, "marked", [row(batch_size=size, marks=["counter_disagrees"]) for size in (1, 8)])
    page = Page(make())
    assert "Like for like" not in page.tables
    assert "Nothing can be said: no row has joules that can be compared." in page.said("p")
    assert left_out(page) == ["In no comparison: 2 configurations marked counter_disagrees."]
