"""The counted rows as joules of one request by their lengths, for the claims that a fit answers.

Owns the figures of sweet spots and of traces: by the same forms, bins and joules as the analyses
of their own. A figure is of rows of one kin and replicate alone. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import nan

import numpy as np

from campaign.analysis.per_request import Sample
from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.forms import LINEAR, SIX, Floats, Form, fit, mape
from campaign.analysis.sweet_spots.holdout import errors
from campaign.analysis.sweet_spots.optimum import per_output_token
from campaign.analysis.sweet_spots.spot import FEWEST_PAIRS, lacking
from campaign.analysis.workloads.energies import MeasuredEnergies
from campaign.analysis.workloads.estimated import estimate_of, has_joules
from campaign.analysis.workloads.ideal import excess, saving
from campaign.analysis.workloads.traffic import Edges, binned, traffic_of
from campaign.tabular import count_of
from db.claims import Counted, Found
from workers.workloads.traces import Trace

Of = Mapping[str, Sequence[object]]
#: Rows of fixed lengths; `point` is what they ran, as JSON.
SQL = """
select json_build_object('model', model, 'board', board, 'gpus', board_count, 'backend', backend,
                         'tensor_parallel', tensor_parallel, 'dtype', dtype, 'stack', stack,
                         'options', options::text, 'work', work, 'settings', settings,
                         'revision', revision,
                         'batch', batch_size, 'inputs', input_tokens, 'outputs', output_tokens
                        )::text as point,
       joules_per_prompt as figure, array[attempt_id] as attempts
  from counted
 where lengths = 'fixed' and plain
"""
#: Whose joules a trace is costed by, and against whose.
FAST, SLOW = "vllm", "transformers"
#: A saving on fewer of a trace's requests says nothing of the trace.
LEAST_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one set-up, kin and replicate, with the attempts that they are."""

    setup: Setup
    samples: tuple[Sample, ...]
    attempts: tuple[int, ...]


def groups(claim: str, rows: Counted, of: Of, *, batches: bool) -> list[Group]:
    """Return the rows of every set-up; with `batches`, of every batch of it."""
    found: dict[object, list[tuple[Sample, int]]] = {}
    for one in rows.find(claim, SQL, of):
        sample, attempt = replace(_sample(one.point), energy_j=one.figure), one.attempts[0]
        source = rows.sources[attempt]
        key = sample.setup, sample.batch_size if batches else None, source.kin, source.replicate
        found.setdefault(key, []).append((sample, attempt))
    return [
        Group(
            setup=members[0][0].setup,
            samples=tuple(sample for sample, _ in members),
            attempts=tuple(attempt for _, attempt in members),
        )
        for members in found.values()
    ]


@lru_cache(maxsize=2**16)
def _sample(point: str) -> Sample:
    """Return what a row ran, without its joules; several claims ask for the same rows."""
    ran = json.loads(point)
    names = ("stack", "options", "work", "settings", "revision")
    apart = tuple((name, str(ran[name])) for name in names)
    setup = Setup(
        model=str(ran["model"]), board=str(ran["board"]), backend=str(ran["backend"]),
        gpus=_whole(ran["gpus"]), tensor_parallel=_whole(ran["tensor_parallel"]),
        dtype=str(ran["dtype"]), also=apart,
    )  # fmt: skip
    inputs, outputs = _whole(ran["inputs"]), _whole(ran["outputs"])
    return Sample(setup=setup, batch_size=_whole(ran["batch"]), energy_j=nan,
                  input_tokens=inputs, output_tokens=outputs)  # fmt: skip


def _whole(value: object) -> int:
    return int(str(value))


Figure = Callable[[Floats, Floats, Floats], float | None]


def fitted(claim: str, figure: Figure, rows: Counted, of: Of) -> list[Found]:
    """Return a figure of every set-up and batch that six terms can be fitted to."""
    found = []
    for group in groups(claim, rows, of, batches=True):
        if lacking(group.samples) is None:
            columns = [(s.input_tokens, s.output_tokens, s.energy_j) for s in group.samples]
            value = figure(*np.array(columns, dtype=np.float64).T)
            if value is not None:
                point = f"{group.setup.label}, batch {group.samples[0].batch_size}"
                found.append(Found(point=point, figure=value, attempts=group.attempts))
    return found


def error_of_six(n_in: Floats, n_out: Floats, energy_j: Floats) -> float:
    """Return the MAPE of the six-term form in sample, in per cent."""
    return mape(SIX.energy_j(fit(SIX, n_in, n_out, energy_j), n_in, n_out), energy_j)


def linear_over_six(n_in: Floats, n_out: Floats, energy_j: Floats) -> float | None:
    """Return how many times the linear form's error out of sample exceeds that of six terms."""
    linear, six = (_out_of_sample(form, n_in, n_out, energy_j) for form in (LINEAR, SIX))
    return linear / six if linear is not None and six else None


