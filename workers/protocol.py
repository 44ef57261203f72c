"""How one task is measured: warm up, repeat metered windows, stop, judge.

The same code measures every engine, real or simulated; only the engine, meter and clock of the
rig differ. What is returned is what was done, not what was configured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from db.errors import InvalidMeasurement, TaskFault
from db.leases import Claim
from db.readings import Batch, Measurement, PhaseEnergy, PhaseMethod, Reading, Window, WindowKind
from db.records import MeasurementProtocol, Workload
from workers.engines.engine import decoding_of
from workers.killpoints import reach
from workers.phases import by_prefill_run, by_steps
from workers.rig import Rig
from workers.serving import Listed, Ongoing, Serving, online
from workers.validity import COMPILED, agree, check_batch, judge, relative_half_width
from workers.workloads.lengths import Pair
from workers.workloads.worklist import Worklist


def measure(rig: Rig, claim: Claim, checkpoint: Callable[[], None]) -> Measurement:
    """Measure a claimed task; `checkpoint` is called between batches and may raise to stop.

    Raises TaskFault from the engine and InvalidMeasurement from the gates; where repeats were
    judged, the latter carries them.
    """
    _require_places(rig, claim.workload)
    work = _worklist(rig, claim)
    windows: list[Window] = []
    with _run(rig, claim, checkpoint, work) as run:
        warmup_batches = run.warm_up()
        while not _enough(windows, claim.protocol):
            windows.append(run.window(len(windows)))
    prefill: list[Window] = []
    if _asked(claim.protocol, PhaseMethod.PREFILL_RUN) and not claim.workload.is_online:
        prefill = _prefill_run(rig, claim, checkpoint, after=len(windows))
        windows = [
            replace(w, phases=(*w.phases, *by_prefill_run(w, prefill or [w]))) for w in windows
        ]
    done = Measurement(windows=(*windows, *prefill), warmup_batches=warmup_batches)
    try:
        foreign = rig.meter.foreign_processes()
        reachable = work.reachable(rig.step_tokens, rig.lookahead, rig.places)
        marks = judge(windows, claim.protocol, rig.gates, foreign, reachable)
        if prefill:  # voided alike; its marks are not the row's, and without joules it has reasons
            judge(prefill, replace(claim.protocol, energy="any"), rig.gates, foreign)
    except InvalidMeasurement as invalid:
        raise InvalidMeasurement(invalid.gate, str(invalid), done) from invalid
    return replace(done, marks=marks)


def _require_places(rig: Rig, workload: Workload) -> None:
    """Raise TaskFault where the engine, not the workload, would decide how many are computed."""
    if workload.needs_places and rig.places not in (None, workload.batch_size):
        message = (
            f"this engine computes up to {rig.places} requests together, {workload.label} asks for "
            f"{workload.batch_size}: measure it with engine.options.vllm.max_num_seqs="
            f"{workload.batch_size}"
        )
        raise TaskFault("unsupported", message, permanent=True)


def _worklist(
    rig: Rig, claim: Claim, kind: WindowKind = WindowKind.REPEAT, output_tokens: int | None = None
) -> Worklist:
    """Return a task's requests, with prompts of this attempt's own."""
    return Worklist(
        claim.workload, vocabulary=rig.engine.vocabulary, seed=f"{claim.lease_id}/{kind}",
        traces=rig.traces, output_tokens=output_tokens,
    )  # fmt: skip


def _run(
    rig: Rig, claim: Claim, checkpoint: Callable[[], None], work: Worklist
) -> _Batches | Ongoing | Listed:
    """Return how the windows of a task are made."""
    if not claim.workload.is_online:
        follow = _asked(claim.protocol, PhaseMethod.STEPS)
        return _Batches(rig, claim.protocol, checkpoint, work, follow=follow)
    serving = Serving(
        rig=rig, engine=online(rig.engine), protocol=claim.protocol, work=work,
        checkpoint=checkpoint,
    )  # fmt: skip
    return Ongoing(serving) if claim.workload.requests is None else Listed(serving)


def _asked(protocol: MeasurementProtocol, method: PhaseMethod) -> bool:
    return protocol.phases in (method, "both")


def _prefill_run(
    rig: Rig, claim: Claim, checkpoint: Callable[[], None], *, after: int
) -> list[Window]:
    """Measure the prompts with one output token; none where the repeats do nothing else anyway."""
    if claim.workload.output_tokens == 1:
        return []
    kind = WindowKind.PREFILL
    work = _worklist(rig, claim, kind, output_tokens=1)
    run = _Batches(rig, claim.protocol, checkpoint, work, kind=kind)
    run.warm_up()
    return [run.window(after + n) for n in range(claim.protocol.repeats)]


def _enough(windows: Sequence[Window], protocol: MeasurementProtocol) -> bool:
    """Whether the repeats reach the interval target or the cap."""
    if len(windows) < protocol.repeats:
        return False
    if len(windows) >= protocol.repeats_max:
        return True
    spread = relative_half_width(windows)
    return spread is not None and spread <= protocol.interval_target


class _Batches:
    """Passes of a list of requests, in batches or at once, each checked as it comes back."""

    def __init__(
        self, rig: Rig, protocol: MeasurementProtocol, checkpoint: Callable[[], None],
        work: Worklist, *, kind: WindowKind = WindowKind.REPEAT, follow: bool = False,
    ) -> None:  # fmt: skip
        self._rig = rig
        self._protocol = protocol
        self._checkpoint = checkpoint
        self._work = work
        self._kind = kind
        self._follow = follow

    def __enter__(self) -> Self:
        """Between batches the engine is idle: there is nothing to begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nor to end."""

    def _batch(self, lengths: Sequence[Pair]) -> Batch:
        """Generate one batch of fresh prompts and check what came back."""
        self._checkpoint()
        requests = self._work.requests(lengths)
        batch = self._rig.engine.generate(requests, decoding_of(self._work.workload))
        check_batch(batch, lengths, prefix_caching=self._rig.prefix_caching)
        return batch

    def warm_up(self) -> int:
        """Generate the first batch until the last few agree; returns how many it took.

        An engine that compiles for the sizes of a batch is given all those of the list as well.
        """
        compiles = False
        durations: list[float] = []
        while len(durations) < self._protocol.warmup_max:
            batch = self._batch(self._work.first)
            compiles = COMPILED in batch.counters
            durations.append(batch.duration_s)
            if agree(durations, self._protocol):
                break
        sizes = {_sizes(lengths): lengths for lengths in self._work.batches()} if compiles else {}
        sizes.pop(_sizes(self._work.first), None)
        for lengths in sizes.values():
            self._batch(lengths)
        return len(durations) + len(sizes)

    def window(self, ordinal: int) -> Window:
        """Repeat the list, whole, in one metered window until it is long enough."""
        rig, enough_ns = self._rig, round(self._protocol.window_s * 1e9)
        batches: list[Batch] = []
        passes = 0
        self._work.turn()
        rig.meter.open(follow=self._follow)
        started_ns = rig.clock.now_ns()
        try:
            while rig.clock.now_ns() - started_ns < enough_ns:
                passes += 1
                for lengths in self._work.batches():
                    batches.append(self._batch(lengths))
                    reach("in_window")
        except BaseException:
            rig.meter.close()  # the meter is used again; this reading describes nothing whole
            raise
        reading = rig.meter.close()
        phases = by_steps(batches, rig.meter.curves(), reading) if self._follow else ()
        dropped = {name: count * passes for name, count in self._work.left_out.items()}
        return _window(self._kind, ordinal, reading, batches, phases, dropped)


def _sizes(lengths: Sequence[Pair]) -> tuple[int, int, bool, int]:
    """Return what an engine may compile for: requests, longest prompt, padding, longest answer."""
    prompts = [prompt for prompt, _ in lengths]
    longest = max(prompts)
    return len(lengths), longest, longest > min(prompts), max(output for _, output in lengths)


def _window(
    kind: WindowKind,
    ordinal: int,
    reading: Reading,
    batches: Sequence[Batch],
    phases: tuple[PhaseEnergy, ...],
    dropped: Mapping[str, float],
) -> Window:
    """Return a window's row: the reading, what was generated in it and what was left out."""
    requests = [request for batch in batches for request in batch.requests]
    hits = [b.prefix_cache_hit_tokens for b in batches if b.prefix_cache_hit_tokens is not None]
    return Window(
        kind=kind,
        ordinal=ordinal,
        reading=reading,
        batches=len(batches),
        requests=len(requests),
        input_tokens=sum(r.input_tokens for r in requests),
        output_tokens=sum(r.output_tokens for r in requests),
        ttft_s=_mean([r.ttft_s for r in requests]),
        itl_s=_mean([r.itl_s for r in requests]),
        e2e_s=_mean([r.e2e_s for r in requests]),
        prefix_cache_hit_tokens=sum(hits) if hits else None,
        phases=phases,
        running_mean=_running_mean(batches),
        counters={**_summed(batches), **dropped},
    )


def _running_mean(batches: Sequence[Batch]) -> float | None:
    """Return the mean over the batches' time; None if any cannot tell."""
    known = [(b.running_mean, b.duration_s) for b in batches if b.running_mean is not None]
    seconds = math.fsum(duration_s for _, duration_s in known)
    if len(known) < len(batches) or not seconds:
        return None
    return math.fsum(running * duration_s for running, duration_s in known) / seconds


def _summed(batches: Sequence[Batch]) -> dict[str, float]:
    """Return the sums of the counters that every batch has."""
    names = set.intersection(*(set(b.counters) for b in batches)) if batches else set()
    return {name: math.fsum(b.counters[name] for b in batches) for name in sorted(names)}


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if any value is missing."""
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def idle(rig: Rig, seconds: float, kind: WindowKind) -> Window:
    """Meter `seconds` of doing nothing."""
    rig.meter.open()
    rig.clock.sleep(seconds)
    return Window(kind=kind, ordinal=0, reading=rig.meter.close())
