"""The page of `campaign report` in a real browser, opened from disk."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from campaign.cli import main
from db.embedded import EmbeddedPostgres
from db.store import Store
from tests.store.reported import campaign_of_boards, engine, measured
from tests.store.world import World, ground

pytestmark = pytest.mark.store

SIZES = {"desk": (1280, 900), "tablet": (820, 1100), "phone": (390, 844)}
HOSTILE = "<img src=x onerror=alert(1)>'\"`$(id)\\ " + "long-name-" * 30
EXCERPT = Path(__file__).resolve().parents[1] / "data" / "mlenergy_v3_excerpt.csv"
READY = "document.documentElement.dataset.shown !== undefined"


@dataclass
class Shown:
    """A page with everything it complained of, and everything it asked for outside itself."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)

    def shows(self, rows: int) -> None:
        """Wait until so many configurations are shown."""
        self.page.wait_for_function(f"document.documentElement.dataset.shown === '{rows}'")


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    """Three models with known ratios, a hostile name, and simulated rows, in one campaign."""
    with ground(embedded_store, "browsing") as found:
        world = World(found)
        campaign_of_boards(world)
        measured(world, 1.5, 1, spec=engine(HOSTILE, "a100-sxm-80gb"))
        measured(world, 9.0, 1, real=False)
        yield found


@pytest.fixture(scope="module")
def report(store: Store, public_tmp: Path) -> Path:
    path = public_tmp / "report.html"
    words = ["report", "--campaign", "boards", "-o", str(path), f"store.url='{store.url}'"]
    assert main(words) == 0
    return path


@pytest.fixture(scope="module")
def others(store: Store, report: Path, public_tmp: Path) -> Path:
    """The same, of a store that rows of others were imported into after the first report."""
    words = [str(EXCERPT), "--source", "mlenergy", "--map", "mlenergy_v3"]
    assert main(["import", *words, f"store.url='{store.url}'"]) == 0
    path = public_tmp / "others.html"
    assert main(["report", "-o", str(path), f"store.url='{store.url}'"]) == 0
    return path