def _out_of_sample(form: Form, n_in: Floats, n_out: Floats, energy_j: Floats) -> float | None:
    return errors(form, n_in, n_out, energy_j).folds


def missed_by_formula(n_in: Floats, n_out: Floats, energy_j: Floats) -> float | None:
    """Return what the formula's best lengths cost above the measured least, in per cent, mean.

    At the measured length nearest to the formula's, of inputs with an optimum inside.
    """
    theta = fit(SIX, n_in, n_out, energy_j)
    over = []
    for length in np.unique(n_in):
        here = n_in == length
        lengths, each = n_out[here], energy_j[here] / n_out[here]
        best = per_output_token(theta, float(length))
        if lengths.min() <= best <= lengths.max():
            nearest = lengths == lengths[np.argmin(np.abs(np.log(lengths / best)))]
            least = min(float(each[lengths == one].mean()) for one in np.unique(lengths))
            over.append(100 * (float(each[nearest].mean()) / least - 1))
    return float(np.mean(over)) if over else None


def there(claim: str, rows: Counted, of: Of) -> str:
    """Return in words how far the rows are from being enough for a fit."""
    regimes = groups(claim, rows, of, batches=True)
    pairs = [len({(s.input_tokens, s.output_tokens) for s in one.samples}) for one in regimes]
    count = sum(len(one.samples) for one in regimes)
    most = f", {count_of(max(pairs), 'pair')} at most" if pairs else ""
    if pairs and max(pairs) >= FEWEST_PAIRS:
        most += "; too few of these have enough pairs, and an optimum among their lengths"
    return (f"a fit takes {FEWEST_PAIRS} pairs of lengths in a set-up and batch; there "
            f"{_are(count)} {count_of(count, 'row')} in {len(regimes)} of these{most}")  # fmt: skip


def saved(claim: str, trace: Trace, rows: Counted, of: Of) -> list[Found]:
    """Return what vLLM saves of what transformers takes on a trace, in per cent, by pair of both.

    Ceiling bins with the paper's edges, on the requests that both have joules for.
    """
    found, edges = [], Edges()
    held = binned(traffic_of(trace), edges)
    for slow, fast in _pairs(groups(claim, rows, of, batches=False), rows):
        energies = [MeasuredEnergies(one.setup, one.samples) for one in (slow, fast)]
        shared = np.logical_and.reduce([has_joules(held, edges, one) for one in energies])
        if float(held.traffic.counts[shared].sum()) < LEAST_SHARE * held.traffic.requests:
            continue
        before, after = (estimate_of(held, edges, one, shared).ceiling_j for one in energies)
        found.append(Found(
            point=f"{fast.setup.label} against {slow.setup.label}",
            figure=100 * saving(0.0, excess(after, before)),
            attempts=tuple(sorted({*slow.attempts, *fast.attempts})),
        ))  # fmt: skip
    return found


def _pairs(found: Sequence[Group], rows: Counted) -> Iterator[tuple[Group, Group]]:
    """Yield slow and fast set-ups that differ in the engine alone, of rows that may be compared."""

    def alike(one: Group) -> tuple[object, ...]:
        source = rows.sources[one.attempts[0]]
        also = dict(one.setup.also)
        return (
            one.setup.board,
            one.setup.gpus,
            one.setup.tensor_parallel,
            one.setup.dtype,
            also["revision"],
            also["work"],
            also["settings"],
            source.kin,
            source.replicate,
        )

    for slow in (one for one in found if one.setup.backend == SLOW):
        yield from ((slow, fast) for fast in found
                    if fast.setup.backend == FAST and alike(fast) == alike(slow))  # fmt: skip


def covered(claim: str, trace: Trace, rows: Counted, of: Of) -> str:
    """Return in words which of a trace's requests the rows have joules for."""
    edges, told, counts = Edges(), [], []
    held = binned(traffic_of(trace), edges)
    have = groups(claim, rows, of, batches=False)
    for backend in (FAST, SLOW):
        shares = [
            float(held.traffic.counts[has_joules(held, edges, each)].sum()) / held.traffic.requests
            for each in (MeasuredEnergies(one.setup, one.samples)
                         for one in have if one.setup.backend == backend)
        ]  # fmt: skip
        counts.append(sum(len(one.samples) for one in have if one.setup.backend == backend))
        told.append(f"{count_of(counts[-1], 'row')} of {backend} with joules for "
                    f"{max(shares, default=0.0):.0%} of its requests")  # fmt: skip
    need = f"both engines need joules for {LEAST_SHARE:.0%} of the trace's requests"
    return f"{need}; there {_are(counts[0])} {' and '.join(told)}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
