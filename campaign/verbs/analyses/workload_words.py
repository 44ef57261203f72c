"""The answer of `analyze workload` in words: tables for people, a record and bins for machines.

Owns what is shown and how it is called. Computes nothing but shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields

from campaign.analysis.workloads.answer import Answer, Costed, Joules
from campaign.analysis.workloads.traffic import Binned, Edges, Traffic
from campaign.analysis.workloads.validation import Validation
from campaign.tabular import count_of, print_table, printable

BIN_COLUMNS = ("set_up", "input_tokens", "output_tokens", "requests", "batch_size", "batches",
               "energy_j", "whole_j")  # fmt: skip
WAYS = tuple(field.name for field in fields(Joules))


def record(
    found: Answer,
    edges: Edges,
    traffic: Traffic,
    readings: Mapping[str, Binned],
    replays: Sequence[Validation],
) -> dict[str, object]:
    """Return the answer as JSON has it; the trace's own lengths stay out but for their summary."""
    return {
        "lengths": {name: asdict(one) for name, one in traffic.lengths.items()},
        "edges": asdict(edges),
        "readings": {name: _reading(one) for name, one in readings.items()},
        "requests": found.requests,
        "compared": found.compared,
        "baseline": found.baseline,
        "unused": found.unused,
        "set_ups": [
            {
                "label": one.label, "how": one.how, "reality": one.reality,
                "joules": asdict(one.joules), "saved": asdict(one.saved),
                "uncovered": one.estimate.uncovered, "as_ceiling": one.estimate.as_ceiling,
                "excesses": [asdict(each) for each in one.excesses],
                "without_ideal": one.without_ideal, "below_bound": one.below_bound,
                "bins": [asdict(each) for each in one.estimate.bins],
            }
            for one in found.costed
        ],
        "replays": [
            {"label": one.label, "estimated": asdict(Joules.of(one.estimate)),
             "replayed": asdict(one.replay)}
            for one in replays
        ],
    }  # fmt: skip


def _reading(one: Binned) -> dict[str, object]:
    return {
        "requests": one.traffic.requests, "dropped": one.dropped,
        "dropped_input_share": one.dropped_input_share,
        "dropped_output_share": one.dropped_output_share,
        "input_inflation": one.input_inflation, "output_inflation": one.output_inflation,
    }  # fmt: skip


def bin_rows(found: Answer) -> Iterator[tuple[object, ...]]:
    """Yield every bin of every set-up, by `BIN_COLUMNS`."""
    for one in found.costed:
        for each in one.estimate.bins:
            yield one.label, *(getattr(each, name) for name in BIN_COLUMNS[1:])


def print_lengths(trace: str, traffic: Traffic) -> None:
    """Print for people how long the requests are, those beyond the edges among them."""
    rows = [
        (name, one.mean, one.standard_deviation, one.median, one.p99)
        for name, one in traffic.lengths.items()
    ]
    title = f"{trace}: tokens of {count_of(traffic.requests, 'request')}"
    print_table(("tokens", "mean", "standard deviation", "median", "p99"), rows, title=title)
    print()


def print_answer(trace: str, found: Answer, readings: Mapping[str, Binned]) -> None:
    """Print for people what the bins hold, what the requests cost, and what would be ideal."""
    rows = [
        (name, one.traffic.requests, _counts(one.dropped), 100 * one.dropped_input_share,
         100 * one.dropped_output_share, one.input_inflation, one.output_inflation)
        for name, one in readings.items()
    ]  # fmt: skip
    columns = ("bins", "requests", "dropped", "% of input", "% of output", "input x", "output x")
    print_table(columns, rows, title=f"{trace}: what the bins hold, and by what they inflate it")
    print()
    rows_ = [
        (one.label, one.reality or one.how,
         *(getattr(one.joules, way) / found.compared for way in WAYS),
         *_saved(one, found.baseline), _counts(one.estimate.uncovered))
        for one in found.costed
    ]  # fmt: skip
    words = [way.replace("_", " ") for way in WAYS]
    title = f"joules per request, of the {count_of(found.compared, 'request')} that all cover"
    saves = ("ceiling saves %", "interpolated saves %")
    print_table(("set-up", "rows", *words, *saves, "left out"), rows_, title=title)
    if len(found.costed) > 1:
        print(f"savings are against {printable(found.baseline)}")
    for label, why in found.unused.items():
        print(f"{printable(label)}: not used: {why}")
    _print_ideals(found)


def _print_ideals(found: Answer) -> None:
    rows = [
        (one.label, each.ideal.peak, each.ideal.convention.replace("_", " "),
         each.ideal.ceiling_j / found.compared, 100 * each.ceiling, 100 * each.interpolated)
        for one in found.costed
        for each in one.excesses
    ]  # fmt: skip
    print()
    columns = ("set-up", "peak", "FLOPs", "ideal J/request", "excess %", "interpolated %")
    print_table(columns, rows, title="excess over the idealised baseline (FLOPs at peak and TDP)")
    for one in found.costed:
        if one.without_ideal is not None:
            print(f"{printable(one.label)}: no baseline: {one.without_ideal}")
        if one.below_bound:
            doubt = (
                "below the dense baseline, where nothing can be: check joules, precision, batches"
            )
            print(f"{printable(one.label)}: {doubt}")


def print_replays(replays: Sequence[Validation]) -> None:
    """Print for people what bins say of replayed requests, per request, and what they took."""
    rows = []
    for one in replays:
        requests, joules = one.replay.requests, Joules.of(one.estimate)
        told = [getattr(joules, way) / requests for way in WAYS]
        took = [one.replay.grouped_j / requests, one.replay.arrival_j / requests]
        rows.append((one.label, requests, *told, *took))
    if rows:
        print()
        words = [way.replace("_", " ") for way in WAYS]
        columns = ("set-up", "requests", *words, "replayed by bin", "as they came")
        title = "replay on simulated boards: joules per request, estimated and replayed"
        print_table(columns, rows, title=title)


def _saved(one: Costed, baseline: str) -> tuple[float | None, float | None]:
    """Return what a set-up saves, in per cent; None for the costliest one."""
    if one.label == baseline:
        return None, None
    return 100 * one.saved.ceiling, 100 * one.saved.interpolated


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in counts.items())
