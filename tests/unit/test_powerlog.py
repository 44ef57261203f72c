"""A power sensor's period from reads that come when they can, on a scripted clock."""

import random

import pytest

from workers.meters.binding import Power
from workers.meters.powerlog import PowerLog

MS = 1_000_000


def watched(period_ms, poll_ms, late, seed=0, reads=2000):
    """Polls a sensor that brings another value every `period_ms`; `late` of the reads come late."""
    rng, log, at_ms = random.Random(seed), PowerLog(gpu=None), 0.0
    for _ in range(reads):
        at_ms += poll_ms * (1 + (rng.uniform(0.2, 2.0) if rng.random() < late else 0.01))
        log.note(round(at_ms * MS), Power(100.0 + at_ms // period_ms % 7, None), keep=False)
    return log


@pytest.mark.parametrize("late", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("period_ms", "poll_ms"), [(100, 10), (20, 10), (20, 5)])
def test_the_period_is_that_of_the_sensor_although_reads_come_late(period_ms, poll_ms, late):
    """Half of the reads late by up to twice their distance: four busy processes on two cores."""
    found = [watched(period_ms, poll_ms, late, seed).period_ns / MS for seed in range(10)]
    assert all(abs(f / period_ms - 1) <= 0.12 for f in found), found


def test_a_value_that_stays_makes_no_longer_period():
    rng, log = random.Random(1), PowerLog(gpu=None)
    value = 100.0
    for at_ms in range(0, 40_000, 10):
        value += 1.0 if at_ms % 100 == 0 and rng.random() < 0.6 else 0.0
        log.note(at_ms * MS, Power(value, None), keep=False)
    assert log.period_ns == pytest.approx(100 * MS, rel=0.02)


def test_few_updates_tell_no_period():
    assert watched(100, 10, 0.0, reads=80).period_ns is None
