"""`analyze workload`: what a trace's requests cost on the set-ups that were measured, or computed.

Owns the order of things. docs/workload_analysis.md says what the answer means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from campaign.analysis.setups import names
from campaign.analysis.workloads.answer import answer
from campaign.analysis.workloads.traffic import READINGS, Binned, Edges, Traffic, binned, traffic_of
from campaign.analysis.workloads.validation import validated
from campaign.catalogue.catalog import load_catalog
from campaign.storeroom import split
from campaign.tabular import write_csv, write_json
from campaign.verbs.analyses.asked_rows import (
    is_asked,
    samples_asked,
    say_dropped,
)
from campaign.verbs.analyses.trace import trace_of
from campaign.verbs.analyses.workload_asked import (
    add_arguments,
    computed,
    edges_asked,
    of_rows,
)
from campaign.verbs.analyses.workload_words import (
    BIN_COLUMNS,
    bin_rows,
    print_answer,
    print_lengths,
    print_replays,
    record,
)
from campaign.verbs.analyses.written import written
from db.errors import ConfigError

__all__ = ["add_arguments", "main"]

USAGE = "analyze workload TRACE: a name of `campaign fetch`, or a file as ./FILE.csv"


def main(args: argparse.Namespace) -> int:
    """Print what a trace costs; returns 0."""
    words, args.overrides = split(args.overrides)
    if len(words) != 1:
        raise ConfigError(f"{USAGE}; given: {' '.join(words) or 'none'}")
    if args.most_batch < 1 or args.replay < 0:
        raise ConfigError("--most-batch takes 1 or more, --replay 0 or more")
    catalog, trace = load_catalog(), trace_of(words[0])
    samples = samples_asked(args) if is_asked(args) else None
    energies = computed(args, catalog) if samples is None else of_rows(args, samples, catalog)
    edges, traffic = edges_asked(args, energies), traffic_of(trace)
    held = binned(traffic, edges)
    found = answer(held, edges, energies, catalog)
    readings = {"asked": held, **_both_readings(traffic)}
    replays = [
        validated(label, setup, trace, edges, catalog, args.replay, args.most_batch)
        for setup, label in names(one.setup for one in energies).items()
        if args.replay
    ]
    if args.grid is not None:
        with written(Path(args.grid)) as stream:
            write_csv(BIN_COLUMNS, bin_rows(found), stream)
    if args.json:
        write_json(record(found, edges, traffic, readings, replays))
        return 0
    if samples is not None:
        say_dropped(samples)
    print_lengths(words[0], traffic)
    print_answer(words[0], found, readings)
    print_replays(replays)
    return 0


def _both_readings(traffic: Traffic) -> dict[str, Binned]:
    """Return the trace in both readings of the paper's bins, as far as they hold any of it."""
    held = {name: Edges(inputs=inputs) for name, inputs in READINGS.items()}
    return {
        name: binned(traffic, edges)
        for name, edges in held.items()
        if ((traffic.inputs <= edges.inputs[-1]) & (traffic.outputs <= edges.outputs[-1])).any()
    }
