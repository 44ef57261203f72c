"""How accurate the sensors themselves are, where somebody measured it. Pure.

It owns the calibration of the configuration and how it adds up over a group. It never assumes one:
vendors do not document the accuracy of a product's sensor, so without a calibration it is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from db.readings import GpuEnergy


class Accuracy:
    """Relative 95 % accuracies of power sensors, by GPU UUID or by board slug; the UUID wins."""

    def __init__(self, calibration: Mapping[str, float] | None = None, *, board: str = "") -> None:
        """Take the calibration over; `board` is the slug of the group's boards."""
        self._known = dict(calibration or {})
        self.of_board = self._known.get(board)

    def of(self, gpu: GpuEnergy) -> GpuEnergy:
        """Return a GPU's energy with its sensor's accuracy; a sibling may be any other product."""
        known = self._known.get(gpu.uuid, None if gpu.sibling else self.of_board)
        return gpu if known is None else replace(gpu, sensor_accuracy=known)


def together(group: Sequence[GpuEnergy]) -> float | None:
    """Return the accuracy of the sum over a group, weighted by joules; None unless all are known.

    Sensors of one product are wrong alike: their errors add up rather than average out.
    """
    errors_j, energy_j = 0.0, 0.0
    for gpu in group:
        if gpu.sensor_accuracy is None or gpu.energy_j is None:
            return None
        errors_j += gpu.sensor_accuracy * gpu.energy_j
        energy_j += gpu.energy_j
    return errors_j / energy_j if energy_j > 0 else None