@pytest.fixture
def opened(browser: Any) -> Callable[..., Any]:
    @contextmanager
    def open_at(path: Path, size: str = "desk", scheme: str = "light") -> Iterator[Shown]:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        page = context.new_page()
        shown = Shown(page)
        page.on("console", lambda message: shown.said.append(message.text))
        page.on("pageerror", lambda error: shown.said.append(str(error)))
        page.on("dialog", lambda dialog: (shown.said.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: shown.asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function(READY)
        yield shown
        context.close()

    return open_at


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_renders_without_a_word_and_asks_for_nothing(
    size: str, scheme: str, report: Path, opened: Callable[..., Any]
) -> None:
    with opened(report, size, scheme) as shown:
        assert shown.said == []
        assert shown.asked == [report.as_uri()]
        assert shown.count("figure") == shown.count("figure .chart > svg") > 5
        assert shown.count("#chart-batch .mark-symbol path") == 7
        assert shown.value("document.documentElement.scrollWidth <= innerWidth")
        assert shown.value(
            "[...document.querySelectorAll('figure svg')].every("
            "svg => svg.getBoundingClientRect().right <= innerWidth + 1)"
        )


def test_filters_leave_what_they_say(report: Path, opened: Callable[..., Any]) -> None:
    with opened(report) as shown:
        assert shown.text("#filters output") == "7 of 8 configurations"
        shown.page.locator(".pick summary", has_text="Model").click()
        shown.page.locator(".pick[open]").get_by_role("button", name="None").click()
        shown.shows(0)
        shown.page.locator(".pick[open]").get_by_label("acme/two").check()
        shown.shows(2)
        assert shown.text("#filters output") == "2 of 8 configurations"
        assert shown.count("#chart-batch .mark-symbol path") == 2
        assert shown.count("#all tbody tr") == 2
        assert shown.said == []


def test_simulated_rows_are_hollow_and_come_only_when_asked_for(
    report: Path, opened: Callable[..., Any]
) -> None:
    marks = "#chart-batch .mark-symbol path"
    hollow = f"{marks}[fill='transparent'], {marks}[fill='none']"
    with opened(report) as shown:
        assert shown.count(hollow) == 0
        shown.page.locator(".pick summary", has_text="Values").click()
        shown.page.locator(".pick[open]").get_by_label("simulated").check()
        shown.shows(8)
        assert shown.count(hollow) == 1
        assert shown.count("#chart-batch .mark-symbol path") == 8


def test_imported_rows_are_squares_and_come_only_when_asked_for(
    others: Path, store: Store, opened: Callable[..., Any]
) -> None:
    marks = "#chart-batch .mark-symbol path"
    with opened(others) as shown:
        before = shown.count(marks)
        assert "imported" not in shown.text("#chart-batch")
        shown.page.locator(".pick summary", has_text="Values").click()
        shown.page.locator(".pick[open]").get_by_label("measured").uncheck()
        shown.page.locator(".pick[open]").get_by_label("external").check()
        shown.shows(30)
        hollow = f"{marks}[fill='transparent'], {marks}[fill='none']"
        assert shown.count(marks) == shown.count(hollow) > 0
        assert "□ imported" in shown.text("#chart-batch .legend")
        shown.page.keyboard.press("Escape")
        shown.page.locator("#all tbody tr").first.click()
        assert "mlenergy" in shown.text("#pinned .said")
        assert shown.said == []
        sql = shlex.split(shown.text("#pinned .command"))[2]
    assert before == 7
    with store.begin() as connection:
        (row,) = connection.exec_driver_sql(sql.replace("%", "%%")).mappings()
    assert (row["source"], row["reality"]) == ("mlenergy", "external")


def test_what_filters_leave_alone_says_so(others: Path, opened: Callable[..., Any]) -> None:
    with opened(others) as shown:
        for place in ("#findings h2", "#coverage h2", "#validity h2", "#imported h2"):
            assert "all rows, not filtered" in shown.text(place)
        assert "all rows, not filtered" in shown.text("#chart-ratios h3")
        assert "not filtered" not in shown.text("#energy h2")
        findings = shown.text("#findings")
        shown.page.locator(".pick summary", has_text="Model").click()
        shown.page.locator(".pick[open]").get_by_role("button", name="None").click()
        shown.shows(0)
        assert shown.text("#findings") == findings
        assert "No row that the filters leave has this" in shown.text("#chart-batch")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_on_white_with_its_numbers_and_nothing_cut_off(
    scheme: str, others: Path, opened: Callable[..., Any]
) -> None:
    """A4 less its margins is 184 mm wide: 695 pixels."""
    with opened(others, "desk", scheme) as shown:
        shown.page.set_viewport_size({"width": 695, "height": 1000})
        shown.page.emulate_media(media="print", color_scheme=scheme)
        shown.value("dispatchEvent(new Event('beforeprint'))")
        colours = "getComputedStyle(document.body)"
        assert shown.value(f"{colours}.backgroundColor") == "rgb(255, 255, 255)"
        assert shown.value(f"{colours}.color") == "rgb(0, 0, 0)"
        assert shown.count("details.numbers:not([open])") == 0
        assert shown.count("#chart-batch details tbody tr") == 7
        wide = shown.value(
            "[...document.querySelectorAll('main *')].filter(one => "
            "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"
        )
        assert wide == []
        shown.value("dispatchEvent(new Event('afterprint'))")
        assert shown.count("details.numbers[open]") == 0
        assert shown.page.pdf(format="A4").startswith(b"%PDF")


def test_a_mark_tells_its_value_and_the_query_that_gives_it(
    report: Path, store: Store, opened: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(report) as shown:
        marks = shown.page.locator("#chart-batch .mark-symbol path")
        told = {}
        for number in range(marks.count()):
            marks.nth(number).scroll_into_view_if_needed()
            marks.nth(number).hover(force=True)
            hover = shown.text("#hover")
            marks.nth(number).click(force=True)
            assert "95 %, within one session" in hover
            told[shown.text("#pinned .command")] = shown.text("#pinned .said")
            shown.page.keyboard.press("Escape")
    assert len(told) >= 6
    for command, said in told.items():
        program, verb, sql = shlex.split(command)
        assert (program, verb) == ("campaign", "query")
        capsys.readouterr()
        with store.begin() as connection:
            (row,) = connection.exec_driver_sql(sql.replace("%", "%%")).mappings()
        assert f"{row['joules_per_output_token']:.4g} ±" in said
        assert (" ".join(row["marks"]) or "none") in said


def test_numbers_of_a_chart_are_a_table_for_who_cannot_see_it(
    report: Path, opened: Callable[..., Any]
) -> None:
    with opened(report) as shown:
        assert shown.page.get_by_role("img", name="Chart: Against the batch size").count() == 1
        shown.page.locator("#chart-batch summary").focus()
        shown.page.keyboard.press("Enter")
        table = shown.page.locator("#chart-batch table")
        table.wait_for()
        assert table.locator("tbody tr").count() == 7
        assert "acme/two" in table.inner_text()


def test_the_rows_can_be_sorted_and_saved(report: Path, opened: Callable[..., Any]) -> None:
    with opened(report) as shown:
        shown.page.get_by_role("button", name="J/token", exact=True).click()
        cells = shown.page.locator("#all tbody tr td:nth-child(6)").all_inner_texts()
        assert cells == sorted(cells, key=float)
        with shown.page.expect_download() as download:
            shown.page.locator("#csv").click()
        lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1 + 7
        assert shown.said == []


def test_hostile_names_are_text_everywhere(report: Path, opened: Callable[..., Any]) -> None:
    with opened(report) as shown:
        shown.page.locator(".pick summary", has_text="Board").click()
        shown.page.locator("#chart-batch summary").click()
        assert shown.count("img") == 0
        assert HOSTILE.strip() in shown.value("document.querySelector('#all').textContent")
        assert shown.said == []


def test_a_campaign_without_rows_is_a_page_too(
    store: Store, public_tmp: Path, browser: Any
) -> None:
    World.campaign(_bare(store), "nothing", [])
    path = public_tmp / "nothing.html"
    words = ["report", "--campaign", "nothing", "-o", str(path), f"store.url='{store.url}'"]
    assert main(words) == 0
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert "Nothing can be said yet" in page.locator("#findings").inner_text()
    assert said == []
    page.close()


def _bare(store: Store) -> World:
    """A world on a store that is not emptied."""
    world = World.__new__(World)
    world.store = store
    return world
