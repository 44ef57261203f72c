"""Rows of evidence as a DataFrame: read from a file, or from the store.

Owns the frame's form: the columns of `campaign.analysis.columns` in their order, all of them
always there, then ``origin_reality``, what an imported row was where it was measured, and
``catalogue_model``, the name under which the catalogue knows the model's architecture. Numbers are
float64, texts str; what is missing answers ``isna()``. Never fills in what was not measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.analysis.cells import Value, values_of
from campaign.analysis.columns import CATALOGUE_MODEL, COLUMNS, ENERGIES, ORIGIN_REALITY, Kind
from campaign.analysis.mapping import load
from campaign.analysis.own import described
from campaign.analysis.plausible import board_or_problem, problems_of
from campaign.analysis.sheet import read_sheet
from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.catalogue.folder import is_folder
from campaign.configuration.reader import nearest
from campaign.tabular import say
from db.errors import ConfigError
from db.external import evidence, sources
from db.records import Reality
from db.standing import campaigns, snapshot
from db.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

#: Names every imported source.
EVERY = "*"
#: So many bad rows are told one by one.
TOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsRead:
    """The good rows of a file with their lines, and by line what is wrong with the others."""

    frame: DataFrame
    lines: Sequence[int]
    bad: Mapping[int, str]


def read_rows(
    path: Path,
    *,
    mapping: str | None = None,
    skip_bad: bool = False,
    energy: bool = True,
    catalog: Catalog | None = None,
) -> DataFrame:
    """Return the rows of a CSV or Parquet file, whose columns are ours or made so by a mapping.

    `mapping` is the name of one that ships, or a YAML file. Rows to predict need no energy:
    ``energy=False``. ConfigError names unknown columns and lists bad rows with their lines;
    `skip_bad` leaves those out and says so on stderr.
    """
    read = read_file(path, mapping=mapping, energy=energy, catalog=catalog)
    if read.bad and not skip_bad:
        raise ConfigError("\n".join((*told(path, read.bad), f"{path}: --skip-bad leaves them out")))
    for line in told(path, read.bad):
        say(f"left out: {line}")
    if read.frame.empty:
        raise ConfigError(f"{path}: no row is left")
    return read.frame


def read_file(
    path: Path, *, mapping: str | None, energy: bool = True, catalog: Catalog | None = None
) -> RowsRead:
    """Return what can be read of a file, and what cannot. ConfigError where that is nothing."""
    known = catalog or load_catalog()
    sheet = load(mapping).translated(path, read_sheet(path))
    if energy and not set(ENERGIES) & set(sheet.columns):
        raise ConfigError(f"{path}: no column of energy; one of {', '.join(ENERGIES)} is needed")
    values, problems = values_of(sheet)
    boards = {
        slug: board_or_problem(slug, known)
        for slug in dict.fromkeys(values["board"])
        if isinstance(slug, str)
    }
    kept: list[int] = []
    for at, line in enumerate(sheet.lines):
        row = {name: column[at] for name, column in values.items()}
        found = problems.get(line) or list(problems_of(row, boards, energy=energy))
        if found:
            problems[line] = found
        else:
            kept.append(at)
    good = {name: [column[at] for at in kept] for name, column in values.items()}
    good[ORIGIN_REALITY] = [word or str(Reality.EXTERNAL) for word in good["reality"]]
    return RowsRead(
        frame=framed(good, known),
        lines=[sheet.lines[at] for at in kept],
        bad={line: "; ".join(problems[line]) for line in sorted(problems)},
    )


def told(path: Path, bad: Mapping[int, str]) -> list[str]:
    """Return the bad rows of a file as lines for people, the first ones where there are many."""
    lines = [f"{path}: line {line}: {problem}" for line, problem in list(bad.items())[:TOLD]]
    if len(bad) > TOLD:
        lines.append(f"{path}: and {len(bad) - TOLD} more bad rows")
    return lines


def stored_rows(
    store: Store,
    *,
    campaign: str | None = None,
    source: str | None = None,
    reality: Collection[str] | None = None,
    catalog: Catalog | None = None,
) -> DataFrame:
    """Return rows of the store: accepted measurements of a campaign, imported rows of a source.

    With both, the rows of both; with neither, the measurements of all campaigns. Imported rows
    come only where their source is named, or ``*`` for every one. `reality` keeps some of real,
    simulated and external. ConfigError for a name that is not known.
    """
    words = [str(kind) for kind in Reality]
    for word in reality or ():
        if word not in words:
            raise ConfigError(f"no reality is called {word}{nearest(str(word), words)}")
    with snapshot(store) as connection:
        known = campaigns(connection)
        if campaign is not None and campaign not in known:
            near = nearest(campaign, known) if known else "; the store has none yet"
            raise ConfigError(f"no campaign is called {campaign}{near}")
        imported = sources(connection)
        if source not in (None, EVERY) and source not in imported:
            fix = nearest(str(source), imported) if imported else "; nothing was imported yet"
            raise ConfigError(f"no imported source is called {source}{fix}")
        found = evidence(
            connection,
            campaign=campaign,
            own=campaign is not None or source is None,
            sources=() if source is None else tuple(imported) if source == EVERY else (source,),
            reality=None if reality is None else sorted(reality),
        )
    rows = list(described(found))
    names = (*(column.name for column in COLUMNS), ORIGIN_REALITY)
    return framed({name: [row[name] for row in rows] for name in names}, catalog)


def framed(values: Mapping[str, Sequence[Value]], catalog: Catalog | None = None) -> DataFrame:
    """Return columns of values as a frame, with the catalogue's name of each model."""
    from pandas import DataFrame, Series

    series = {
        column.name: Series(
            values[column.name], dtype="str" if column.kind is Kind.TEXT else "float64"
        )
        for column in COLUMNS
    }
    names = catalogue_names(values["model"], catalog or load_catalog())
    series[ORIGIN_REALITY] = Series(values[ORIGIN_REALITY], dtype="str")
    series[CATALOGUE_MODEL] = Series([names.get(m) for m in values["model"]], dtype="str")
    return DataFrame(series)


def catalogue_names(models: Iterable[Value], catalog: Catalog) -> dict[Value, str]:
    """Return the full name of each model whose architecture the catalogue knows."""
    found: dict[Value, str] = {}
    for model in dict.fromkeys(models):
        if not isinstance(model, str) or is_folder(model):
            continue
        try:
            found[model] = catalog.model(model, "random").name
        except ConfigError:
            continue  # kept with the parameters that its row gives
    return found


def records(frame: DataFrame) -> Iterator[dict[str, str | float | None]]:
    """Yield the rows of a frame as plain values: whole numbers as int, None for what is missing."""
    whole = {column.name for column in COLUMNS if column.kind is Kind.WHOLE}
    columns = {
        name: [
            None if missing else int(cell) if name in whole else cell
            for cell, missing in zip(cells.tolist(), cells.isna().tolist(), strict=True)
        ]
        for name, cells in frame.items()
    }
    for at in range(len(frame)):
        yield {name: cells[at] for name, cells in columns.items()}
