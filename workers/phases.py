"""Energy by phase: prefill-only, mixed and decode-only steps of the batches in a window. Pure.

It owns the two methods. By steps: the engine's time stamps bound the phases, the meter's curves
give their joules. By a prefill run: windows of the same prompts with one output token give the
joules of prefill, what remains is decode. It never guesses: a phase that did not occur alone or is
too short for the meter is None with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from db.readings import Batch, Phase, PhaseEnergy, PhaseMethod, Reading, Window
from workers.meters.counting import Energy
from workers.meters.curve import Curve, Span

#: A phase shorter than this many values of the meter, in the mean over its spans, is not resolved.
FEWEST_TICKS = 10

#: In the order in which they come.
PHASES = tuple(Phase)

MIXED = "phases_mixed"  # it never occurred alone; beside joules: a part of it did not
UNRESOLVED = "phase_unresolved"  # too short for the meter, or no more than its uncertainty
NO_ENERGY = "no_energy"  # a window it rests on has none
NO_FIRST_TOKEN = "no_first_token_time"  # noqa: S105 - the engine did not say when it came


def spans_of(batch: Batch) -> Mapping[Phase, Span] | None:
    """Return when each phase of a batch was; None if the engine did not say.

    All requests are handed over at once: until the first of them has its first token every step is
    prefill-only, from the last one's first token on every step is decode-only.
    """
    firsts_s = [r.ttft_s for r in batch.requests if r.ttft_s is not None]
    if not firsts_s or len(firsts_s) < len(batch.requests):
        return None
    marks_s = (0.0, min(firsts_s), max(firsts_s), max(r.e2e_s for r in batch.requests))
    marks = [batch.started_ns + round(mark_s * 1e9) for mark_s in marks_s]
    found = zip(PHASES, pairwise(marks), strict=True)
    return {phase: span for phase, span in found if span[1] > span[0]}


def by_steps(
    batches: Sequence[Batch], curves: Sequence[Curve], reading: Reading
) -> tuple[PhaseEnergy, ...]:
    """Return the phases of a window's batches by the engine's time stamps.

    `curves` are the energy of each board of the group inside the window; there are none where it
    was not followed.
    """
    tokens = _tokens(
        sum(r.input_tokens for batch in batches for r in batch.requests),
        sum(r.output_tokens - 1 for batch in batches for r in batch.requests),
    )
    known = [spans for spans in map(spans_of, batches) if spans is not None]
    if len(known) < len(batches):
        return tuple(map(_unknown, tokens))
    spans = {phase: [s[phase] for s in known if phase in s] for phase in PHASES}
    energies = _energies(spans, curves)
    mixed = bool(spans[Phase.MIXED])
    return tuple(
        _step(phase, spans[phase], energies[phase], reading, tokens.get(phase), mixed=mixed)
        for phase in PHASES
        if spans[phase] or phase in tokens
    )


def _step(
    phase: Phase, spans: Sequence[Span], energy: Energy | None, reading: Reading,
    tokens: int | None, *, mixed: bool,
) -> PhaseEnergy:  # fmt: skip
    """Return one phase of a window; where some of its steps were `mixed` its tokens are open."""
    partly = mixed and phase is not Phase.MIXED
    measured = reading.energy_j is not None
    return _row(
        phase, PhaseMethod.STEPS, _seconds(spans), energy if measured else None,
        missing=MIXED if partly and not spans else UNRESOLVED if measured else NO_ENERGY,
        timed=reading.timing_uncertainty_j is not None, tokens=None if partly else tokens,
        reasons=(MIXED,) if partly else (),
    )  # fmt: skip


def _seconds(spans: Sequence[Span]) -> float:
    return sum(end - start for start, end in spans) / 1e9


def _energies(
    spans: Mapping[Phase, Sequence[Span]], curves: Sequence[Curve]
) -> Mapping[Phase, Energy | None]:
    """Return the joules of each phase over the group; None if the curves do not carry them."""
    every = sorted(span for some in spans.values() for span in some)
    boards = [(curve, dict(zip(every, curve.parts(every), strict=True))) for curve in curves]
    coarsest_s = max((curve.resolution_s for curve in curves), default=math.inf)
    found: dict[Phase, Energy | None] = dict.fromkeys(PHASES)
    for phase, some in spans.items():
        if some and _seconds(some) / len(some) >= FEWEST_TICKS * coarsest_s:
            found[phase] = _group([_board(curve, [parts[s] for s in some])
                                   for curve, parts in boards])  # fmt: skip
    return found


def _board(curve: Curve, parts: Sequence[Energy | None]) -> Energy | None:
    """Return the joules of one board's parts together."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    widths_j = [part.half_width_j for part in known]
    return Energy(energy_j=math.fsum(part.energy_j for part in known),
                  half_width_j=math.fsum(widths_j) if curve.errors_add
                  else math.hypot(*widths_j))  # fmt: skip


