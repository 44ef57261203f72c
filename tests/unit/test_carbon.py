"""Carbon by hand: joules and hours in, grams out, as ranges that say where they come from."""

from __future__ import annotations

import pytest

from campaign.analysis.carbon import (
    NO_FOOTPRINT,
    UNVERIFIED,
    Assumptions,
    Range,
    carbon_of,
    documented,
    read_range,
)
from campaign.catalogue.sheets import rows
from db.errors import ConfigError

ASSUMED = Assumptions(
    intensity=Range(low=100, high=400),
    pue=Range(low=1.0, high=1.5),
    lifetime=Range(low=4, high=6),
    utilization=Range(low=0.5, high=1.0),
    footprints={"h100-sxm-80gb": Range(low=100, high=300)},
)


def test_a_kilowatt_hour_is_the_grids_grams_times_the_building() -> None:
    found = carbon_of(3.6e6, 3600.0, "h100-sxm-80gb", 1, ASSUMED).operational
    assert (found.low, found.high) == (pytest.approx(100), pytest.approx(600))


def test_an_hour_of_two_boards_is_their_share_of_a_working_life() -> None:
    found = carbon_of(3.6e6, 3600.0, "h100-sxm-80gb", 2, ASSUMED).embodied
    assert found is not None
    assert found.low == pytest.approx(2 * 100_000 / (6 * 8766 * 1.0))
    assert found.high == pytest.approx(2 * 300_000 / (4 * 8766 * 0.5))


def test_a_board_without_a_footprint_has_none_with_the_reason() -> None:
    found = carbon_of(3.6e6, 3600.0, "rtx-a6000", 1, ASSUMED)
    assert (found.embodied, found.reason) == (None, NO_FOOTPRINT)


def test_a_figure_that_nobody_verified_says_so() -> None:
    told, known = documented(), list(rows("embodied.csv"))
    assert {row["evidence"] for row in known} == {"docs", "memory"}
    for row in known:
        unverified = told.footprints[str(row["board"])].source.endswith(UNVERIFIED)
        assert unverified is (row["evidence"] == "memory")


@pytest.mark.parametrize("text", ["2,1", "", "a", "1,2,3", "-1", "inf", "nan"])
def test_what_is_no_range_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(ConfigError, match="--pue"):
        read_range(text, "--pue", least=0.0)


def test_a_range_is_two_numbers_or_one_within_its_limits() -> None:
    given = {text: read_range(text, "--pue", least=1.0, most=2.0) for text in ("1,2", "1.5")}
    assert {text: (one.low, one.high) for text, one in given.items()} == {
        "1,2": (1.0, 2.0), "1.5": (1.5, 1.5),
    }  # fmt: skip
    for text in ("0.9,2", "1,2.1"):
        with pytest.raises(ConfigError, match="from 1 to 2"):
            read_range(text, "--pue", least=1.0, most=2.0)
