"""The tables of the store: the only source of its DDL. Every column says its unit.

Rules of the states are constraints here as well as statements in leases.sql. Rows are facts:
an attempt or window is never deleted; a voided result stays, marked.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP, UUID

from db.readings import Phase, PhaseMethod, WindowKind
from db.records import Outcome, Reality, TaskState, Weights

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)
EMPTY = text("'{}'")


def _one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    """Return the check that a text column holds a value of the enum."""
    values = ", ".join(f"'{s}'" for s in states)
    return CheckConstraint(f"{column} in ({values})", name=column)


def _id(kind: type[sa.Integer]) -> Column[Any]:
    return Column("id", kind, sa.Identity(always=True), primary_key=True, comment="surrogate key")


def _text(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return Column(name, sa.Text, nullable=null, comment=comment)


def _float(name: str, comment: str, *, null: bool = True) -> Column[Any]:
    return Column(name, sa.Double, nullable=null, comment=comment)


def _integer(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return Column(name, sa.Integer, nullable=null, comment=comment)


def _time(name: str, comment: str, *, now: bool = False) -> Column[Any]:
    default = sa.func.now() if now else None
    kind = TIMESTAMP(timezone=True)
    return Column(name, kind, nullable=not now, server_default=default, comment=comment)


def _texts(name: str, comment: str) -> Column[Any]:
    return Column(name, ARRAY(sa.Text), nullable=False, server_default=EMPTY, comment=comment)


def _json(name: str, comment: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=EMPTY, comment=comment)


def _large(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return Column(name, sa.BigInteger, nullable=null, comment=comment)


def _count(name: str, comment: str) -> Column[Any]:
    return Column(name, sa.Integer, nullable=False, server_default="0", comment=comment)


campaigns = Table(
    "campaigns",
    metadata,
    _id(sa.Integer),
    _text("name", "what people call it"),
    _text("owner", "who created it"),
    _time("created_at", "when it was created", now=True),
    _text("config", "resolved configuration of the latest run, YAML, without secrets"),
    Column("grid", JSONB(none_as_null=True), comment="what it was expanded from; engines"),
    UniqueConstraint("name"),
    comment="A named, owned set of tasks",
)

engines = Table(
    "engines",
    metadata,
    _id(sa.Integer),
    _text("digest", "SHA-256 of everything of the engine that is measured"),
    _text("model", "model name, a hub id where one exists"),
    _text("model_commit", "hub commit or folder digest of real weights", null=True),
    _text("weights", "real or random (drawn like a real initialisation)"),
    _json("architecture", "config.json content that defines the shape"),
    _text("backend", "vllm, transformers or simulated"),
    _text("backend_version", "version the configuration pins; NULL takes what is installed",
          null=True),
    _text("dtype", "computation type of weights and activations"),
    _text("quantization", "weight quantization method", null=True),
    _integer("tensor_parallel", "tensor parallel size, in GPUs"),
    _integer("threads", "CPU threads the engine may compute with", null=True),
    _text("board", "slug of the board it runs on"),
    _integer("board_count", "boards that work as one group"),
    _json("options", "backend flags by their own names"),
    Column("mode", sa.Text, nullable=False, server_default="offline",
           comment="offline, or online: a server's engine, which takes requests as it computes"),
    _text("speculation", "draft_model or ngram; NULL without", null=True),
    _integer("speculative_tokens", "tokens that are looked ahead", null=True),
    Column("draft", JSONB(none_as_null=True), comment="draft: name, weights, commit, architecture"),
    _float("power_limit_w", "declared and verified, never set, watts; NULL takes it as it is"),
    UniqueConstraint("digest"),
    _one_of("weights", Weights),
    CheckConstraint("mode in ('offline', 'online')", name="mode"),
    CheckConstraint("tensor_parallel > 0 and board_count > 0 and speculative_tokens > 0"
                    " and power_limit_w > 0", name="sizes"),
    comment="A model in a backend on a board group: what is loaded once",
)  # fmt: skip

protocols = Table(
    "protocols",
    metadata,
    _id(sa.Integer),
    _text("digest", "SHA-256 of its numbers"),
    _text("name", "what the configuration calls it"),
    _json("numbers", "the protocol as asked for: window_s, repeats, warm-up, interval target"),
    UniqueConstraint("digest"),
    comment="How tasks are measured, as configured; what was done is stored per attempt",
)

tasks = Table(
    "tasks",
    metadata,
    _id(sa.BigInteger),
    _text("key", "v1: and the SHA-256 of everything measured"),
    Column("engine_id", ForeignKey(engines.c.id), nullable=False, comment="engine to run on"),
    Column("protocol_id", ForeignKey(protocols.c.id), nullable=False, comment="how to measure"),
    _integer("input_tokens", "prompt length, tokens per request"),
    _integer("output_tokens", "generated length, tokens per request"),
    _integer("batch_size", "requests handed over at once, or computed at a time"),
    _json("workload", "what else the workload asks for, by field name; a field that is not there "
          "has its default"),
    _text("reality", "real, simulated or external"),
    _integer("replicate", "the same point again in another session, from 0"),
    _integer("ordinal", "order within the engine"),
    Column("state", sa.Text, nullable=False, server_default=TaskState.PENDING.value,
           comment="pending, leased, done, quarantined or excluded"),
    _text("reason", "why it is quarantined or excluded", null=True),
    _time("not_before", "not claimed earlier, after a fault"),
    Column("lease_id", UUID,
           comment="the fence: lease of the newest attempt, as long as that may still finish"),
    _time("lease_expires_at", "when others may reap the lease"),
    Column("result_lease_id", UUID,
           sa.Computed("case when state = 'done' then lease_id end", persisted=True),
           comment="lease_id once it is done: there is no done task without an accepted attempt"),
    _count("attempts", "attempts opened"),
    _count("faults", "faulted attempts"),
    _count("losses", "lost attempts"),
    _count("invalids", "voided attempts"),
    UniqueConstraint("key"),
    _one_of("state", TaskState),
    _one_of("reality", Reality),
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
# reap: the leases that may have expired.
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
    _text("engine", "engine in words"),
    Column("ordinal", sa.Integer, primary_key=True, comment="order within the campaign"),
    _text("workload", "workload in words; NULL where the whole engine cannot work", null=True),
    _text("reason", "one word: memory, context_too_long, dtype, …"),
    _text("detail", "the reason in figures"),
    _integer("points", "grid points it stands for"),
    comment="Points that cannot work, with their reason: the grid has no silent holes",
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", UUID, primary_key=True, comment="chosen by the session"),
    Column("campaign_id", ForeignKey(campaigns.c.id), nullable=False, comment="run for"),
    Column("engine_id", ForeignKey(engines.c.id), nullable=False, comment="engine it holds"),
    _text("host", "host name"),
    _text("boot", "boot id and process namespace of the host: tells a reused pid apart"),
    _integer("pid", "process of the session"),
    _float("pid_started_s", "start of that process, seconds since boot", null=False),
    _texts("gpu_uuids", "GPUs of its group"),
    _text("meter", "meters that were read"),
    _text("reality", "real or simulated"),
    _time("started_at", "when the session began", now=True),
    _time("ended_at", "when it ended"),
    _text("outcome", "ended, failed or lost; NULL while it lives", null=True),
    _text("error", "why it failed, with traceback", null=True),
    _text("stderr_tail", "last 16 KB of the engine's stderr", null=True),
    _json("resolved", "the engine's own complete configuration after defaults"),
    _json("software", "package versions, driver, kernel"),
    _integer("engine_pid", "process that computes", null=True),
    _one_of("reality", Reality),
    CheckConstraint("outcome in ('ended', 'failed', 'lost')", name="outcome"),
    CheckConstraint("(outcome is null) = (ended_at is null)", name="ended_has_outcome"),
    comment="One loaded engine on concrete boards",
)

attempts = Table(
    "attempts",
    metadata,
    _id(sa.BigInteger),
    Column("task_id", ForeignKey(tasks.c.id), nullable=False, comment="task it tries"),
    _integer("number", "from 1 within the task"),
    Column("lease_id", UUID, nullable=False, comment="writer's token, chosen by the claimant"),
    Column("session_id", ForeignKey(sessions.c.id), nullable=False, comment="who tried"),
    _time("opened_at", "when it was claimed", now=True),
    _time("closed_at", "when its outcome was written"),
    _text("outcome", "ok, faulted, lost, invalid, released, superseded; NULL while open",
          null=True),
    _text("kind", "kind of fault or loss, or the gate that voided it", null=True),
    _text("error", "traceback or the gate's words", null=True),
    _integer("warmup_batches", "warm-up batches as done", null=True),
    _texts("marks", "gates that marked, not voided, the measurement"),
    _time("voided_at", "when people voided the accepted result"),
    _text("void_reason", "why they did", null=True),
    Column("result_lease_id", UUID,
           sa.Computed("case when outcome = 'ok' and voided_at is null then lease_id end",
                    persisted=True),
           comment="lease_id as long as it is accepted: what a done task refers to"),
    UniqueConstraint("task_id", "number"),
    UniqueConstraint("lease_id"),
    UniqueConstraint("result_lease_id"),
    _one_of("outcome", Outcome),
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
    _id(sa.BigInteger),
    Column("session_id", ForeignKey(sessions.c.id), nullable=False, comment="measured in"),
    Column("attempt_id", ForeignKey(attempts.c.id), comment="measured for; NULL for idle and load"),
    _text("kind", "repeat, prefill (prompts only), idle_empty, load, idle_resident or idle_end"),
    _integer("ordinal", "order within the attempt or session, from 0"),
    Column("started_at", TIMESTAMP(timezone=True), nullable=False, comment="start of the window"),
    _large("started_ns", "the same, CLOCK_MONOTONIC ns"),
    _float("duration_s", "length as done, seconds", null=False),
    _integer("batches", "batches generated"),
    _integer("requests", "requests finished"),
    _count("straddling", "requests across a window's edge: only their tokens inside it count"),
    _float("running_mean", "requests computed together, averaged over the engine's steps"),
    _large("input_tokens", "prompt tokens, by token ids"),
    _large("output_tokens", "generated tokens, by token ids"),
    _float("ttft_s", "time to first token, mean over requests, seconds"),
    _float("itl_s", "inter-token latency, mean over requests, seconds"),
    _float("e2e_s", "arrival to last token, mean over requests, seconds"),
    _large("prefix_cache_hit_tokens", "prompt tokens served from the cache", null=True),
    _json("counters", "the engine's own counters by its own names, counted over the window"),
    _json("latencies", 'percentiles under load, seconds: {"ttft_s": {"p50": …}, …}'),
    _text("reality", "real or simulated"),
    _float("energy_j", "measured energy of the board group, joules; NULL with a reason"),
    _text("energy_method", "nvml_counter, nvml_integrated, rapl or roofline", null=True),
    _float("timing_uncertainty_j", "95 % half-width of tick, edges and sampling, joules"),
    _float("sensor_accuracy",
           "relative 95 % accuracy of the sensors, as calibrated; NULL: not documented"),
    _float("energy_estimated_j", "modelled, not measured, energy of the board or host, joules"),
    _text("estimate_method", "who modelled it", null=True),
    _float("cpu_package_j", "CPU packages of the host, joules"),
    _float("cpu_dram_j", "DRAM of the host, joules"),
    _texts("reasons", "why a value is missing or weak"),
    UniqueConstraint("attempt_id", "ordinal"),
    _one_of("kind", WindowKind),
    _one_of("reality", Reality),
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

gpu_energies = Table(
    "gpu_energies",
    metadata,
    Column("window_id", ForeignKey(windows.c.id), primary_key=True, comment="the window"),
    Column("gpu_uuid", sa.Text, primary_key=True, comment="GPU by UUID"),
    _integer("gpu_index", "NVML index at the time"),
    _text("name", "NVML product name"),
    Column("sibling", sa.Boolean, nullable=False,
           comment="outside the measured group, never part of a sum"),
    _float("energy_j", "energy in the window, joules"),
    _text("method", "counter or integrated", null=True),
    _float("counter_j", "by the energy counter, joules"),
    _float("integrated_j", "by power samples, joules"),
    _float("ratio", "counter over integral"),
    _float("timing_uncertainty_j", "95 % half-width of energy_j: tick, edges, sampling, joules"),
    _float("integrated_uncertainty_j", "95 % half-width of integrated_j, joules"),
    _float("sensor_accuracy",
           "relative 95 % accuracy of this sensor, as calibrated; NULL: not documented"),
    _float("mean_w", "mean power, watts"),
    _float("max_w", "largest sample, watts"),
    _integer("samples", "power samples in the window"),
    _text("power_field", "NVML field read: instant, average (1 s) or legacy", null=True),
    _float("sensor_period_s", "how often that field changed, seconds"),
    _float("power_limit_w", "enforced power limit, watts"),
    _float("temperature_c", "GPU temperature, degrees Celsius"),
    _float("sm_clock_mhz", "SM clock, MHz"),
    _float("memory_clock_mhz", "memory clock, MHz"),
    _float("utilization_pct", "share of time with a kernel running, percent"),
    _texts("throttle_reasons", "NVML clock event reasons seen"),
    _texts("reasons", "why a value is missing or weak"),
    comment="One GPU in one window",
)  # fmt: skip

phases = Table(
    "phases",
    metadata,
    Column("window_id", ForeignKey(windows.c.id), primary_key=True, comment="the repeat"),
    Column("phase", sa.Text, primary_key=True, comment="prefill, mixed or decode"),
    Column("method", sa.Text, primary_key=True,
           comment="steps: by the engine's time stamps; prefill_run: against prefill-only windows"),
    _float("duration_s", "length over all batches of the window, seconds; NULL with a reason"),
    _float("energy_j", "energy of the board group in it, joules; NULL with a reason"),
    _float("timing_uncertainty_j", "95 % half-width of the phase's edges and sampling, joules"),
    _large("tokens", "tokens of the phase: prompt tokens in prefill, generated tokens after the "
           "first in decode; NULL where a part of it was mixed", null=True),
    _texts("reasons", "why a value is missing, or holds a part of the phase only"),
    _one_of("phase", Phase),
    _one_of("method", PhaseMethod),
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
