"""What is estimated of one batch: the answer that `campaign.estimate` and the verb give.

Owns its fields, and the words for what is missing in it. Starts nothing and imports no engine;
asks no store but the one it is given. Nothing of it is ever stored as a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign.catalogue.catalog import Catalog
from campaign.forecast.asked import Asked
from campaign.grids.fit import engine_misfit, workload_misfit
from workers.costs.calibration import AS_COMPUTED, Correction, corrections
from workers.costs.calibration import corrected as corrected_cost
from workers.costs.cost import Cost, memory_filled
from workers.costs.cost import estimate as cost_of
from workers.costs.speculation import assumption, draft_shape, unknown

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.place import OpenStore

WATT_HOUR_J = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one batch would take on a board group, as computed and not as measured.

    What is not known is None, and `reason` says why; beside numbers it says what to know of them.
    `fits` is None where the model's shape is not described. Bytes, watts and joules are those of
    the whole group, and seconds those of the whole batch. `source` is ``physics``, or
    ``calibrated`` where `measured_rows` of a store corrected the seconds; `measured_energy_rows` of
    them corrected the joules, which without one are those of the physics.
    """

    fits: bool | None = None
    memory_bytes: int | None = None
    seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    energy_wh_per_request: float | None = None
    tokens_per_s: float | None = None
    source: str = "physics"
    measured_rows: int = 0
    measured_energy_rows: int = 0
    reason: str | None = None


def estimated(asked: Asked, correction: Correction = AS_COMPUTED) -> Estimate:
    """Return the estimate; what is not known is None, with the reason."""
    engine, board, shape, load = asked.engine, asked.board, asked.shape, asked.workload
    if shape is None:
        return Estimate(reason="the shape of this architecture is not described")
    draft = draft_shape(engine)
    misfit = engine_misfit(engine, board, shape, draft) or workload_misfit(
        engine, load, board, shape
    )
    memory_bytes = round(memory_filled(engine, shape, board, load))
    if misfit is not None:
        reason = f"{misfit[0]}: {misfit[1]}"
        return Estimate(fits=False, memory_bytes=memory_bytes, reason=reason)
    cost = cost_of(engine, shape, board, load)
    if cost is None:
        no_rates = f"{board.slug}: its memory bandwidth and FLOP/s are not in the catalogue"
        reason = unknown(engine) or no_rates
        return Estimate(fits=True, memory_bytes=memory_bytes, reason=reason)
    return _told(asked, corrected_cost(cost, correction), memory_bytes, correction)


def _told(asked: Asked, cost: Cost, memory_bytes: int, correction: Correction) -> Estimate:
    load, seconds, energy_j = asked.workload, cost.e2e_s, cost.energy_j
    each_wh = None if energy_j is None else energy_j / WATT_HOUR_J / load.batch_size
    return Estimate(
        fits=True,
        memory_bytes=memory_bytes,
        seconds=seconds,
        prefill_seconds=cost.prefill.seconds,
        decode_seconds=cost.decode.seconds,
        power_w=energy_j / seconds if energy_j is not None and seconds else None,
        energy_j=energy_j,
        energy_wh_per_request=each_wh,
        tokens_per_s=load.batch_size * load.output_tokens / seconds if seconds else None,
        source="calibrated" if correction.rows else "physics",
        measured_rows=correction.rows,
        measured_energy_rows=correction.energy_rows,
        reason=_remark(cost, asked, correction),
    )


def _remark(cost: Cost, asked: Asked, correction: Correction) -> str | None:
    """Return what a reader of the numbers should know; None if there is nothing."""
    remarks, batch = [], asked.workload.batch_size
    if cost.energy_j is None:
        remarks.append(f"{asked.board.slug}: its TDP or idle power is not known")
    elif correction.rows and not correction.energy_rows:
        remarks.append("joules are not calibrated: no measured row has any")
    if cost.running < batch:
        remarks.append(f"memory holds {cost.running} of {batch} requests at a time")
    if (assumed := assumption(asked.engine)) is not None:
        remarks.append(assumed)
    return "; ".join(remarks) or None


def measured_correction(found: OpenStore, catalog: Catalog, asked: Asked) -> Correction:
    """Return what a store's measurements say of the asked board and backend."""
    from db.costs import measured_costs

    known = {board.slug: board for board in catalog.boards()}
    with found.store.begin() as connection:
        measured = measured_costs(connection, asked.board.slug, asked.engine.backend)
    by_board = corrections((one, known[one.engine.board]) for one in measured)
    return by_board.get((asked.board.slug, asked.engine.backend), AS_COMPUTED)