def _group(boards: Sequence[Energy | None]) -> Energy | None:
    """Return the sum over boards, which begin and end a step together: their errors add up."""
    known = [board for board in boards if board is not None]
    if len(known) < len(boards):
        return None
    return Energy(energy_j=math.fsum(board.energy_j for board in known),
                  half_width_j=math.fsum(board.half_width_j for board in known))  # fmt: skip


def by_prefill_run(repeat: Window, run: Sequence[Window]) -> tuple[PhaseEnergy, ...]:
    """Return the phases of a repeat, given windows of the same prompts with one output token.

    Decode is the difference: what generating on costs a batch, the host's work between batches
    counted as prefill. Steps that are mixed by an engine are decode as far as they cost more.
    """
    batches = sum(window.batches for window in run)
    tokens = _tokens(repeat.input_tokens, repeat.output_tokens - repeat.requests)
    joules = [w.reading.energy_j for w in (repeat, *run) if w.reading.energy_j is not None]
    widths = [w.reading.timing_uncertainty_j for w in (repeat, *run)]
    share = repeat.batches / batches
    prefill_s = share * math.fsum(window.reading.duration_s for window in run)
    energies: dict[Phase, Energy] = {}
    if len(joules) == len(widths):
        width_j, *run_widths_j = (width or 0.0 for width in widths)
        prefill_j = share * math.fsum(joules[1:])
        prefill_width_j = share * math.hypot(*run_widths_j)
        energies = {
            Phase.PREFILL: Energy(energy_j=prefill_j, half_width_j=prefill_width_j),
            Phase.DECODE: Energy(energy_j=joules[0] - prefill_j,
                                 half_width_j=math.hypot(width_j, prefill_width_j)),
        }  # fmt: skip
    seconds = {Phase.PREFILL: prefill_s, Phase.DECODE: repeat.reading.duration_s - prefill_s}
    return tuple(
        _row(
            phase, PhaseMethod.PREFILL_RUN, seconds[phase], energies.get(phase),
            missing=NO_ENERGY, timed=None not in widths, tokens=count,
        )
        for phase, count in tokens.items()
    )  # fmt: skip


def _tokens(prompt: int, generated: int) -> Mapping[Phase, int]:
    """Return the tokens each phase works on; one without any does not occur.

    The first token of a request is prefill's.
    """
    counts = {Phase.PREFILL: prompt, Phase.DECODE: generated}
    return {phase: tokens for phase, tokens in counts.items() if tokens > 0}


def _row(
    phase: Phase, method: PhaseMethod, duration_s: float, energy: Energy | None, *, missing: str,
    timed: bool, tokens: int | None, reasons: tuple[str, ...] = (),
) -> PhaseEnergy:  # fmt: skip
    """Return a phase with its joules, or without where they are no more than their half-width."""
    if energy is None or duration_s <= 0 or energy.energy_j <= energy.half_width_j:
        why = missing if energy is None else UNRESOLVED
        return PhaseEnergy(
            phase=phase, method=method, duration_s=max(0.0, duration_s), tokens=tokens,
            reasons=tuple(dict.fromkeys((*reasons, why))),
        )  # fmt: skip
    return PhaseEnergy(
        phase=phase, method=method, duration_s=duration_s, energy_j=energy.energy_j,
        timing_uncertainty_j=energy.half_width_j if timed else None, tokens=tokens,
        reasons=reasons,
    )  # fmt: skip


def _unknown(phase: Phase) -> PhaseEnergy:
    """Return a phase of which the engine did not say when it was."""
    return PhaseEnergy(phase=phase, method=PhaseMethod.STEPS, duration_s=None,
                       reasons=(NO_FIRST_TOKEN,))  # fmt: skip
