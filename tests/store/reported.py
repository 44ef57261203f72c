"""A store with measured rows whose ratios are known, for what is made of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from db.readings import Phase, PhaseEnergy, PhaseMethod, Window
from db.records import EngineSpec, ModelSpec, Reality, Weights
from tests.store.world import ENGINE, World, measurement, reading, repeat, task

HOST, USER, GPU = "secret-node-7", "alice.liddell", "GPU-1a2b3c4d-1111-2222-3333-444455556666"
BATCHES = (1, 8)
#: Joules per output token of batch 1 over those of batch 8.
RATIO = 4.0


def engine(model: str = "acme/one", board: str = "h100-sxm-80gb", **more: object) -> EngineSpec:
    """A real engine of a model with trained weights."""
    spec = ModelSpec(name=model, weights=Weights.REAL, commit="c0ffee", architecture={})
    return replace(ENGINE, model=spec, board=board, backend="vllm", **more)


def windows(joules_per_token: float, batch_size: int, *, real: bool = True) -> Sequence[Window]:
    """Three repeats of 2 s, 10 tokens a request, that differ by a percent, and their phases."""
    found = []
    for ordinal, part in enumerate((0.99, 1.0, 1.01)):
        joules = joules_per_token * part * 10 * batch_size
        phases = tuple(
            PhaseEnergy(phase=phase, method=PhaseMethod.STEPS, duration_s=1.0,
                        energy_j=joules * share, tokens=8 * batch_size)
            for phase, share in ((Phase.PREFILL, 0.25), (Phase.DECODE, 0.75))
        )  # fmt: skip
        kind = Reality.REAL if real else Reality.SIMULATED
        read = reading(joules, reality=kind, method="nvml_counter" if real else "roofline")
        found.append(
            repeat(ordinal, read, requests=batch_size, input_tokens=8 * batch_size,
                   output_tokens=10 * batch_size, itl_s=0.01 * batch_size, phases=phases)
        )  # fmt: skip
    return found


def measured(
    world: World,
    joules_per_token: float,
    batch_size: int = 1,
    *,
    spec: EngineSpec | None = None,
    campaign: str = "boards",
    real: bool = True,
    marks: Sequence[str] = (),
    **beyond: object,
) -> None:
    """Measure one configuration of a campaign, in a session of its own on a named host."""
    reality = Reality.REAL if real else Reality.SIMULATED
    wanted = task(batch_size, output_tokens=10, engine=spec or engine(), reality=reality, **beyond)
    number = world.campaign(f"for {wanted.key}", [wanted])
    session = world.session(world.engine(wanted.engine), reality)
    world.sql(
        "update sessions set host = %(host)s, gpu_uuids = array[%(gpu)s], software = "
        """'{"vllm": "0.32.0", "nvidia_driver": "580.65", "log": "/home/zebedee/run.log"}' """
        "where id = %(session)s",
        host=HOST, gpu=GPU, session=session,
    )  # fmt: skip
    claim = world.leases.claim(number, world.engine(wanted.engine), session)
    assert claim is not None
    done = windows(joules_per_token, batch_size, real=real)
    world.leases.finish(claim.lease_id, session, measurement(*done, marks=marks))
    _move(world, number, campaign)


def _move(world: World, number: int, campaign: str) -> None:
    """Move the tasks of a campaign into another, which keeps those it has."""
    values = {"number": number, "name": campaign, "user": USER}
    world.sql("insert into campaigns (name, owner, config) values (%(name)s, %(user)s, '') "
              "on conflict (name) do nothing", **values)  # fmt: skip
    world.sql("update campaign_tasks set campaign_id = (select id from campaigns "
              "where name = %(name)s) where campaign_id = %(number)s", **values)  # fmt: skip
    world.sql("delete from campaigns where id = %(number)s", **values)


def campaign_of_boards(world: World) -> None:
    """Three models at two batch sizes, whose ratio is `RATIO` give or take a percent."""
    for number, model in enumerate(("acme/one", "acme/two", "acme/three")):
        spec = engine(model)
        base = 2.0 + number
        measured(world, base, 1, spec=spec)
        measured(world, base / RATIO * (1 + 0.01 * (number - 1)), 8, spec=spec,
                 marks=["short_window"])  # fmt: skip
