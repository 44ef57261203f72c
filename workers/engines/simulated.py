"""A simulated board group: an engine whose batches take what the roofline says, on its own clock.

For trying a campaign and for tests. Nothing here is measured: its meter says `simulated` on every
reading, and its clock moves only when it is told to. Options make it fail on purpose.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from db.errors import EngineFault, TaskFault
from db.readings import Batch, Loaded, RequestTiming
from db.records import Board, EngineSpec, Workload
from workers.clock import Clock
from workers.costs.constants import constants_of
from workers.costs.cost import VERSION, Cost, estimate, numbers_of, usable_bytes
from workers.costs.roofline import weight_bytes
from workers.engines.engine import GREEDY, Decoding, Engine, Request
from workers.engines.simulated_meter import Draw, SimulatedMeter
from workers.engines.software import versions
from workers.meters.meter import Meter
from workers.shapes.shape import Shape, shape_of

#: Seconds of start-up, and bytes per second of reading weights. Assumptions.
START_S = 8.0
LOADING_BYTES_S = 2e9
#: Relative spread of latency between sessions and between batches. Assumptions.
SESSION_SPREAD = 0.015
BATCH_SPREAD = 0.004


class SimulatedClock:
    """Virtual monotonic time; one virtual second takes `pace` real ones (0: none)."""

    def __init__(self, pace: float = 0.0) -> None:
        self._pace = pace
        self._now_ns = 0
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        """Virtual nanoseconds since the clock was made."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Let virtual `seconds` pass."""
        if self._pace > 0.0:
            time.sleep(seconds * self._pace)
        with self._lock:
            self._now_ns += round(seconds * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The options of a simulated engine, by their own names.

    `pace` is real seconds per virtual second. `fail_load` is the kind of fault every load ends
    with, `oom_above_batch` the largest batch that does not run out of memory, `dies_at_batch` the
    batch after which nothing can be generated any more, `zero_length` leaves every answer empty.
    """

    pace: float = 0.0
    fail_load: str | None = None
    oom_above_batch: int | None = None
    dies_at_batch: int | None = None
    zero_length: bool = False


def open_simulated(
    spec: EngineSpec, board: Board, seed: int | None = None
) -> tuple[Engine, Meter, Clock]:
    """Return an engine, its meter and their clock; `seed` draws this session's deviations.

    Without a seed every session deviates differently, as real ones do. Raises EngineFault for
    options it does not have.
    """
    behaviour = _behaviour(spec)
    clock = SimulatedClock(behaviour.pace)
    draw = Draw(board=board, boards=spec.board_count, clock=clock)
    if seed is None:
        seed = int.from_bytes(os.urandom(8))
    engine = SimulatedEngine(spec, draw, behaviour, random.Random(seed))  # noqa: S311
    return engine, SimulatedMeter(draw), clock


class SimulatedEngine:
    """Computes what a batch would take and cost, and lets that time pass on its clock."""

    def __init__(
        self, spec: EngineSpec, draw: Draw, behaviour: Behaviour, chance: random.Random
    ) -> None:
        self.vocabulary = 0
        self._spec = spec
        self._draw = draw
        self._behaviour = behaviour
        self._chance = chance
        self._session = 1.0 + SESSION_SPREAD * chance.gauss()
        self._shape: Shape | None = None
        self._is_dead = False
        self._costs: dict[tuple[int, int, int], Cost] = {}

    def prepare(self) -> None:
        """There are no weights to bring."""

    def load(self) -> Loaded:
        """Let the time of a load pass. Raises EngineFault where it was asked to, or cannot."""
        label = self._spec.label
        if self._behaviour.fail_load is not None:
            raise EngineFault(self._behaviour.fail_load, f"{label}: told to fail while loading")
        shape = self._checked_shape()
        weights = weight_bytes(shape, numbers_of(self._spec))
        room = usable_bytes(self._spec, self._draw.board)
        if room is not None and weights > room:
            have = f"the {room / 1e9:.1f} GB that an engine fills of {self._spec.board_count} x"
            message = f"{label}: weights of {weights / 1e9:.1f} GB do not fit in {have} "
            message += self._draw.board.slug
            raise EngineFault("out_of_memory", message, permanent=True)
        self._draw.use(START_S + weights / LOADING_BYTES_S, self._draw.board.idle_w)
        self._shape, self.vocabulary = shape, shape.vocabulary
        return Loaded(
            resolved={
                "engine": "simulated",
                "model": self._spec.model.name,
                "board": self._draw.board.slug,
                "boards": self._spec.board_count,
                "dtype": self._spec.dtype,
                "quantization": self._spec.quantization,
                "parameters": shape.parameters,
                "constants": asdict(constants_of(self._draw.board, self._spec)),
                "session_spread": SESSION_SPREAD,
                "batch_spread": BATCH_SPREAD,
            },
            software={"roofline": VERSION, **versions()},
            pid=os.getpid(),
        )

    def _checked_shape(self) -> Shape:
        """Return the model's shape if a batch of it can be computed. Raises EngineFault."""
        model, board = self._spec.model, self._draw.board
        shape = shape_of(model.name, model.architecture)
        if shape is None:
            message = f"{model.name}: its architecture is not one the roofline can compute"
            raise EngineFault("unsupported", message, permanent=True)
        one = Workload(input_tokens=1, output_tokens=1, batch_size=1)
        if estimate(self._spec, shape, board, one) is None:
            message = f"{board.slug}: its memory bandwidth and FLOP/s are not in the catalogue"
            raise EngineFault("unsupported", message, permanent=True)
        return shape

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        """Let the time of a batch pass; returns its timings. Raises TaskFault if asked to."""
        limit = self._behaviour.oom_above_batch
        if limit is not None and len(requests) > limit:
            words = f"told to: a batch of {len(requests)} exceeds {limit}"
            raise TaskFault("out_of_memory", words, sound=True)
        if decoding != GREEDY:
            words = f"{self._spec.label}: decodes greedily, as its model"
            raise TaskFault("unsupported", words, permanent=True)
        self._is_dead |= len(requests) == self._behaviour.dies_at_batch
        if self._is_dead:
            raise TaskFault("engine_error", f"{self._spec.label}: told to die, and did")
        cost = self._cost(requests)
        factor = self._session * (1.0 + BATCH_SPREAD * self._chance.gauss())
        started_ns = self._draw.clock.now_ns()
        self._draw.use(cost.prefill.seconds * factor, cost.prefill.power_w)
        first_ns = self._draw.clock.now_ns()
        self._draw.use(cost.decode.seconds * factor, cost.decode.power_w)
        ended_ns = self._draw.clock.now_ns()
        empty = self._behaviour.zero_length
        return Batch(
            started_ns=started_ns,
            ended_ns=ended_ns,
            requests=tuple(
                RequestTiming(
                    input_tokens=len(request.prompt),
                    output_tokens=0 if empty else request.output_tokens,
                    ttft_s=None if empty else (first_ns - started_ns) / 1e9,
                    e2e_s=(ended_ns - started_ns) / 1e9,
                )
                for request in requests
            ),
            prefix_cache_hit_tokens=0,
            running_mean=float(len(requests)),
        )

    def _cost(self, requests: Sequence[Request]) -> Cost:
        """Return the cost of a batch, every request taken for as long as the longest."""
        prompt = max(len(request.prompt) for request in requests)
        output = max(request.output_tokens for request in requests)
        sizes = (prompt, output, len(requests))
        if sizes not in self._costs:
            longest = Workload(input_tokens=prompt, output_tokens=output, batch_size=len(requests))
            cost = self._shape and estimate(self._spec, self._shape, self._draw.board, longest)
            if not cost:
                raise TaskFault("engine_error", f"{self._spec.label}: not loaded")
            self._costs = {sizes: cost}  # the batches of a task are alike
        return self._costs[sizes]

    def close(self) -> None:
        """There is nothing to free."""
        self._shape, self._costs = None, {}


def _behaviour(spec: EngineSpec) -> Behaviour:
    known = Behaviour.__slots__
    unknown = sorted(spec.options.keys() - set(known))
    if unknown:
        message = f"options {', '.join(unknown)} are not among {', '.join(known)}"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)
    return Behaviour(**dict(spec.options))  # type: ignore[arg-type]
