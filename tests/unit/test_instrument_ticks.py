"""What is read of a board that does nothing: a counter is looked at by itself as well."""

from __future__ import annotations

import time

from workers.instrument.bench import Bench
from workers.instrument.experiments import idle_ticks
from workers.meters.binding import Power


class Slow:
    """A board whose power takes longer to read than its counter stands still."""

    has_counter = True

    def energy_mj(self):
        return time.monotonic_ns() // 20_000_000

    def power_of(self, field):
        time.sleep(0.05)
        return Power(100.0, None)


def test_a_counter_is_read_as_often_as_it_answers_though_other_sensors_are_slow():
    found = idle_ticks(Bench(gpu=Slow(), meter=None, loader=None, pace=0.25))
    assert found["counter"]["period"] is None
    assert found["counter_alone"]["reads"] > 10 * found["counter"]["reads"]
