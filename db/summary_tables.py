"""What windows and phases of an attempt add up to, kept so that a million of them answer at once.

Copies of the views `sums` and `phase_sums` by attempt. Triggers on what those are made of keep them
in step; nothing else writes them, and nothing is in them that those do not say.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.dialects.postgresql import JSONB, UUID

from db.declaring import double, integer, large, metadata, moment, string, strings

summaries = Table(
    "summaries",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id"), primary_key=True, comment="the attempt"),
    integer("repeats", "metered repeats"),
    Column("simulated", sa.Boolean, nullable=False, comment="one of them was simulated"),
    moment("measured_at", "start of the first"),
    double("duration_s", "length of all, seconds"),
    large("requests", "requests finished", null=True),
    large("straddling", "requests across the edge of a repeat", null=True),
    double("running_mean", "requests computed together, mean of the repeats"),
    large("input_tokens_total", "prompt tokens", null=True),
    large("output_tokens_total", "generated tokens", null=True),
    double("ttft_s", "time to first token, mean over requests, seconds"),
    double("itl_s", "inter-token latency, mean over requests, seconds"),
    double("e2e_s", "arrival to last token, mean over requests, seconds"),
    double("energy_j", "measured energy, joules; NULL where a repeat has none"),
    string("energy_method", "how it was measured", null=True),
    double("timing_uncertainty_j", "95 % half-width of edges and sampling, joules"),
    double("sensor_accuracy", "relative 95 % accuracy of the sensors, weighted by joules"),
    double("energy_estimated_j", "modelled energy, joules"),
    string("estimate_method", "who modelled it", null=True),
    double("cpu_package_j", "CPU packages of the host, joules"),
    double("cpu_dram_j", "DRAM of the host, joules"),
    double("half_width_j",
           "95 % half-width of the joules per output token, timing and spread of repeats"),
    strings("reasons", "why values of its windows are missing or weak"),
    Column("latencies", JSONB, nullable=False, comment="percentiles, mean of the repeats, seconds"),
    Column("counters", JSONB, nullable=False, comment="the engine's counters, summed"),
    Column("accepted", sa.Boolean, nullable=False, comment="the attempt is ok and was not voided"),
    large("task_id", "the task it tried"),
    integer("engine_id", "engine of the task"),
    integer("protocol_id", "protocol of the task"),
    string("workload", "workload of the task in words"),
    integer("replicate", "replicate of the task"),
    string("reality", "simulated where a repeat was, else what the task asked for"),
    Column("session_id", UUID, nullable=False, comment="the session it was measured in"),
    string("backend_version", "version of the backend in that session", null=True),
    strings("marks", "gates that marked, not voided, the measurement"),
    # The first of all measurements, which are listed by it, are found without sorting the others.
    sa.Index("summaries_measured_at_idx", "measured_at"),
    comment="The repeats of one attempt, summed, and what they measured: kept by triggers, a copy "
    "of the view sums",
)  # fmt: skip

phase_summaries = Table(
    "phase_summaries",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id"), primary_key=True, comment="the attempt"),
    Column("phase", sa.Text, primary_key=True, comment="prefill, mixed or decode"),
    Column("method", sa.Text, primary_key=True, comment="how phases were told apart"),
    integer("repeats", "metered repeats in which it was looked for"),
    double("duration_s", "length in all of them, seconds; NULL where one has none"),
    double("energy_j", "measured energy, joules; NULL where a repeat has none"),
    double("timing_uncertainty_j", "95 % half-width of edges and sampling, joules"),
    large("tokens", "tokens of the phase; NULL where a repeat does not know", null=True),
    strings("reasons", "why a value is missing, or holds a part of the phase only"),
    comment="One phase of one attempt, by one method, summed: kept by triggers, a copy of the view "
    "phase_sums",
)

# The functions of its triggers go with a table, and the triggers with them.
KEEPERS = {
    summaries: ("keep_summaries", "keep_summaries_accepted", "keep_summaries_described"),
    phase_summaries: ("keep_phase_summaries",),
}
for _table, _functions in KEEPERS.items():
    for _function in _functions:
        _drop = sa.DDL(f"drop function if exists {_function}() cascade")  # type: ignore[no-untyped-call]
        sa.event.listen(_table, "before_drop", _drop)
