"""The verb `report`: its numbers are the store's, and whatever is in the store can be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import campaign.report.page
from campaign.cli import main
from db.asking import shipped
from db.embedded import EmbeddedPostgres
from db.records import Outcome, Reality
from db.store import Store
from tests.store.page import Make, Page
from tests.store.reported import (
    BATCHES,
    GPU,
    HOST,
    USER,
    campaign_of_boards,
    engine,
    measured,
)
from tests.store.world import World, ground, task

pytestmark = pytest.mark.store

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    """quote " and ' and `tick` $(id) \\ &amp;""",
    "\u202eright to left \u05d0\u05d1",
    "x" * 300,
    "{{ 7 * 7 }} | a | *b* [c](d)",
]


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "reporting") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def asked(capsys: pytest.CaptureFixture[str], store: Store, query: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["query", query, "--json", f"store.url='{store.url}'"]) == 0
    return json.loads(capsys.readouterr().out)


# ---- numbers -----------------------------------------------------------------------------------


def test_every_number_is_the_querys(
    world: World, store: Store, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign_of_boards(world)
    points = Page(make()).points
    rows = asked(capsys, store, "report_cells")
    assert len(points) == len(rows) == 6
    for point, row in zip(points, rows, strict=True):
        named = {"in": "input_tokens", "out": "output_tokens", "batch": "batch_size",
                 "e": "engine_id", "words": "marks"}  # fmt: skip
        assert {name: point[name] for name in named} == {a: row[b] or "" for a, b in named.items()}
        close = {"j": "joules_per_output_token", "itl": "itl_s", "tps": "output_tokens_per_s",
                 "hw": "joules_per_output_token_within_session_half_width"}  # fmt: skip
        for name, column in close.items():
            assert point[name] == pytest.approx(row[column], rel=1e-4)
        assert (point["kind"], point["basis"]) == ("measured", "within one session")
        assert (point["pf_share"], point["de_share"]) == (0.25, 0.75)


def test_the_page_changes_when_the_store_does(world: World, make: Make) -> None:
    campaign_of_boards(world)
    before = Page(make())
    measured(world, 7.0, 2, spec=engine("acme/new"), campaign="later")
    after = Page(make())
    assert len(after.points) == len(before.points) + 1
    assert 7.0 in [point["j"] for point in after.points]
    assert ("dd", "4") in after.seen
    assert ("dd", "4") not in before.seen


def test_a_campaign_alone_is_its_own_rows(world: World, make: Make) -> None:
    campaign_of_boards(world)
    measured(world, 7.0, spec=engine("acme/new"), campaign="later")
    page = Page(make("--campaign", "later"))
    assert [point["model"] for point in page.points] == ["acme/new"]
    assert "later" in page.said("h1")


def test_intervals_of_replicates_in_sessions_of_their_own_are_between_sessions(
    world: World, make: Make
) -> None:
    """3 and 2 J: mean 2.5, Student's 12.706 times √0.5 / √2 = 6.353."""
    for replicate, joules in enumerate((3.0, 2.0)):
        measured(world, joules, replicate=replicate, campaign=f"c{replicate}")
    (point,) = Page(make()).points
    assert (point["j"], point["hw"], point["basis"]) == (2.5, 6.353, "between sessions")
    assert (point["n"], point["sessions"]) == (2, 2)


def test_both_spreads_are_of_one_session_as_their_query_has_them(world: World, make: Make) -> None:
    """Repeats 1 % apart: 4.303 x 1 % / √3, however many replicates there are."""
    for replicate, joules in enumerate((2.0, 2.01, 2.02, 2.01)):
        measured(world, joules, replicate=replicate, campaign=f"c{replicate}")
    page = Page(make())
    (query,) = world.sql(shipped()["replicates_spread"].sql)
    (point,) = page.points
    assert query.joules_relative_half_width_within == pytest.approx(0.0248, rel=0.01)
    assert point["within"] == pytest.approx(query.joules_relative_half_width_within, rel=1e-4)
    assert point["between"] == pytest.approx(query.joules_relative_sd_between, rel=1e-4)
    assert page.tables["Spread"][-1] == ["1", "0.41 %", "2.48 %"]


def test_a_point_that_two_campaigns_ask_for_counts_once_in_all_of_them(
    world: World, make: Make
) -> None:
    measured(world, 4.0, 1, campaign="first")
    measured(world, 2.0, 8, campaign="first")
    measured(world, 9.0, 64, campaign="second")
    world.sql("insert into campaign_tasks select s.id, k.task_id from campaigns s, "
              "campaign_tasks k join campaigns f on f.id = k.campaign_id "
              "where s.name = 'second' and f.name = 'first'")  # fmt: skip
    world.sql("insert into exclusions (campaign_id, engine, ordinal, workload, reason, detail, "
              "points) select id, 'a', n, 'w' || n, 'memory', '', 3 from campaigns, "
              "generate_series(1, case name when 'first' then 1 else 2 end) n "
              "where name in ('first', 'second')")  # fmt: skip
    page = Page(make())
    facts = [text for tag, text in page.seen if tag == "dd"]
    assert facts[0] == "3 of 9"
    drawn = {row["state"]: row["points"] for row in page.charts["coverage"]["rows"]}
    assert drawn == {"done": 3, "excluded": 6}
    table = {row[0]: row[1:3] for row in page.table("What became of the points")[1:]}
    assert table == {"first": ["5", "2"], "second": ["9", "3"], "all, each point once": ["9", "3"]}
    assert page.table("Why points have no value")[1:] == [["excluded", "memory", "6"]]
    alone = Page(make("--campaign", "first"))
    assert next(text for tag, text in alone.seen if tag == "dd") == "2 of 5"
    assert [row[0] for row in alone.table("What became of the points")[1:]] == ["first"]


# ---- findings ----------------------------------------------------------------------------------


def test_a_finding_names_its_ratio_and_its_interval(world: World, make: Make) -> None:
    """Ratios 4.04, 4, 3.96 of three models: Student's 4.303 over two degrees of freedom."""
    campaign_of_boards(world)
    (headline,) = [text for tag, text in Page(make()).seen if "divides" in text]
    assert headline == "Batch size 8 instead of 1 divides the energy per output token by 4."
    sure = next(text for text in Page(make()).said("p") if text.startswith("95 % interval"))
    assert sure == (
        "95 % interval over 3 models: between 3.9 and 4.1 times less; 3 like-for-like pairs."
    )


def test_what_is_not_certain_is_no_finding(world: World, make: Make) -> None:
    for number, (first, second) in enumerate([(1.0, 1.5), (1.5, 1.0), (1.0, 1.1)]):
        spec = engine(f"acme/{number}")
        measured(world, first, 1, spec=spec)
        measured(world, second, 8, spec=spec)
    page = Page(make())
    assert "li" not in [tag for tag, text in page.seen if "instead of" in text]
    assert "Not certain, the interval holds no change: batch size." in page.said("p")


def test_rows_that_differ_in_two_things_are_never_compared(world: World, make: Make) -> None:
    measured(world, 4.0, 1, spec=engine(board="h100-sxm-80gb"))
    measured(world, 1.0, 8, spec=engine(board="a100-sxm-80gb"))
    said = Page(make()).said("p")
    assert any("no two of the 2 configurations differ in one thing alone" in text for text in said)


def test_simulated_rows_never_enter_a_finding_of_measured_ones(world: World, make: Make) -> None:
    for batch_size, joules in zip(BATCHES, (8.0, 1.0), strict=True):
        measured(world, joules, batch_size, real=False)
    alone = make()
    assert "As the simulation assumes: batch size 8 instead of 1" in alone
    assert "Every value here is simulated" in alone
    measured(world, 4.0, 1)
    both = make()
    assert "size 8 instead of 1" not in both
    assert "Every value here is simulated" not in both
    assert {point["kind"] for point in Page(both).points} == {"measured", "simulated"}


# ---- whatever is in the store ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_campaign_without_a_row_renders(form: str, world: World, make: Make) -> None:
    world.campaign("nothing", [])
    text = make("--campaign", "nothing", "--format", form)
    assert "Nothing can be said yet" in text
    assert "<script" not in text


def test_one_row_renders(world: World, make: Make) -> None:
    measured(world, 1.0)
    assert len(Page(make()).points) == 1


@pytest.mark.parametrize("form", ["html", "md"])
def test_failures_alone_render(form: str, world: World, make: Make) -> None:
    number = world.campaign("failing", [task(reality=Reality.SIMULATED)])
    session = world.session()
    claim = world.leases.claim(number, world.engine_id, session)
    assert claim is not None
    world.leases.give_back(
        claim.lease_id, session, Outcome.FAULTED, kind="out_of_memory", error="no memory"
    )
    text = make("--campaign", "failing", "--format", form)
    assert "out_of_memory" in text.replace("\\", "")
    assert "Nothing can be said yet" in text


def test_hostile_names_stay_names(world: World, make: Make) -> None:
    for name in HOSTILE:
        measured(world, 1.0, spec=engine(name, name), campaign=name)
    for name in HOSTILE:
        page = Page(make("--campaign", name))
        assert page.said("h1") == [name]
        assert [point["model"] for point in page.points] == [name]
        assert page.tags.count("script") == 4
        assert "img" not in page.tags
        assert page.tags.count("td") == len(Page(make("--campaign", HOSTILE[4])).said("td"))


def test_hostile_names_are_no_markdown(world: World, make: Make) -> None:
    measured(world, 1.0, spec=engine(HOSTILE[0], HOSTILE[5]), campaign=HOSTILE[5])
    text = make("--format", "md")
    assert "<script>" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "7" in line}
    heads = {len(re.findall(r"(?<!\\)\|", line)) for line in tables if ":--" in line}
    assert pipes <= heads


