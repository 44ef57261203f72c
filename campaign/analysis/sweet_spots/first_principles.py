"""What the architecture alone says of the lengths: the roofline's joules and a model's FLOPs.

Owns how a set-up of rows becomes the model and board that the roofline computes. Nothing here is
fitted to a measurement, and nothing it says is stored as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.forms import Floats, Form
from campaign.catalogue.catalog import Catalog
from db.errors import ConfigError
from db.records import Board, EngineSpec, Workload
from workers.costs.cost import estimate
from workers.shapes.shape import Shape, shape_of

#: Backends that the roofline tells apart; every other is computed as the first.
BACKENDS = ("vllm", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A set-up that the catalogue knows. `remark` is what of it the roofline does not heed."""

    engine: EngineSpec
    board: Board
    shape: Shape
    remark: str | None


def known(setup: Setup, catalog: Catalog) -> Known | str:
    """Return a set-up as the roofline computes it, or in one line why it cannot."""
    try:
        board, model = (
            catalog.board(setup.board),
            catalog.model(setup.catalogue_model or setup.model),
        )
    except ConfigError as error:
        return str(error).partition("\n")[0]
    shape = shape_of(model.name, model.architecture)
    if shape is None:
        return f"model {model.name}: the shape of its architecture is not described"
    gpus = setup.gpus or 1
    told = setup.backend in BACKENDS
    engine = EngineSpec(
        model=model,
        backend=setup.backend if told and setup.backend else BACKENDS[0],
        board=board.slug,
        board_count=gpus,
        dtype=setup.dtype or board.dtype,
        quantization=setup.quantization,
        tensor_parallel=setup.tensor_parallel or gpus,
    )
    remarks = [] if told else [f"backend {setup.backend or 'unknown'}: computed as {BACKENDS[0]}"]
    if setup.speculation is not None:
        remarks.append(f"speculation {setup.speculation}: computed without")
    if setup.declared_power_limit_w is not None:
        remarks.append(f"limit of {setup.declared_power_limit_w:g} W: computed without")
    return Known(engine=engine, board=board, shape=shape, remark="; ".join(remarks) or None)


def roofline_j(one: Known, batch: int, n_in: Floats, n_out: Floats) -> Floats | None:
    """Return the joules of one request by the roofline, of batches of equal ones; None if unknown.

    An engine that holds fewer than `batch` requests lets the others wait.
    """
    found = []
    for inputs, outputs in zip(n_in, n_out, strict=True):
        load = Workload(input_tokens=round(inputs), output_tokens=round(outputs), batch_size=batch)
        cost = estimate(one.engine, one.shape, one.board, load)
        if cost is None or cost.energy_j is None:
            return None
        found.append(cost.energy_j / batch)
    return np.array(found)


def flops_form(shape: Shape) -> Form:
    """Return the form whose joules follow the FLOPs of prefill and decode, each at its own rate.

    2 FLOPs per multiply-accumulate, causal attention, the output matrix where a token is chosen.
    """

    def columns(n_in: Floats, n_out: Floats) -> Floats:
        pairs = [(round(i), round(o)) for i, o in zip(n_in, n_out, strict=True)]
        prefill = [shape.layer_flops(1, i) + shape.head_flops for i, _ in pairs]
        decode = [
            shape.layer_flops(i + 1, i + o - 1, decode=True) + (o - 1) * shape.head_flops
            for i, o in pairs
        ]
        return np.array([prefill, decode], dtype=np.float64).T

    terms = ("joules_per_prefill_flop", "joules_per_decode_flop")
    return Form(name="flops", terms=terms, columns=columns)
