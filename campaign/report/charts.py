"""Which charts a report has: those that its points can fill, each with its words.

Owns titles and captions, and which axes are logarithmic. A chart without a row is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from campaign.report import energy_charts, other_charts
from campaign.report.points import Point, spanned
from campaign.report.specs import Spec
from campaign.tabular import count_of

#: What the rows of one configuration are, where several share a mark.
MEDIANS = ("A mark is one configuration with its 95 % interval, or the median of several with "
           "their quartiles; hovering says which.")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart. `rows` are its own; None takes the points that the filters leave.

    `colours` says whether its colour can be chosen, `one_kind` that it shows one kind at a time,
    `wide` that it stands alone in its line.
    `by` are the columns of the store that tell its marks apart, by the field of the chart; its
    rows have all of `needs`. `query` gives the rows of a chart that has its own.
    """

    id: str
    section: str
    title: str
    caption: str
    spec: Spec
    rows: Sequence[Point] | None = None
    colours: bool = False
    one_kind: bool = False
    wide: bool = False
    by: Sequence[str] = field(default=())
    needs: Sequence[str] = ("j",)
    query: str = ""


def charts(points: Sequence[Point], colour: str) -> list[Chart]:
    """Return the charts that the points can fill, in the order of the page."""
    log = spanned(_numbers(points, "j"))
    return [*_energy(points, colour, log=log), *_phases(points), *_beside(points, colour, log=log)]


def _energy(points: Sequence[Point], colour: str, *, log: bool) -> Iterator[Chart]:
    with_energy = [point for point in points if point["j"] is not None]
    if _several(with_energy, "batch"):
        yield Chart(
            id="batch", section="energy", title="Against the batch size",
            caption=f"One line an engine and workload as long as they can be told apart; the "
                    f"medians over them otherwise. {MEDIANS}",
            spec=energy_charts.by_batch(colour, _sizes(with_energy), log=log), colours=True,
            wide=True, by=("series", "line", "kind", "batch"),
        )  # fmt: skip
    if _several(with_energy, "in") or _several(with_energy, "out"):
        yield Chart(
            id="lengths", section="energy", title="By input and output length",
            caption="Median over everything the filters leave. Lengths that are many are grouped "
                    "by powers of two.",
            spec=energy_charts.heat(log=log), one_kind=True, by=("in_bin", "out_bin", "kind"),
        )  # fmt: skip
    for name, title in (("board", "By board"), ("engine", "By engine"),
                        ("precision", "By precision"), ("tp", "By tensor parallel size"),
                        ("decoding", "By decoding")):  # fmt: skip
        if _several(with_energy, name):
            yield Chart(
                id=name, section="compare", title=title,
                caption="",
                spec=energy_charts.compared(name, log=log), by=(name, "kind"),
            )  # fmt: skip


def _phases(points: Sequence[Point]) -> Iterator[Chart]:
    if _numbers(points, "pf_share"):
        yield Chart(
            id="phase_share", section="phases", title="Share of each phase",
            caption="Mean share of the energy, over the configurations in which every phase could "
                    "be told apart.",
            spec=other_charts.phase_share(), one_kind=True, by=("batch", "kind"),
            needs=("j", *other_charts.SHARES),
        )  # fmt: skip
    tokens = [*_numbers(points, "pf"), *_numbers(points, "de")]
    if tokens:
        yield Chart(
            id="phase_tokens", section="phases", title="Energy of a token in each phase",
            caption="Medians with quartiles in the hover. Prefill counts prompt tokens, decode the "
                    "generated ones after each request's first.",
            spec=other_charts.phase_tokens(_sizes(points), log=spanned(tokens)),
            one_kind=True, by=("batch", "kind"),
        )  # fmt: skip


def without_shares(points: Iterable[Point]) -> str:
    """Return how many configurations have a phase of unknown energy, which no share can be of."""
    partly = sum(
        point["pf_share"] is None and not (point["pf"] is None and point["de"] is None)
        for point in points
    )
    if not partly:
        return ""
    return (
        f"In {count_of(partly, 'configuration')} of all rows a phase could not be told apart: no "
        "share is drawn of them."
    )


def _beside(points: Sequence[Point], colour: str, *, log: bool) -> Iterator[Chart]:
    nets = _numbers(points, "net")
    if nets:
        both = [*nets, *_numbers(points, "j")]
        yield Chart(
            id="net", section="net", title="Medians by board",
            caption="The dot is the gross median of the configurations that have both; the tick "
                    "takes off what the idle board with the model resident draws in the same time. "
                    "A logarithmic axis has no place for a net median of zero or less: it is in "
                    "the hover alone.",
            spec=other_charts.net(log=spanned(both)), by=("board", "kind"), needs=("j", "net"),
        )  # fmt: skip
    latencies = [p["itl"] for p in points if p["j"] is not None and p["itl"]]
    if latencies:
        yield Chart(
            id="latency", section="latency", title="Time between tokens",
            caption="Lower left is better. The stepped line is the Pareto front of each colour: "
                    "nothing of that colour is both faster and thriftier.",
            spec=other_charts.latency(
                colour, log=log, log_latency=spanned(_numbers(points, "itl"))),
            colours=True, by=("point", "series", "kind"),
        )  # fmt: skip
    if any(point["between"] and point["within"] for point in points):
        yield Chart(
            id="spread", section="spread", title="Between sessions and within one",
            caption="Above the dashed line a reload changes more than the interval within one "
                    "session admits.",
            spec=other_charts.spread(colour), colours=True, by=("point", "series", "kind"),
        )  # fmt: skip


def ratio_chart(rows: Sequence[Point]) -> Iterator[Chart]:
    """Yield the chart of like for like, where anything can be compared so."""
    if rows:
        ends = [value for name in ("low", "high", "value") for value in _numbers(rows, name)]
        yield Chart(
            id="ratios", section="compare", title="Like for like", wide=True,
            caption="Ratio of joules per output token between rows that differ in nothing else, "
                    "with its interval; the table below says of what. On the dashed line nothing "
                    "changes.",
            spec=other_charts.ratios(log=spanned(ends)), rows=rows,
            query="campaign query report_cells",
        )  # fmt: skip


def trace_chart(rows: Sequence[Point]) -> Iterator[Chart]:
    """Yield the chart of power traces, where the store kept any."""
    if rows:
        yield Chart(
            id="traces", section="traces", title="Power in one window a board",
            caption="The newest repeat of the largest batch that kept its samples, of seven boards "
                    "at most. Long windows are thinned to the extremes of equal slices; dotted "
                    "lines are enforced limits.",
            spec=other_charts.traces(), rows=rows, query="campaign query report_traces",
        )  # fmt: skip


def coverage_chart(rows: Sequence[Point]) -> Iterator[Chart]:
    """Yield the chart of states by board."""
    if rows:
        yield Chart(
            id="coverage", section="coverage", title="Points by board and state",
            caption="Points that the plan excludes stand for no board where the whole engine "
                    "cannot work.",
            spec=other_charts.coverage(), rows=rows, query="campaign query report_coverage",
        )  # fmt: skip


def _several(points: Iterable[Point], name: str) -> bool:
    return len({point[name] for point in points} - {None, ""}) > 1


def _sizes(points: Iterable[Point]) -> list[float]:
    return sorted({size for size in _numbers(points, "batch") if size == int(size)})


def _numbers(points: Iterable[Point], *names: str) -> list[float]:
    values = chain.from_iterable((point[name] for name in names) for point in points)
    return [value for value in values if isinstance(value, float | int)]
