"""What charts of a report make of rows: drawn here as the page draws them, and read back."""

from __future__ import annotations

import re

import pytest

from campaign.report import other_charts, vega
from campaign.report.points import Point
from campaign.report.specs import Spec

POINT: Point = {
    "i": 0, "kind": "measured", "batch": 1, "board": "l4", "j": 4.0, "net": 2.0,
    "pf_share": 0.25, "mx_share": 0.0, "de_share": 0.75,
}  # fmt: skip


def marks(spec: Spec, *points: Point) -> list[str]:
    """Return what a screen reader hears of each mark, axes left out."""
    drawn = vega.svg(spec, [{**POINT, **point, "i": i} for i, point in enumerate(points)])
    heard = re.findall('aria-label="([^"]*)"', drawn)
    return [one for one in heard if "axis" not in one and "legend" not in one]


def test_a_row_without_all_its_phases_is_in_no_bar() -> None:
    """Of a row with decode alone a zero for prefill would make it 12 % of the bar."""
    drawn = marks(other_charts.phase_share(), {}, {"pf_share": None, "de_share": 1.0})
    shares = [re.search(r"energy: (\d+)%; phase: (\w+)", one) for one in drawn]
    assert [one.groups() for one in shares if one] == [
        ("25", "prefill"), ("0", "mixed"), ("75", "decode"),
    ]  # fmt: skip


@pytest.mark.parametrize("log", [False, True])
def test_gross_and_net_are_medians_over_the_same_rows(log: bool) -> None:
    """A row whose net energy is below zero counts in both; one without any in neither."""
    rows = ({"j": 3.0, "net": -1.0}, {"j": 4.0, "net": 1.0}, {"j": 5.0, "net": 2.0},
            {"j": 90.0, "net": None})  # fmt: skip
    drawn = marks(other_charts.net(log=log), *rows)
    assert [re.findall(r"\(J\): ([\d.]+)", one) for one in drawn] == [["1"], ["4"]]


def test_a_logarithmic_axis_has_no_tick_for_a_net_median_below_zero() -> None:
    rows = ({"j": 3.0, "net": -1.0}, {"j": 4.0, "net": -1.0}, {"j": 50.0, "net": 2.0})
    (drawn,) = marks(other_charts.net(log=True), *rows)
    assert "(J): 4;" in drawn


@pytest.mark.parametrize("count", [1, 2])
def test_no_label_of_an_axis_of_points_is_rounded(count: int) -> None:
    rows = [{"board": "l4", "state": "done", "points": count, "order": 0}]
    labels = re.findall(r">(\d+)</text>", vega.svg(other_charts.coverage(), rows))
    assert labels == [str(number) for number in range(count + 1)]
