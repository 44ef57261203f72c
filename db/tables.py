"""The tables of the store: the only source of its DDL. Every column says its unit.

Rules of the states are constraints here as well as statements in leases.sql. Rows are facts:
an attempt or window is never deleted; a voided result stays, marked.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP, UUID

from db.declaring import (
    counter,
    document,
    double,
    integer,
    large,
    metadata,
    moment,
    one_of,
    string,
    strings,
    surrogate_key,
)
from db.external_tables import external_rows
from db.readings import Phase, PhaseMethod, WindowKind
from db.records import Outcome, Reality, TaskState, Weights
from db.summary_tables import phase_summaries, summaries

__all__ = [
    "attempts", "campaign_tasks", "campaigns", "engines", "exclusions", "external_rows",
    "gpu_energies", "metadata", "phase_summaries", "phases", "power_traces", "protocols",
    "sessions", "summaries", "tasks", "windows",
]  # fmt: skip

campaigns = Table(
    "campaigns",
    metadata,
    surrogate_key(sa.Integer),
    string("name", "what people call it"),
    string("owner", "who created it"),
    moment("created_at", "when it was created", now=True),
    string("config", "resolved configuration of the latest run, YAML, without secrets"),
    Column("grid", JSONB(none_as_null=True), comment="what it was expanded from; engines"),
    UniqueConstraint("name"),
    comment="A named, owned set of tasks",
)

engines = Table(
    "engines",
    metadata,
    surrogate_key(sa.Integer),
    string("digest", "SHA-256 of everything of the engine that is measured"),
    string("model", "model name, a hub id where one exists"),
    string("model_commit", "hub commit or folder digest of real weights", null=True),
    string("weights", "real or random (drawn like a real initialisation)"),
    document("architecture", "config.json content that defines the shape"),
    string("backend", "vllm, transformers or simulated"),
    string("backend_version", "version the configuration pins; NULL takes what is installed",
           null=True),
    string("dtype", "computation type of weights and activations"),
    string("quantization", "weight quantization method", null=True),
    integer("tensor_parallel", "tensor parallel size, in GPUs"),
    integer("threads", "CPU threads the engine may compute with", null=True),
    string("board", "slug of the board it runs on"),
    integer("board_count", "boards that work as one group"),
    document("options", "backend flags by their own names"),
    Column("mode", sa.Text, nullable=False, server_default="offline",
           comment="offline, or online: a server's engine, which takes requests as it computes"),
    string("speculation", "draft_model or ngram; NULL without", null=True),
    integer("speculative_tokens", "tokens that are looked ahead", null=True),
    Column("draft", JSONB(none_as_null=True), comment="draft: name, weights, commit, architecture"),
    double("power_limit_w", "declared and verified, never set, watts; NULL takes it as it is"),
    UniqueConstraint("digest"),
    one_of("weights", Weights),
    CheckConstraint("mode in ('offline', 'online')", name="mode"),
    CheckConstraint("tensor_parallel > 0 and board_count > 0 and speculative_tokens > 0"
                    " and power_limit_w > 0", name="sizes"),
    comment="A model in a backend on a board group: what is loaded once",
)  # fmt: skip

protocols = Table(
    "protocols",
    metadata,
    surrogate_key(sa.Integer),
    string("digest", "SHA-256 of its numbers"),
    string("name", "what the configuration calls it"),
    document("numbers", "the protocol as asked for: window_s, repeats, warm-up, interval target"),
    UniqueConstraint("digest"),
    comment="How tasks are measured, as configured; what was done is stored per attempt",
)

tasks = Table(
    "tasks",
    metadata,
    surrogate_key(sa.BigInteger),
    string("key", "v1: and the SHA-256 of everything measured"),
    Column("engine_id", ForeignKey(engines.c.id), nullable=False, comment="engine to run on"),
    Column("protocol_id", ForeignKey(protocols.c.id), nullable=False, comment="how to measure"),
    integer("input_tokens", "prompt length, tokens per request"),
    integer("output_tokens", "generated length, tokens per request"),
    integer("batch_size", "requests handed over at once, or computed at a time"),
    document("workload", "what else the workload asks for, by field name; a field that is not "
             "there has its default"),
    string("reality", "real, simulated or external"),
    integer("replicate", "the same point again in another session, from 0"),
    integer("ordinal", "order within the engine"),
    Column("state", sa.Text, nullable=False, server_default=TaskState.PENDING.value,
           comment="pending, leased, done, quarantined or excluded"),
    string("reason", "why it is quarantined or excluded", null=True),
    moment("not_before", "not claimed earlier, after a fault"),
    Column("lease_id", UUID,
           comment="the fence: lease of the newest attempt, as long as that may still finish"),
    moment("lease_expires_at", "when others may reap the lease"),
    Column("result_lease_id", UUID,
           sa.Computed("case when state = 'done' then lease_id end", persisted=True),
           comment="lease_id once it is done: there is no done task without an accepted attempt"),
    counter("attempts", "attempts opened"),
    counter("faults", "faulted attempts"),
    counter("losses", "lost attempts"),
    counter("invalids", "voided attempts"),
    UniqueConstraint("key"),
    one_of("state", TaskState),
    one_of("reality", Reality),
    CheckConstraint("input_tokens > 0 and output_tokens > 0 and batch_size > 0",
                    name="positive_sizes"),
    CheckConstraint("(state = 'leased') = (lease_expires_at is not null)",
                    name="leased_has_expiry"),
    CheckConstraint("state not in ('leased', 'done') or lease_id is not null",
                    name="held_has_lease"),
    CheckConstraint("not_before is null or state = 'pending'", name="only_pending_waits"),
    # The fence names an attempt, and done needs an accepted one. Both tables refer to each other,
    # so these two are added last.
    sa.ForeignKeyConstraint(["lease_id"], ["attempts.lease_id"], use_alter=True,
                            name="tasks_lease_id_fkey"),
    sa.ForeignKeyConstraint(["result_lease_id"], ["attempts.result_lease_id"], use_alter=True,
                            name="tasks_result_lease_id_fkey"),
    CheckConstraint("(state in ('quarantined', 'excluded')) = (reason is not null)",
                    name="ended_has_reason"),
    comment="One engine x one workload x one replicate: the unit of lease, retry and result",
)  # fmt: skip
# claim: the pending tasks of one engine, in order.
Index("tasks_claim_idx", tasks.c.engine_id, tasks.c.ordinal, tasks.c.id,
      postgresql_where=tasks.c.state == "pending")  # fmt: skip
# beat, finish and give_back: the task of a lease. Partial, so that claiming changes no key that
# other tables refer to: an enqueue that shares the task does not hold up a claim.
Index("tasks_lease_id_idx", tasks.c.lease_id, unique=True,
      postgresql_where=tasks.c.lease_id.is_not(None))  # fmt: skip
# progress: what will not be measured unasked; with the others that are not done, few in the end.
Index("tasks_out_idx", tasks.c.engine_id,
      postgresql_where=text("state in ('quarantined', 'excluded')"))  # fmt: skip
# reap, progress: the leases, which may have expired.
Index("tasks_reap_idx", tasks.c.lease_expires_at, postgresql_where=tasks.c.state == "leased")

campaign_tasks = Table(
    "campaign_tasks",
    metadata,
    Column("campaign_id", ForeignKey(campaigns.c.id), primary_key=True, comment="the campaign"),
    Column("task_id", ForeignKey(tasks.c.id), primary_key=True, comment="a task of it"),
    Index("campaign_tasks_task_id_idx", "task_id"),
    comment="Which tasks a campaign asks for; a task measured in one counts in every other",
)

exclusions = Table(
    "exclusions",
    metadata,
    Column("campaign_id", ForeignKey(campaigns.c.id), primary_key=True, comment="the campaign"),
    string("engine", "engine in words"),
    Column("ordinal", sa.Integer, primary_key=True, comment="order within the campaign"),
    string("workload", "workload in words; NULL where the whole engine cannot work", null=True),
    string("reason", "one word: memory, context_too_long, dtype, …"),
    string("detail", "the reason in figures"),
    integer("points", "grid points it stands for"),
    comment="Points that cannot work, with their reason: the grid has no silent holes",
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", UUID, primary_key=True, comment="chosen by the session"),
    Column("campaign_id", ForeignKey(campaigns.c.id), nullable=False, comment="run for"),
    Column("engine_id", ForeignKey(engines.c.id), nullable=False, comment="engine it holds"),
    string("host", "host name"),
    string("boot", "boot id and process namespace of the host: tells a reused pid apart"),
    integer("pid", "process of the session"),
    double("pid_started_s", "start of that process, seconds since boot", null=False),
    strings("gpu_uuids", "GPUs of its group"),
    string("meter", "meters that were read"),
    string("reality", "real or simulated"),
    moment("started_at", "when the session began", now=True),
    moment("ended_at", "when it ended"),
    string("outcome", "ended, failed or lost; NULL while it lives", null=True),
    string("error", "why it failed, with traceback", null=True),
    string("stderr_tail", "last 16 KB of the engine's stderr", null=True),
    document("resolved", "the engine's own complete configuration after defaults"),
    document("software", "package versions, driver, kernel"),
    integer("engine_pid", "process that computes", null=True),
    one_of("reality", Reality),
    CheckConstraint("outcome in ('ended', 'failed', 'lost')", name="outcome"),
    CheckConstraint("(outcome is null) = (ended_at is null)", name="ended_has_outcome"),
    comment="One loaded engine on concrete boards",
)

attempts = Table(
    "attempts",
    metadata,
    surrogate_key(sa.BigInteger),
    Column("task_id", ForeignKey(tasks.c.id), nullable=False, comment="task it tries"),
    integer("number", "from 1 within the task"),
    Column("lease_id", UUID, nullable=False, comment="writer's token, chosen by the claimant"),
    Column("session_id", ForeignKey(sessions.c.id), nullable=False, comment="who tried"),
    moment("opened_at", "when it was claimed", now=True),
    moment("closed_at", "when its outcome was written"),
    string("outcome", "ok, faulted, lost, invalid, released, superseded; NULL while open",
           null=True),
    string("kind", "kind of fault or loss, or the gate that voided it", null=True),
    string("error", "traceback or the gate's words", null=True),
    integer("warmup_batches", "warm-up batches as done", null=True),
    strings("marks", "gates that marked, not voided, the measurement"),
    moment("voided_at", "when people voided the accepted result"),
    string("void_reason", "why they did", null=True),
    Column("result_lease_id", UUID,
           sa.Computed("case when outcome = 'ok' and voided_at is null then lease_id end",
                    persisted=True),
           comment="lease_id as long as it is accepted: what a done task refers to"),
    UniqueConstraint("task_id", "number"),
    UniqueConstraint("lease_id"),
    UniqueConstraint("result_lease_id"),
    one_of("outcome", Outcome),
    CheckConstraint("(outcome is null) = (closed_at is null)", name="closed_has_outcome"),
    CheckConstraint("outcome not in ('faulted', 'lost', 'invalid') or kind is not null",
                    name="failed_has_kind"),
    CheckConstraint("(voided_at is null) = (void_reason is null)", name="void_has_reason"),
    CheckConstraint("voided_at is null or outcome is not distinct from 'ok'",
                    name="only_ok_is_voided"),
    comment="One try of a task; an accepted one (ok, not voided) is its result",
)  # fmt: skip
# A task has at most one accepted result and at most one open attempt.
Index("attempts_accepted_idx", attempts.c.task_id, unique=True,
      postgresql_where=text("outcome = 'ok' and voided_at is null"))  # fmt: skip
Index("attempts_open_idx", attempts.c.task_id, unique=True,
      postgresql_where=text("outcome is null"))  # fmt: skip

windows = Table(
    "windows",
    metadata,
    surrogate_key(sa.BigInteger),
    Column("session_id", ForeignKey(sessions.c.id), nullable=False, comment="measured in"),
    Column("attempt_id", ForeignKey(attempts.c.id), comment="measured for; NULL for idle and load"),
    string("kind", "repeat, prefill (prompts only), idle_empty, load, idle_resident or idle_end"),
    integer("ordinal", "order within the attempt or session, from 0"),
    Column("started_at", TIMESTAMP(timezone=True), nullable=False, comment="start of the window"),
    large("started_ns", "the same, CLOCK_MONOTONIC ns"),
    double("duration_s", "length as done, seconds", null=False),
    integer("batches", "batches generated"),
    integer("requests", "requests finished"),
    counter("straddling", "requests across a window's edge: only their tokens inside it count"),
    double("running_mean", "requests computed together, averaged over the engine's steps"),
    large("input_tokens", "prompt tokens, by token ids"),
    large("output_tokens", "generated tokens, by token ids"),
    double("ttft_s", "time to first token, mean over requests, seconds"),
    double("itl_s", "inter-token latency, mean over requests, seconds"),
    double("e2e_s", "arrival to last token, mean over requests, seconds"),
    large("prefix_cache_hit_tokens", "prompt tokens served from the cache", null=True),
    document("counters", "the engine's own counters by its own names, counted over the window"),
    document("latencies", 'percentiles under load, seconds: {"ttft_s": {"p50": …}, …}'),
    string("reality", "real or simulated"),
    double("energy_j", "measured energy of the board group, joules; NULL with a reason"),
    string("energy_method", "nvml_counter, nvml_integrated, rapl or roofline", null=True),
    double("timing_uncertainty_j", "95 % half-width of tick, edges and sampling, joules"),
    double("sensor_accuracy",
           "relative 95 % accuracy of the sensors, as calibrated; NULL: not documented"),
    double("energy_estimated_j", "modelled, not measured, energy of the board or host, joules"),
    string("estimate_method", "who modelled it", null=True),
    double("cpu_package_j", "CPU packages of the host, joules"),
    double("cpu_dram_j", "DRAM of the host, joules"),
    strings("reasons", "why a value is missing or weak"),
    UniqueConstraint("attempt_id", "ordinal"),
    one_of("kind", WindowKind),
    one_of("reality", Reality),
    CheckConstraint("(attempt_id is not null) = (kind in ('repeat', 'prefill'))",
                    name="repeat_has_attempt"),
    CheckConstraint("energy_j is not null or cardinality(reasons) > 0", name="missing_has_reason"),
    CheckConstraint("(energy_j is null) = (energy_method is null)", name="energy_has_method"),
    CheckConstraint("(energy_estimated_j is null) or (estimate_method is not null)",
                    name="estimate_has_method"),
    CheckConstraint("sensor_accuracy > 0 and sensor_accuracy < 1", name="accuracy_is_relative"),
    CheckConstraint("duration_s > 0", name="positive_duration"),
    CheckConstraint("energy_j > 0 and energy_j < 'Infinity'", name="energy_is_measured"),
    CheckConstraint("energy_estimated_j > 0 and energy_estimated_j < 'Infinity'",
                    name="estimate_is_finite"),
    CheckConstraint("batches >= 0 and requests >= 0 and input_tokens >= 0 and output_tokens >= 0"
                    " and straddling >= 0 and running_mean >= 0", name="counts"),
    Index("windows_session_id_idx", "session_id"),
    comment="One metered interval with the work done in it",
)  # fmt: skip
# A session's own window is written once, however often its statement is sent.
Index("windows_session_kind_ordinal_idx", windows.c.session_id, windows.c.kind,
      windows.c.ordinal, unique=True, postgresql_where=windows.c.attempt_id.is_(None))  # fmt: skip
# What is no repeat on real boards: few, so a question about all GPUs need not join all windows.
Index("windows_unusual_idx", windows.c.id, postgresql_include=["kind", "reality"],
      postgresql_where=text("kind <> 'repeat' or reality <> 'real'"))  # fmt: skip
# Which session and attempt a repeat is of, for a question about all GPUs. Every id is over 0, but
# nothing is planned with it that does not ask for that: not the triggers, whose plans are made
# while the store may be empty, and which would read all of it for every attempt.
Index("windows_repeats_idx", windows.c.id, postgresql_include=["session_id", "attempt_id"],
      postgresql_where=text("kind = 'repeat' and id > 0"))  # fmt: skip

gpu_energies = Table(
    "gpu_energies",
    metadata,
    Column("window_id", ForeignKey(windows.c.id), primary_key=True, comment="the window"),
    Column("gpu_uuid", sa.Text, primary_key=True, comment="GPU by UUID"),
    integer("gpu_index", "NVML index at the time"),
    string("name", "NVML product name"),
    Column("sibling", sa.Boolean, nullable=False,
           comment="outside the measured group, never part of a sum"),
    double("energy_j", "energy in the window, joules"),
    string("method", "counter or integrated", null=True),
    double("counter_j", "by the energy counter, joules"),
    double("integrated_j", "by power samples, joules"),
    double("ratio", "counter over integral"),
    double("timing_uncertainty_j", "95 % half-width of energy_j: tick, edges, sampling, joules"),
    double("integrated_uncertainty_j", "95 % half-width of integrated_j, joules"),
    double("sensor_accuracy",
           "relative 95 % accuracy of this sensor, as calibrated; NULL: not documented"),
    double("mean_w", "mean power, watts"),
    double("max_w", "largest sample, watts"),
    integer("samples", "power samples in the window"),
    string("power_field", "NVML field read: instant, average (1 s) or legacy", null=True),
    double("sensor_period_s", "how often that field changed, seconds"),
    double("power_limit_w", "enforced power limit, watts"),
    double("temperature_c", "GPU temperature, degrees Celsius"),
    double("sm_clock_mhz", "SM clock, MHz"),
    double("memory_clock_mhz", "memory clock, MHz"),
    double("utilization_pct", "share of time with a kernel running, percent"),
    strings("throttle_reasons", "NVML clock event reasons seen"),
    strings("reasons", "why a value is missing or weak"),
    comment="One GPU in one window",
)  # fmt: skip

phases = Table(
    "phases",
    metadata,
    Column("window_id", ForeignKey(windows.c.id), primary_key=True, comment="the repeat"),
    Column("phase", sa.Text, primary_key=True, comment="prefill, mixed or decode"),
    Column("method", sa.Text, primary_key=True,
           comment="steps: by the engine's time stamps; prefill_run: against prefill-only windows"),
    double("duration_s", "length over all batches of the window, seconds; NULL with a reason"),
    double("energy_j", "energy of the board group in it, joules; NULL with a reason"),
    double("timing_uncertainty_j", "95 % half-width of the phase's edges and sampling, joules"),
    large("tokens", "tokens of the phase: prompt tokens in prefill, generated tokens after the "
          "first in decode; NULL where a part of it was mixed", null=True),
    strings("reasons", "why a value is missing, or holds a part of the phase only"),
    one_of("phase", Phase),
    one_of("method", PhaseMethod),
    CheckConstraint("energy_j is not null or cardinality(reasons) > 0", name="missing_has_reason"),
    CheckConstraint("energy_j > 0 and energy_j < 'Infinity'", name="energy_is_measured"),
    CheckConstraint("energy_j is null or duration_s > 0", name="energy_has_duration"),
    CheckConstraint("tokens is null or tokens > 0", name="tokens_are_counted"),
    comment="One phase of a repeat's batches, by one method",
)  # fmt: skip

power_traces = Table(
    "power_traces",
    metadata,
    Column("window_id", ForeignKey(windows.c.id), primary_key=True, comment="the window"),
    Column("gpu_uuid", sa.Text, primary_key=True, comment="GPU by UUID"),
    Column("offsets_s", ARRAY(REAL), nullable=False, comment="seconds since the window's start"),
    Column("watts", ARRAY(REAL), nullable=False, comment="power samples, watts"),
    comment="Power samples of one GPU in one window",
)
