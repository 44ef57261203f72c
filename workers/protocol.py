"""How one task is measured: warm up, repeat metered windows, stop, judge.

The same code measures every engine, real or simulated; only the engine, meter and clock of the
rig differ. What is returned is what was done, not what was configured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from db.errors import InvalidMeasurement
from db.leases import Claim
from db.readings import Batch, Measurement, PhaseEnergy, PhaseMethod, Reading, Window, WindowKind
from db.records import MeasurementProtocol
from workers.killpoints import reach
from workers.phases import by_prefill_run, by_steps
from workers.prompts import Prompts
from workers.rig import Rig
from workers.validity import check_batch, judge, relative_half_width


def measure(rig: Rig, claim: Claim, checkpoint: Callable[[], None]) -> Measurement:
    """Measure a claimed task; `checkpoint` is called between batches and may raise to stop.

    Raises TaskFault from the engine and InvalidMeasurement from the gates; where repeats were
    judged, the latter carries them.
    """
    run = _Run(rig, claim, checkpoint)
    warmup_batches = run.warm_up()
    windows: list[Window] = []
    while not _enough(windows, claim.protocol):
        windows.append(run.window(len(windows)))
    prefill: list[Window] = []
    if _asked(claim.protocol, PhaseMethod.PREFILL_RUN):
        prefill = _prefill_run(rig, claim, checkpoint, after=len(windows))
        windows = [
            replace(w, phases=(*w.phases, *by_prefill_run(w, prefill or [w]))) for w in windows
        ]
    done = Measurement(windows=(*windows, *prefill), warmup_batches=warmup_batches)
    try:
        foreign = rig.meter.foreign_processes()
        marks = judge(windows, claim.protocol, rig.gates, foreign)
        if prefill:  # voided alike; its marks are not the row's, and without joules it has reasons
            judge(prefill, replace(claim.protocol, energy="any"), rig.gates, foreign)
    except InvalidMeasurement as invalid:
        raise InvalidMeasurement(invalid.gate, str(invalid), done) from invalid
    return replace(done, marks=marks)


def _asked(protocol: MeasurementProtocol, method: PhaseMethod) -> bool:
    return protocol.phases in (method, "both")


def _prefill_run(
    rig: Rig, claim: Claim, checkpoint: Callable[[], None], *, after: int
) -> list[Window]:
    """Measure the prompts with one output token; none where the repeats do nothing else anyway."""
    if claim.workload.output_tokens == 1:
        return []
    run = _Run(rig, claim, checkpoint, kind=WindowKind.PREFILL)
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


class _Run:
    """One task on a rig: fresh prompts for every batch, each batch checked."""

    def __init__(
        self,
        rig: Rig,
        claim: Claim,
        checkpoint: Callable[[], None],
        kind: WindowKind = WindowKind.REPEAT,
    ) -> None:
        self._rig = rig
        self._claim = claim
        self._checkpoint = checkpoint
        self._kind = kind
        whole = kind is WindowKind.REPEAT
        self._work = claim.workload if whole else replace(claim.workload, output_tokens=1)
        self._follow = whole and _asked(claim.protocol, PhaseMethod.STEPS)
        self._prompts = Prompts(vocabulary=rig.engine.vocabulary, seed=f"{claim.lease_id}/{kind}")

    def batch(self) -> Batch:
        """Generate one batch of fresh prompts and check what came back."""
        self._checkpoint()
        work = self._work
        prompts = self._prompts.batch(work.batch_size, work.input_tokens)
        batch = self._rig.engine.generate(prompts, work.output_tokens)
        check_batch(batch, work, prefix_caching=self._rig.prefix_caching)
        return batch

    def warm_up(self) -> int:
        """Generate batches until the last few agree; returns how many it took."""
        protocol = self._claim.protocol
        durations: list[float] = []
        while len(durations) < protocol.warmup_max:
            durations.append(self.batch().duration_s)
            last = durations[-protocol.warmup_agree :]
            if len(last) == protocol.warmup_agree:
                mean = statistics.fmean(last)
                if all(abs(d - mean) <= protocol.warmup_tolerance * mean for d in last):
                    break
        return len(durations)

    def window(self, ordinal: int) -> Window:
        """Repeat the batch in one metered window until it is long enough."""
        rig, enough_ns = self._rig, round(self._claim.protocol.window_s * 1e9)
        batches: list[Batch] = []
        rig.meter.open(follow=self._follow)
        started_ns = rig.clock.now_ns()
        try:
            while rig.clock.now_ns() - started_ns < enough_ns:
                batches.append(self.batch())
                reach("in_window")
        except BaseException:
            rig.meter.close()  # the meter is used again; this reading describes nothing whole
            raise
        reading = rig.meter.close()
        phases = by_steps(batches, rig.meter.curves(), reading) if self._follow else ()
        return _window(self._kind, ordinal, reading, batches, phases)


def _window(
    kind: WindowKind,
    ordinal: int,
    reading: Reading,
    batches: Sequence[Batch],
    phases: tuple[PhaseEnergy, ...],
) -> Window:
    """Return a window's row: the reading, and what was generated in it."""
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
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if any value is missing."""
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def idle(rig: Rig, seconds: float, kind: WindowKind) -> Window:
    """Meter `seconds` of doing nothing."""
    rig.meter.open()
    rig.clock.sleep(seconds)
    return Window(kind=kind, ordinal=0, reading=rig.meter.close())
