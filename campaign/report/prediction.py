"""The section on a predictor: how good its study found it, and what it says of these rows.

Owns the comparison with the report's own rows and its words. The predictor was learned before, by
`campaign analyze predictor --save`; nothing is learned here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from shlex import quote
from statistics import median
from typing import Any

from campaign.analysis.predictor.saved import Predictor
from campaign.analysis.predictor.told import shown
from campaign.catalogue.ablations import base_of
from campaign.catalogue.catalog import Catalog
from campaign.report import prediction_chart
from campaign.report.cells import Kind
from campaign.report.charts import Chart
from campaign.report.compared import SEEN, Compared, compared
from campaign.report.sections import Section
from campaign.report.spots import REALITY
from campaign.report.tables import Table
from campaign.tabular import MISSING, count_of
from db.errors import ConfigError

Row = Mapping[str, Any]

ASKED = "campaign query report_evidence"
TITLE = "Predictor"
UNMARKED = "Its folder does not say which points it learned from, so none is marked as learned."
CAPTION = (
    "On the dashed line both agree; the line through a mark is its interval. Rows that it learned "
    "from say nothing about how well it foretells."
)
#: Of the tables of a study, those that say how good it is.
JUDGING = 3


def without(campaign: str | None) -> Section:
    """Return the section of a report that no predictor was named for."""
    rows = f"--campaign {quote(campaign or 'NAME')}"
    return Section(id="predictor", title=TITLE, lead=(
        f"None was named: campaign analyze predictor {rows} --save DIR learns one, which takes "
        "minutes, and campaign report --model-dir DIR shows it here."))  # fmt: skip


def prediction(rows: Sequence[Row], kind: Kind, predictor: Predictor, catalog: Catalog) -> Section:
    """Return the section: scores of its study, and predicted beside measured. ConfigError."""
    found = [row for row in rows if row["reality"] == REALITY.get(kind)]
    known, left_out = compared(found, predictor, catalog)
    study = _study(predictor)
    if not known:
        why = next(iter(left_out), "there is no measured or simulated row with joules")
        lead = f"{_learned(predictor)} It can be asked about no row here: {why}."
        return Section(id="predictor", title=TITLE, tables=study, lead=lead)
    drawn = prediction_chart.rows(known, str(kind))
    chart = Chart(
        id="predicted", section="predictor", title="Predicted against measured", wide=True,
        caption=CAPTION, spec=prediction_chart.spec(drawn), rows=drawn, query=ASKED,
    )  # fmt: skip
    return Section(
        id="predictor",
        title=TITLE,
        lead=_learned(predictor) + _without_answer(left_out),
        charts=[chart],
        tables=[_here(known), *study],
    )


def _learned(predictor: Predictor) -> str:
    found = predictor.findings.get("rows")
    told = found if isinstance(found, Mapping) else {}
    realities = told.get("realities")
    known = realities if isinstance(realities, Mapping) else {"unknown": ""}
    words = ", ".join(f"{count} {name}".strip() for name, count in known.items())
    models = count_of(len(set(map(base_of, predictor.names["model"]))), "model")
    rows_told = told.get("rows", MISSING)
    said = f"The physics-informed model, learned from {rows_told} rows of {models} ({words})."
    return said if predictor.learned is not None else f"{said} {UNMARKED}"


def _without_answer(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    why, count = left_out.most_common(1)[0]
    more = f", and {left_out.total() - count:,} for other reasons" if len(left_out) > 1 else ""
    return f" {count:,} rows have no prediction: {why}{more}."


def _here(known: Sequence[Compared]) -> Table:
    rows = []
    for seen in SEEN:
        some = [one for one in known if one.seen == seen]
        if some:
            rows.append((
                seen, f"{len(some):,}", f"{sum(one.outside for one in some):,}",
                _percent(median(one.error for one in some)),
                _percent(sum(one.held for one in some) / len(some)),
                _percent(median(one.factor - 1 / one.factor for one in some)),
            ))  # fmt: skip
    return Table(
        title="On the rows of this report", rows=rows, command=ASKED,
        columns=("rows", "how many", "outside its training range", "median error",
                 "within their interval", "median width / prediction"),
        numbers=frozenset(range(1, 6)),
    )  # fmt: skip


def _study(predictor: Predictor) -> list[Table]:
    """Return the tables of its study that judge it. ConfigError where they cannot be read."""
    try:
        tables = list(shown(predictor.findings))[:JUDGING]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{predictor.folder}: what its study found cannot be read ({type(error).__name__}): "
            "learn it again"
        ) from error
    return [
        Table(
            title=f"Its own study: {table.title[0].lower()}{table.title[1:]}",
            columns=table.columns,
            rows=[[str(cell) for cell in row] for row in table.rows],
            command="campaign analyze predictor",
            numbers=frozenset(range(len(table.columns))) - _texts(table.columns),
        )
        for table in tables
    ]  # fmt: skip


def _texts(columns: Sequence[str]) -> frozenset[int]:
    """Return the places of columns that hold words."""
    words = {"regressor", "left out", "predictor", "asked about"}
    return frozenset(at for at, name in enumerate(columns) if name in words)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
