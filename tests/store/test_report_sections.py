"""Sections of a report that are analyses of their own, and the one moment that it is all of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from campaign.cli import main
from campaign.report import gathered
from db.embedded import EmbeddedPostgres
from db.records import EngineSpec, Reality, Workload
from db.reporting import answers
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.page import Make, Page
from tests.store.reported import engine
from tests.store.world import ground

pytestmark = pytest.mark.store

EXCERPT = Path(__file__).resolve().parents[1] / "data" / "mlenergy_v3_excerpt.csv"
LLAMA, QWEN, PHI = "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B", "microsoft/phi-4"
INPUTS, OUTPUTS = (64, 256, 1024), (32, 64, 128, 256, 512)
#: Joules of a request: a flat part, one a token of each length, and the square of the answer's.
FLAT, EACH_IN, EACH_OUT, SQUARE = 20.0, 0.02, 0.5, 2e-3


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "sections") as found:
        yield found


def here(store: Store) -> str:
    return f"store.url='{store.url}'"


def grid(spec: EngineSpec, *, scale: float = 1.0, batch_size: int = 1) -> list[Row]:
    """Rows whose joules per output token are least at a length that follows from the constants."""
    return [
        Row(
            engine=spec,
            workload=Workload(input_tokens=i, output_tokens=o, batch_size=batch_size),
            energies_j=[scale * batch_size * per_request(i, o) * part for part in (0.99, 1, 1.01)],
        )
        for i in INPUTS
        for o in OUTPUTS
    ]


def per_request(inputs: int, outputs: int) -> float:
    """Joules with a noise of a percent, the same every time."""
    joules = FLAT + EACH_IN * inputs + EACH_OUT * outputs + SQUARE * outputs**2
    return joules * (1 + 0.01 * math.sin(inputs * outputs))


def imported(store: Store) -> None:
    words = [str(EXCERPT), "--source", "mlenergy", "--map", "mlenergy_v3"]
    assert main(["import", *words, here(store)]) == 0


# ---- sweet spots -------------------------------------------------------------------------------


def test_a_sweet_spot_is_the_analysis_own_and_where_the_joules_put_it(
    empty: Store, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    insert(empty, "lengths", grid(engine(LLAMA)))
    page = Page(make("--campaign", "lengths"))
    drawn = page.charts["spot0"]["rows"]
    best = {row["in"]: row for row in drawn if row["what"] == "best"}
    for length in INPUTS:
        true = math.sqrt((FLAT + EACH_IN * length) / SQUARE)
        assert best[length]["low"] <= true <= best[length]["high"]
    capsys.readouterr()
    words = ["analyze", "sweet-spot", "--campaign", "lengths", "--json", here(empty)]
    assert main(words) == 0
    (spot,) = json.loads(capsys.readouterr().out)["spots"]
    for one in spot["per_output_token"]:
        mine = best[one["input_tokens"]]
        assert mine["out"] == one["output_tokens"]
        assert (mine["low"], mine["high"]) == (one["low"], one["high"])
    cells = [row for row in drawn if row["what"] == "cell"]
    assert len(cells) == len(INPUTS) * len(OUTPUTS)
    for cell in cells:
        each = per_request(cell["in"], cell["out"]) / cell["out"]
        assert cell["j"] == pytest.approx(each)


def test_few_lengths_have_no_sweet_spot_and_say_why(empty: Store, make: Make) -> None:
    insert(empty, "few", grid(engine(LLAMA))[:4])
    page = Page(make())
    assert "None: of 1 set-up none has enough." in page.said("p")
    ((why, count),) = page.table("Set-ups that cannot be fitted")[1:]
    assert (why, count) == ("too few rows: 4 pairs of lengths, six terms take 8 or more", "1")
    assert "spot0" not in page.charts


def test_simulated_rows_are_in_no_sweet_spot_of_measured_ones(empty: Store, make: Make) -> None:
    spec = engine(LLAMA)
    simulated = [replace(row, reality=Reality.SIMULATED) for row in grid(spec, scale=3.0)]
    insert(empty, "simulated", simulated)
    alone = Page(make())
    assert len(alone.table("How well six terms foretell the joules of a request")) == 1 + 1
    insert(empty, "measured", grid(spec)[:2])
    both = Page(make())
    assert "None: of 1 set-up none has enough." in both.said("p")


# ---- predictor ---------------------------------------------------------------------------------


def test_simulated_windows_are_not_drawn_beside_measured_ones(empty: Store, make: Make) -> None:
    """Nine simulated boards leave no measured one out, whatever it is called."""
    measured = grid(engine(LLAMA, "rtx-a6000"))[:1]
    boards = [f"board-{number}" for number in range(9)]
    simulated = [replace(grid(engine(LLAMA, board))[0], reality=Reality.SIMULATED)
                 for board in boards]  # fmt: skip
    insert(empty, "both", [*measured, *simulated])
    with empty.begin() as connection:
        connection.exec_driver_sql(
            "insert into power_traces (window_id, gpu_uuid, offsets_s, watts) "
            "select id, 'GPU-1', '{0,1}', '{100,120}' from windows where kind = 'repeat'"
        )
    drawn = json.loads(Page(make()).data["charts"])["charts"]["traces"]["rows"]
    assert {row["series"].partition(",")[0] for row in drawn} == {"rtx-a6000"}


def test_without_a_predictor_one_line_says_how_to_get_one(empty: Store, make: Make) -> None:
    insert(empty, "lengths", grid(engine(LLAMA))[:2])
    (line,) = [text for text in Page(make("--campaign", "lengths")).said("p") if "--save" in text]
    assert "campaign analyze predictor --campaign lengths --save DIR" in line
    assert "campaign report --model-dir DIR" in line


def test_a_predictor_stands_beside_what_it_learned_from_and_what_it_never_saw(
    empty: Store, make: Make, tmp_path: Path
) -> None:
    """Learned from 30 points of two models; asked about those, a new point, and a third model."""
    insert(empty, "learned", [*grid(engine(LLAMA)), *grid(engine(QWEN), scale=0.8)])
    folder = tmp_path / "predictor"
    words = ["--folds", "2", "--repeats", "1", "--trees", "3", "--regressors", "linear"]
    learn = ["analyze", "predictor", "--campaign", "learned", *words, "--save", str(folder)]
    assert main([*learn, here(empty)]) == 0
    insert(empty, "later", [*grid(engine(LLAMA), batch_size=2)[:3], *grid(engine(PHI))])
    page = Page(make("--model-dir", str(folder)))
    told = {row[0]: int(row[1]) for row in page.table("On the rows of this report")[1:]}
    assert told == {
        "in its training set": 30,
        "another point of what was seen": 3,
        "a model never seen": 15,
    }
    drawn = page.charts["predicted"]["rows"]
    assert len(drawn) == 48
    assert {row["kind"] for row in drawn} == {"measured"}
    titles = [title for title in page.tables if title.startswith("Its own study")]
    assert len(titles) == 3
    assert any("0.1342 ± 0.0181" in cell for row in page.table(titles[0]) for cell in row)


def test_a_folder_without_a_predictor_is_found_before_the_store_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "-o", str(tmp_path / "r.html"), "--model-dir", str(tmp_path)]
    assert main([*words, "store.path=/nonexistent/store"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no predictor.json" in line
    assert list(tmp_path.iterdir()) == []


# ---- imported rows -----------------------------------------------------------------------------


def test_imported_rows_are_shown_with_their_source_and_enter_nothing_else(
    empty: Store, make: Make
) -> None:
    insert(empty, "lengths", [*grid(engine(LLAMA)), *grid(engine(QWEN), scale=0.8)])
    before = Page(make())
    imported(empty)
    after = Page(make())
    added = [point for point in after.points if point["kind"] == "external"]
    assert len(added) == 30
    assert {point["source"] for point in added} == {"mlenergy"}
    assert after.points[: len(before.points)] == before.points
    ((source, _, rows, *_),) = after.table("Whose rows they are")[1:]
    assert (source, rows) == ("mlenergy", "30")
    facts = [[text for tag, text in page.seen if tag in ("dd", "dt")] for page in (before, after)]
    assert facts[0] == facts[1]
    for title in ("Like for like", "Best output length", "Claims"):
        assert after.tables.get(title) == before.tables.get(title)
    assert [one for one in after.said("p") if "instead of" in one] == [
        one for one in before.said("p") if "instead of" in one
    ]


def test_imported_rows_are_in_the_report_of_a_campaign_only_where_they_are_named(
    empty: Store, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    insert(empty, "lengths", grid(engine(LLAMA))[:2])
    imported(empty)
    assert len(Page(make("--campaign", "lengths")).points) == 2
    assert len(Page(make("--campaign", "lengths", "--source", "mlenergy")).points) == 32
    words = ["report", "-o", str(tmp_path / "r.html"), "--source", "mlenergie", here(empty)]
    capsys.readouterr()
    assert main(words) == 2
    assert "no imported source is called mlenergie; did you mean" in capsys.readouterr().err


def test_imported_rows_alone_are_a_page_without_a_finding(empty: Store, make: Make) -> None:
    imported(empty)
    page = Page(make())
    assert any(
        text.startswith("Every value here was measured by others") for text in page.said("p")
    )
    assert any(text.startswith("Nothing can be said") for text in page.said("p"))
    assert len(page.points) == 30


# ---- one moment --------------------------------------------------------------------------------


def pair(ratio: float, replicate: int = 0) -> Sequence[Row]:
    """One model on one board and on two, which takes `ratio` as much."""
    work = Workload(input_tokens=512, output_tokens=64, batch_size=1)
    one = engine(LLAMA, "rtx-a6000")
    both = replace(one, tensor_parallel=2, board_count=2)
    return [
        Row(engine=spec, workload=work, replicate=replicate, energies_j=[j, j * 1.01, j * 0.99])
        for spec, j in ((one, 10.0), (both, 10.0 * ratio))
    ]


def verdict(page: Page) -> tuple[str, str]:
    """How many rows the claim on two boards counts, and what is said of it."""
    claim = "At batch 1, Llama-3.1-8B takes 29.3 % more energy on two GPUs than on one"
    (row,) = [row for row in page.table("Claims") if row and row[0] == claim]
    return row[6], row[7]


def lead(page: Page) -> str:
    (said,) = [text for text in page.said("p") if "claims can be judged on these rows" in text]
    return said


def test_a_verdict_on_the_page_turns_with_the_store(empty: Store, make: Make) -> None:
    insert(empty, "boards", pair(1.293))
    assert verdict(Page(make())) == ("2", "confirmed")
    with empty.begin() as connection:
        connection.exec_driver_sql(
            "update windows w set energy_j = energy_j * 2 from sessions s, engines e "
            "where s.id = w.session_id and e.id = s.engine_id and e.tensor_parallel = 2"
        )
    assert verdict(Page(make())) == ("2", "differs")


def test_a_claim_that_our_rows_are_not_about_is_not_counted_as_judged(
    empty: Store, make: Make
) -> None:
    """A claim on vLLM, and rows of another engine: a figure stands there, but no verdict."""
    insert(empty, "boards", pair(1.293))
    judged = lead(Page(make()))
    assert judged.startswith("2 of ")
    assert "decides nothing" not in judged
    with empty.begin() as connection:
        connection.exec_driver_sql("update engines set backend = 'transformers'")
    page = Page(make())
    assert verdict(page) == ("2", "not comparable")
    shown = page.table("Claims")[1:]
    assert {row[7] for row in shown} == {"not comparable"}
    assert all(row[8].endswith("our rows are of something else") for row in shown)
    assert lead(page).startswith("0 of ")
    assert f"Of {len(shown)} more a figure of ours" in lead(page)


def test_every_number_is_of_one_moment(
    empty: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come in before and after the queries are asked are on no part of the page."""
    insert(empty, "boards", pair(1.293))

    def meanwhile(*asked: object, **more: object) -> object:
        insert(empty, "before", pair(1.5, replicate=1))
        found = answers(*asked, **more)  # type: ignore[arg-type]
        insert(empty, "after", pair(1.6, replicate=2))
        return found

    monkeypatch.setattr(gathered, "answers", meanwhile)
    page = Page(make())
    assert [point["n"] for point in page.points] == [1, 1]
    assert verdict(page) == ("2", "confirmed")
    monkeypatch.undo()
    later = Page(make())
    assert [point["n"] for point in later.points] == [3, 3]
    assert verdict(later)[0] == "6"