def test_nothing_of_the_page_is_outside_it(world: World, make: Make) -> None:
    campaign_of_boards(world)
    text = make()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe-eval" not in policy[1]
    assert not re.search(r'(?:src|href)="(?!#)', text.split("<script")[0])


def test_every_query_that_the_report_names_is_shipped(world: World, make: Make) -> None:
    campaign_of_boards(world)
    named = set(re.findall(r"campaign query ([a-z_]+)", make("--format", "md")))
    assert {"report_cells", "report_coverage", "report_provenance"} <= named <= set(shipped())


# ---- public ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_public_report_names_no_machine_and_nobody(form: str, world: World, make: Make) -> None:
    spec = engine("/home/zebedee/models/mine", options={"log": f"~/{USER}/x", "id": GPU})
    measured(world, 1.0, spec=spec, campaign=f"{USER}-sweep")
    secret = (HOST, USER, GPU, "zebedee", "/home/")
    open_ = make("--format", form)
    assert any(name in open_.replace("\\", "") for name in secret)
    text = make("--public", "--format", form)
    if form == "html":
        text += json.dumps(Page(text).points)
    assert [name for name in secret if name in text.replace("\\", "")] == []


# ---- files -------------------------------------------------------------------------------------


def test_figures_are_drawn_of_the_same_rows(world: World, make: Make, tmp_path: Path) -> None:
    campaign_of_boards(world)
    make("--figures", str(tmp_path / "figures"))
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"batch.svg", "batch.png", "latency.svg", "ratios.svg"} <= names
    svg = (tmp_path / "figures" / "batch.svg").read_text()
    assert "energy per output token (J)" in svg
    assert svg.count('aria-roledescription="point"') == 6
    assert (tmp_path / "figures" / "batch.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "{tmp}/absent/report.html"], "cannot be written: No such file or directory"),
        (["-o", "{tmp}"], "is a folder: name a file in it"),
        (["-o", "{tmp}/r.html", "--figures", "{tmp}/file"], "--figures {tmp}/file cannot be"),
        (["-o", "{tmp}/r.html", "boards"], "report takes no words, only options: boards"),
        (["-o", "{tmp}/r.html", "--format", "pdf"], "invalid choice"),
        (["--format", "md", "--json"], "name another place with -o FILE"),
    ],
)
def test_what_cannot_be_written_is_found_before_the_store_is_asked(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = [option.format(tmp=tmp_path) for option in options]
    assert main(["report", *words, "store.path=/nonexistent/store"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said.format(tmp=tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unknown_campaign_suggests_near_names(
    world: World, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.campaign("boards", [])
    path = tmp_path / "report.html"
    words = ["report", "--campaign", "bords", "-o", str(path), f"store.url='{store.url}'"]
    assert main(words) == 2
    assert "no campaign is called bords; did you mean boards?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_version_is_one_line(
    embedded_store: EmbeddedPostgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ground(embedded_store, "bare_report", bare=True) as bare:
        words = ["report", "-o", str(tmp_path / "r.html"), f"store.url='{bare.url}'"]
        assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "campaign db upgrade" in line
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(
    world: World, make: Make, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(world, 1.0)
    old = make()

    def interrupted(report: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign.report.page, "page", interrupted)
    path = tmp_path / "report.html"
    assert main(["report", "-o", str(path), f"store.url='{store.url}'"]) == 130
    assert path.read_text(encoding="utf-8") == old
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
