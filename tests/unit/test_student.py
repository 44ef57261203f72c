"""Student's t in Python: one function, right for any number of values, and the one that is used."""

from __future__ import annotations

import math
import statistics

import pytest
from scipy import stats

from campaign.report.cells import Basis, interval
from workers.student import student
from workers.validity import half_width

#: Two-sided 95 %, from printed tables, to their three decimals.
PRINTED = {1: 12.706, 2: 4.303, 10: 2.228, 11: 2.201, 19: 2.093, 20: 2.086, 25: 2.060, 30: 2.042,
           40: 2.021, 60: 2.000, 120: 1.980}  # fmt: skip


def test_the_quantile_is_right_for_any_number_of_values() -> None:
    assert {n: student(n) for n in PRINTED} == pytest.approx(PRINTED, rel=4e-4)
    degrees = range(1, 200)
    quantiles = [student(n) for n in degrees]
    assert quantiles == pytest.approx(stats.t.ppf(0.975, degrees), rel=4e-4)
    assert quantiles == sorted(quantiles, reverse=True)


@pytest.mark.parametrize("values", [3, 12, 21, 41])
def test_repeats_and_sessions_have_the_interval_of_their_number(values: int) -> None:
    joules = [1.0 + 0.1 * (n % 2) for n in range(values)]
    deviation = statistics.stdev(joules)
    wanted = PRINTED[values - 1] * deviation / math.sqrt(values)
    assert half_width(joules) == pytest.approx(wanted, rel=4e-4)
    row = {"sessions": values, "replicates": values, "joules_per_output_token_sd": deviation}
    found = interval(row)
    assert found is not None
    assert found.basis is Basis.BETWEEN
    assert found.half_width == pytest.approx(wanted, rel=4e-4)
