"""The verb `estimate`: what one batch of a model would take on a board group, before it is run.

Owns the words of its answer. Starts nothing and imports no engine; asks the store only with
``--store``. Nothing of it is ever stored as a measurement.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.configuration.overrides import is_override, parse, refuse
from campaign.forecast.asked import OPTION_OF, Asked, add_arguments, asked_for
from campaign.grids.fit import engine_misfit, workload_misfit
from campaign.tabular import print_table, write_json
from db.errors import ConfigError
from db.records import Workload
from workers.costs.calibration import AS_COMPUTED, Correction, corrected, corrections
from workers.costs.cost import Cost, estimate, memory_filled
from workers.costs.speculation import assumption, draft_shape, unknown

__all__ = ["add_arguments", "main"]

WATT_HOUR_J = 3600.0

Answer = Mapping[str, object]


def main(args: argparse.Namespace) -> int:
    """Print the estimate; returns 0, whether it fits or not."""
    words = [word for word in args.overrides if not is_override(word)]
    if words:
        raise ConfigError(f"estimate takes options, no words: {' '.join(words)}")
    _refuse_others(args.overrides)
    catalog = _catalog(args.overrides)
    asked = asked_for(catalog, args)
    correction = _measured(args.overrides, catalog, asked) if args.store else AS_COMPUTED
    answer = answered(asked, correction)
    if args.json:
        write_json(answer)
    else:
        print_table((asked.engine.label, asked.workload.label), answer.items())
    return 0


def answered(asked: Asked, correction: Correction = AS_COMPUTED) -> Answer:
    """Return the estimate as data; what is not known is None, with the reason."""
    engine, board, shape, load = asked.engine, asked.board, asked.shape, asked.workload
    if shape is None:
        return _answer(load, reason="the shape of this architecture is not described")
    draft = draft_shape(engine)
    misfit = engine_misfit(engine, board, shape, draft) or workload_misfit(
        engine, load, board, shape, draft
    )
    memory_bytes = memory_filled(engine, shape, board, load)
    if misfit is not None:
        reason = f"{misfit[0]}: {misfit[1]}"
        return _answer(load, fits=False, memory_bytes=memory_bytes, reason=reason)
    cost = estimate(engine, shape, board, load)
    if cost is None:
        no_rates = f"{board.slug}: its memory bandwidth and FLOP/s are not in the catalogue"
        reason = unknown(engine) or no_rates
        return _answer(load, fits=True, memory_bytes=memory_bytes, reason=reason)
    cost = corrected(cost, correction)
    return _answer(
        load, fits=True, memory_bytes=memory_bytes, cost=cost, rows=correction.rows,
        reason=_remark(cost, asked),
    )  # fmt: skip


def _remark(cost: Cost, asked: Asked) -> str | None:
    """Return what a reader of the numbers should know; None if there is nothing."""
    remarks, batch = [], asked.workload.batch_size
    if cost.energy_j is None:
        remarks.append(f"{asked.board.slug}: its TDP or idle power is not known")
    if cost.running < batch:
        remarks.append(f"memory holds {cost.running} of {batch} requests at a time")
    if (assumed := assumption(asked.engine)) is not None:
        remarks.append(assumed)
    return "; ".join(remarks) or None


def _answer(
    load: Workload,
    *,
    fits: bool | None = None,
    memory_bytes: float | None = None,
    cost: Cost | None = None,
    rows: int = 0,
    reason: str | None = None,
) -> Answer:
    seconds = None if cost is None else cost.e2e_s
    energy_j = None if cost is None else cost.energy_j
    each_wh = None if energy_j is None else energy_j / WATT_HOUR_J / load.batch_size
    return {
        "fits": fits,
        "memory_bytes": None if memory_bytes is None else round(memory_bytes),
        "seconds": seconds,
        "prefill_seconds": cost and cost.prefill.seconds,
        "decode_seconds": cost and cost.decode.seconds,
        "power_w": energy_j / seconds if energy_j is not None and seconds else None,
        "energy_j": energy_j,
        "energy_wh_per_request": each_wh,
        "tokens_per_s": load.batch_size * load.output_tokens / seconds if seconds else None,
        "source": "calibrated" if rows else "physics",
        "measured_rows": rows,
        "reason": reason,
    }


def _refuse_others(overrides: Sequence[str]) -> None:
    """Raise ConfigError where the configuration is given what the estimate would not heed."""
    given = parse(overrides)
    refuse(given)
    others = [key for key in (*given.choices, *given.keys) if not _heeded(key)]
    refused = [f"{key}: write {OPTION_OF[key]}" for key in others if key in OPTION_OF]
    refused += [
        f"{key}: estimate takes options, catalog_file and store.*; `campaign plan` heeds the rest"
        for key in others
        if key not in OPTION_OF
    ]
    if refused:
        raise ConfigError("\n".join(sorted(refused)))


def _heeded(key: str) -> bool:
    return key in ("catalog_file", "store") or key.startswith("store.")


def _catalog(overrides: Sequence[str]) -> Catalog:
    """Return the catalogue; the configuration is composed only where words of it were given."""
    if not overrides:
        return load_catalog()
    from campaign.configuration.config import load

    own = load(overrides).catalog
    return load_catalog(Path(own) if own else None)


def _measured(overrides: Sequence[str], catalog: Catalog, asked: Asked) -> Correction:
    """Return what the store's measurements say of the asked board and backend.

    One that is not there yet has measured nothing, and is not made by asking.
    """
    from campaign.storeroom import is_there, place
    from db.costs import measured_costs
    from db.place import opened

    where = place(overrides)
    if not is_there(where):
        return AS_COMPUTED
    known = {board.slug: board for board in catalog.boards()}
    with opened(where) as asked_store, asked_store.store.begin() as connection:
        measured = measured_costs(connection, asked.board.slug, asked.engine.backend)
    found = corrections((one, known[one.engine.board]) for one in measured)
    return found.get((asked.board.slug, asked.engine.backend), AS_COMPUTED)
