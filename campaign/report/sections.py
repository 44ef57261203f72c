"""A part of a report: its charts and tables under one title. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from campaign.report.charts import Chart
from campaign.report.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report with its charts and tables; one without either and a lead is left out.

    `filtered` says whether the page's filters change any of it.
    """

    id: str
    title: str
    lead: str = ""
    charts: Sequence[Chart] = field(default=())
    tables: Sequence[Table] = field(default=())

    @property
    def filtered(self) -> bool:
        """Whether the page's filters change any chart of it."""
        return any(chart.rows is None for chart in self.charts)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.charts or self.tables or self.lead)
