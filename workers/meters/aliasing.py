"""Loads whose rhythm hides from a power sensor that looks at a fixed one. Pure."""

from __future__ import annotations

#: A load this close to a divisor of the sensor's period, relative, is seen at one phase for long.
NEAR = 0.05
#: Faster loads than this many periods to a sensor's are averaged inside what the sensor sees.
FASTEST = 10


def aliased(step_s: float, sensor_period_s: float) -> bool:
    """Whether a load that repeats every `step_s` hides from a sensor of that period.

    It does near every whole divisor of the period: each look then falls on the same phase.
    """
    if step_s <= 0 or sensor_period_s <= 0:
        return False
    looks = round(sensor_period_s / step_s)
    if not 1 <= looks <= FASTEST:
        return False
    return abs(step_s * looks / sensor_period_s - 1) < NEAR
