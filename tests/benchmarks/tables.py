"""What the race found, for people: tables of 100 columns. It takes medians and judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.boards import KINDS
from tests.benchmarks.coverage import Covered
from tests.benchmarks.race import CONDITIONS, Trial

WIDTH = 100
BESIDE = {"idle": "on an idle machine", "busy": "beside four busy processes"}
NOTES = (
    "Truth: the exact integral over the window that the meter reports (this meter), or from the",
    "return of the call that begins it to the call that ends it (all others). `tick to tick` is",
    "`campaign meter --seconds`, whose window ends up to one tick after the call; `at the call` is",
    "what a campaign does. Polling reads nvmlDeviceGetPowerUsage: on the H100-like a 1 s mean.",
    "`none` as the worst: some windows have no number.",
)


def names() -> dict[str, str]:
    """What each meter is called."""
    polling = {f"polling_{hz}": f"polling {hz} Hz, trapezoid" for hz in (1, 10, 100)}
    return {
        "aligned": "this meter, tick to tick", "session": "this meter, at the call",
        "zeus": f"zeus {version('zeus')}", "codecarbon": f"codecarbon {version('codecarbon')}",
    } | polling  # fmt: skip


def of(trials: Sequence[Trial], meter: str, condition: str, *, counter: bool) -> list[Trial]:
    """One meter's windows; polling knows no counter."""
    return [t for t in trials if t.meter == meter and t.condition == condition
            and (t.lane.counter == counter or meter.startswith("polling"))]  # fmt: skip


def errors(trials: Sequence[Trial], kind: str, length_s: float) -> list[float]:
    """The sizes of the errors of one meter's windows on one kind of board."""
    return [abs(t.error) for t in trials
            if t.lane.kind == kind and t.length_s == length_s and t.error is not None]  # fmt: skip


def percent(part: float) -> str:
    """A part in per cent, two digits that count; of the smallest one."""
    value = 100 * part
    if value < 0.001:
        return f"{value:.4f}" if value >= 0.0001 else "<1e-4"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def cells(trials: Sequence[Trial], kind: str, length_s: float) -> tuple[str, str]:
    """Median and worst error, or the word for why there is none."""
    found = errors(trials, kind, length_s)
    here = [t for t in trials if t.lane.kind == kind and t.length_s in (0.0, length_s)]
    if found:
        worst = percent(max(found)) if len(found) == len(here) else "none"
        return percent(median(found)), worst
    reasons = {"refused" if t.length_s == 0.0 else str(t.reason) for t in here}
    return next(iter(reasons), "-"), ""


def titled(title: str) -> Table:
    """A table with nothing in it."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                 width=WIDTH, pad_edge=False, padding=(0, 0, 0, 1))  # fmt: skip


def error_table(
    trials: Sequence[Trial], lengths_s: Sequence[float], condition: str, *, counter: bool
) -> Table:
    """The errors of all meters on all boards under one condition."""
    counted = "with the energy counter" if counter else "without an energy counter"
    table = titled(f"Error in % {counted}, {BESIDE[condition]}: median and worst")
    table.add_column("board and meter", no_wrap=True)
    for length_s in lengths_s:
        table.add_column(f"{length_s:g} s", justify="right")
        table.add_column("worst", justify="right", style="dim")
    for kind in KINDS:
        table.add_row(f"[bold]{kind}")
        for meter, name in names().items():
            found = [t for t in of(trials, meter, condition, counter=counter)
                     if t.lane.kind == kind]  # fmt: skip
            if not found:
                continue
            row = [text for length_s in lengths_s for text in cells(found, kind, length_s)]
            table.add_row(f"  {name}", *row, style="green" if "this" in name else None)
    return table


def cpu_table(trials: Sequence[Trial], lengths_s: Sequence[float]) -> Table:
    """What the meters cost themselves."""
    table = titled("Processor time of the meter's own processes: % of one core over a window")
    table.add_column("meter of one GPU", no_wrap=True)
    table.add_column("counter")
    for condition in CONDITIONS:
        for length_s in lengths_s:
            table.add_column(f"{condition}\n{length_s:g} s", justify="right")
    for meter, name in names().items():
        for counter in (True, False):
            found = [t for t in trials if t.meter == meter and t.lane.counter == counter]
            row = [_cpu([t for t in found if (t.condition, t.length_s) == (c, s)])
                   for c in CONDITIONS for s in lengths_s]  # fmt: skip
            if any(row):
                either = "-" if meter.startswith("polling") else "yes" if counter else "no"
                table.add_row(name, either, *row)
    return table


def _cpu(trials: Sequence[Trial]) -> str:
    if not trials:
        return ""
    return f"{100 * sum(t.cpu_s for t in trials) / sum(t.length_s for t in trials):.2f}"


def coverage_table(found: Sequence[Covered]) -> Table:
    """Coverage and median half-width of this meter without counter."""
    lengths_s = sorted({c.length_s for c in found})
    table = titled("This meter without counter: % of windows whose half-width covers the truth, "
                   "median half-width in %")  # fmt: skip
    table.add_column("windows", no_wrap=True)
    table.add_column("load")
    for length_s in lengths_s:
        table.add_column(f"{length_s:g} s\ncovered", justify="right")
        table.add_column("\nwidth", justify="right")
        table.add_column("\nof", justify="right", style="dim")
    for source, family in dict.fromkeys((c.source, c.family) for c in found):
        row = []
        for length_s in lengths_s:
            here = [c for c in found
                    if (c.source, c.family, c.length_s) == (source, family, length_s)]  # fmt: skip
            row += ([f"{100 * here[0].covered:.1f}", percent(here[0].width), str(here[0].windows)]
                    if here else ["", "", ""])  # fmt: skip
        table.add_row(source, family, *row)
    return table


def show(trials: Sequence[Trial], covered: Sequence[Covered]) -> None:
    """Print everything."""
    lengths_s = sorted({t.length_s for t in trials} - {0.0})
    console = Console(width=WIDTH, highlight=False)
    console.print()
    for line in NOTES:
        console.print(line, markup=False)
    for condition in CONDITIONS:
        for counter in (True, False):
            console.print(error_table(trials, lengths_s, condition, counter=counter))
    console.print(cpu_table(trials, lengths_s))
    console.print(coverage_table(covered))
