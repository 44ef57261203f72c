"""The section on sweet spots: which output length takes the least energy, by set-up and batch.

Owns which set-ups are shown, and the words. Fits and intervals are those of `campaign analyze
sweet-spot`, by the same code; values of one kind alone, imported rows never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

from campaign.analysis.per_request import Sample, Samples, by_regime, samples_of
from campaign.analysis.rows import catalogue_names
from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.optimum import Optimum, worded
from campaign.analysis.sweet_spots.spot import SweetSpots, lacking, sweet_spots
from campaign.catalogue.catalog import Catalog
from campaign.report import length_chart
from campaign.report.cells import Kind
from campaign.report.charts import Chart
from campaign.report.sections import Section
from campaign.report.tables import Table
from campaign.tabular import MISSING, count_of
from db.errors import ConfigError

Row = Mapping[str, Any]
Regime = tuple[Setup, int | None]

#: So many set-ups are fitted, a second each; the others are named with the command that fits them.
MOST = 6
ASKED = "campaign query report_lengths"
LEAD = (
    "The output length of least energy per output token, where six terms in both lengths are "
    "fitted to the joules of a request. Cells are joules per output token as they are; a ring is "
    "the fitted optimum of an input length with its 95 % interval, a diamond one outside of what "
    "was measured."
)
REALITY = {Kind.MEASURED: "real", Kind.SIMULATED: "simulated"}
TITLE = "Sweet spots"


def spots(rows: Sequence[Row], kind: Kind, campaign: str | None, catalog: Catalog) -> Section:
    """Return the section; where nothing can be fitted, it says why."""
    found = [row for row in rows if row["reality"] == REALITY.get(kind)]
    if not found:
        return _without("there is no measured or simulated row with joules")
    names = catalogue_names([row["model"] for row in found], catalog)
    try:
        samples = samples_of([{**row, "catalogue_model": names.get(row["model"])} for row in found])
        regimes = by_regime(samples)
    except ConfigError as error:
        return _without(str(error))
    lacks = {regime: lacking(members) for regime, members in regimes.items()}
    whole = [regime for regime, why in lacks.items() if why is None]
    short = Counter(why for why in lacks.values() if why is not None)
    if not whole:
        return _without(f"of {count_of(len(regimes), 'set-up')} none has enough",
                        tables=[_short(short)])  # fmt: skip
    shown = _shown(whole, regimes)
    usable = tuple(sample for regime in shown for sample in regimes[regime])
    fitted = sweet_spots(Samples(usable=usable, rows=samples.rows, dropped={}), catalog)
    return Section(
        id="spots",
        title=TITLE,
        lead=_lead(len(shown), len(whole), samples.dropped, campaign),
        charts=list(_charts(fitted, kind)),
        tables=[_fits(fitted), _optima(fitted), *([_short(short)] if short else [])],
    )


def _without(why: str, tables: Sequence[Table] = ()) -> Section:
    return Section(id="spots", title=TITLE, lead=f"None: {why}.", tables=tables)


def _lead(shown: int, whole: int, dropped: Mapping[str, int], campaign: str | None) -> str:
    told = LEAD
    if whole > shown:
        name = quote(campaign or "NAME")
        told += (f" Here are {shown} of {whole} set-ups that can be fitted, as unlike as can be; "
                 f"campaign analyze sweet-spot --campaign {name} fits all of them.")  # fmt: skip
    if dropped:
        words = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        told += f" Rows left out: {words}."
    return told


def _shown(whole: Sequence[Regime], regimes: Mapping[Regime, Sequence[Sample]]) -> list[Regime]:
    """Return the set-ups with most rows; where those are many, such that differ the most."""
    left = sorted(whole, key=lambda one: (-len(regimes[one]), one[0].label, one[1] or 0))
    seen: Counter[object] = Counter()
    chosen: list[Regime] = []
    while left and len(chosen) < MOST:
        best = min(left, key=lambda one: sum(seen[word] for word in _words(*one)))
        left.remove(best)
        seen.update(_words(*best))
        chosen.append(best)
    return sorted(chosen, key=lambda one: (one[0].label, one[1] or 0))


def _words(setup: Setup, batch: int | None) -> tuple[object, ...]:
    return setup.board, setup.model, setup.backend, setup.quantization, setup.tensor_parallel, batch


def _charts(found: SweetSpots, kind: Kind) -> Iterator[Chart]:
    for number, spot in enumerate(found.spots):
        yield Chart(
            id=f"spot{number}", section="spots", title=f"{spot.label}{_not_measured(kind)}",
            caption="",
            spec=length_chart.heat(spot), rows=length_chart.rows(spot), query=ASKED,
        )  # fmt: skip


def _not_measured(kind: Kind) -> str:
    return "" if kind is Kind.MEASURED else f" ({kind})"


def _fits(found: SweetSpots) -> Table:
    rows = []
    for spot in found.spots:
        six = spot.forms[-1].errors
        errors = (six.in_sample, six.folds, six.corners, six.longest_inputs, six.longest_outputs)
        rows.append((spot.label, f"{spot.rows:,}", *map(_percent, errors),
                     f"{spot.worst_over_best:.3g}"))  # fmt: skip
    return Table(
        title="How well six terms foretell the joules of a request", rows=rows, command=ASKED,
        columns=("set-up", "rows", "in sample", "random fifths", "corners", "longest inputs",
                 "longest outputs", "worst over best"),
        numbers=frozenset(range(1, 8)),
        note="Mean absolute error in percent: in sample, and on lengths that the fit did not see. "
             "The last column is the dearest over the cheapest cell of the grid, as it is.",
    )  # fmt: skip


def _optima(found: SweetSpots) -> Table:
    rows = [
        ("" if again else spot.label, *(cell or MISSING for cell in _optimum(one)))
        for spot in found.spots
        for again, one in enumerate(spot.per_output_token)
    ]
    return Table(
        title="Best output length", rows=rows, command=ASKED,
        columns=("set-up", "input tokens", "best output tokens", "95 % interval", "remark"),
        numbers=frozenset({1, 2, 3}),
        note="Least joules per output token. Both are clipped to the lengths there are.",
    )  # fmt: skip


def _optimum(one: Optimum) -> tuple[str, ...]:
    best, interval, _, remark = worded(one)
    return f"{one.input_tokens:g}", f"{best}", interval, remark


def _short(why: Counter[str]) -> Table:
    return Table(
        title="Set-ups that cannot be fitted", rows=[(w, f"{n:,}") for w, n in why.most_common()],
        columns=("why", "set-ups"), command=ASKED, numbers=frozenset({1}),
    )  # fmt: skip


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2g} %"
