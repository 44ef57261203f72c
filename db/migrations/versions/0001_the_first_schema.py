"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "campaigns",
        sa.Column(
            "id", sa.Integer(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="what people call it"),
        sa.Column("owner", sa.Text(), nullable=False, comment="who created it"),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was created",
        ),
        sa.Column(
            "config",
            sa.Text(),
            nullable=False,
            comment="resolved configuration of the latest run, YAML, without secrets",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("campaigns_pkey")),
        sa.UniqueConstraint("name", name=op.f("campaigns_name_key")),
        comment="A named, owned set of tasks",
    )
    op.create_table(
        "engines",
        sa.Column(
            "id", sa.Integer(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="SHA-256 of everything of the engine that is measured",
        ),
        sa.Column(
            "model", sa.Text(), nullable=False, comment="model name, a hub id where one exists"
        ),
        sa.Column(
            "model_commit",
            sa.Text(),
            nullable=True,
            comment="hub commit or folder digest of real weights",
        ),
        sa.Column(
            "weights",
            sa.Text(),
            nullable=False,
            comment="real or random (drawn like a real initialisation)",
        ),
        sa.Column(
            "architecture",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="config.json content that defines the shape",
        ),
        sa.Column("backend", sa.Text(), nullable=False, comment="vllm, transformers or simulated"),
        sa.Column(
            "backend_version",
            sa.Text(),
            nullable=True,
            comment="version the configuration pins; NULL takes what is installed",
        ),
        sa.Column(
            "dtype",
            sa.Text(),
            nullable=False,
            comment="computation type of weights and activations",
        ),
        sa.Column("quantization", sa.Text(), nullable=True, comment="weight quantization method"),
        sa.Column(
            "tensor_parallel", sa.Integer(), nullable=False, comment="tensor parallel size, in GPUs"
        ),
        sa.Column(
            "threads",
            sa.Integer(),
            nullable=True,
            comment="CPU threads the engine may compute with",
        ),
        sa.Column("board", sa.Text(), nullable=False, comment="slug of the board it runs on"),
        sa.Column(
            "board_count", sa.Integer(), nullable=False, comment="boards that work as one group"
        ),
        sa.Column(
            "options",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="backend flags by their own names",
        ),
        sa.CheckConstraint("weights in ('real', 'random')", name=op.f("engines_weights_check")),
        sa.CheckConstraint(
            "tensor_parallel > 0 and board_count > 0", name=op.f("engines_sizes_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("engines_pkey")),
        sa.UniqueConstraint("digest", name=op.f("engines_digest_key")),
        comment="A model in a backend on a board group: what is loaded once",
    )
    op.create_table(
        "protocols",
        sa.Column(
            "id", sa.Integer(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of its numbers"),
        sa.Column("name", sa.Text(), nullable=False, comment="what the configuration calls it"),
        sa.Column(
            "numbers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="the protocol as asked for: window_s, repeats, warm-up, interval target",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("protocols_pkey")),
        sa.UniqueConstraint("digest", name=op.f("protocols_digest_key")),
        comment="How tasks are measured, as configured; what was done is stored per attempt",
    )
    op.create_table(
        "exclusions",
        sa.Column("campaign_id", sa.Integer(), nullable=False, comment="the campaign"),
        sa.Column("engine", sa.Text(), nullable=False, comment="engine in words"),
        sa.Column("ordinal", sa.Integer(), nullable=False, comment="order within the campaign"),
        sa.Column(
            "workload",
            sa.Text(),
            nullable=True,
            comment="workload in words; NULL where the whole engine cannot work",
        ),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=False,
            comment="one word: memory, context_too_long, dtype, …",
        ),
        sa.Column("detail", sa.Text(), nullable=False, comment="the reason in figures"),
        sa.Column("points", sa.Integer(), nullable=False, comment="grid points it stands for"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("exclusions_campaign_id_fkey")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "ordinal", name=op.f("exclusions_pkey")),
        comment="Points that cannot work, with their reason: the grid has no silent holes",
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.UUID(), nullable=False, comment="chosen by the session"),
        sa.Column("campaign_id", sa.Integer(), nullable=False, comment="run for"),
        sa.Column("engine_id", sa.Integer(), nullable=False, comment="engine it holds"),
        sa.Column("host", sa.Text(), nullable=False, comment="host name"),
        sa.Column(
            "boot",
            sa.Text(),
            nullable=False,
            comment="boot id and process namespace of the host: tells a reused pid apart",
        ),
        sa.Column("pid", sa.Integer(), nullable=False, comment="process of the session"),
        sa.Column(
            "pid_started_s",
            sa.Double(),
            nullable=False,
            comment="start of that process, seconds since boot",
        ),
        sa.Column(
            "gpu_uuids",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="GPUs of its group",
        ),
        sa.Column("meter", sa.Text(), nullable=False, comment="meters that were read"),
        sa.Column("reality", sa.Text(), nullable=False, comment="real or simulated"),
        sa.Column(
            "started_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the session began",
        ),
        sa.Column(
            "ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="when it ended"
        ),
        sa.Column(
            "outcome",
            sa.Text(),
            nullable=True,
            comment="ended, failed or lost; NULL while it lives",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed, with traceback"),
        sa.Column(
            "stderr_tail", sa.Text(), nullable=True, comment="last 16 KB of the engine's stderr"
        ),
        sa.Column(
            "resolved",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="the engine's own complete configuration after defaults",
        ),
        sa.Column(
            "software",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="package versions, driver, kernel",
        ),
        sa.Column("engine_pid", sa.Integer(), nullable=True, comment="process that computes"),
        sa.CheckConstraint(
            "outcome in ('ended', 'failed', 'lost')", name=op.f("sessions_outcome_check")
        ),
        sa.CheckConstraint(
            "reality in ('real', 'simulated', 'external')", name=op.f("sessions_reality_check")
        ),
        sa.CheckConstraint(
            "(outcome is null) = (ended_at is null)", name=op.f("sessions_ended_has_outcome_check")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("sessions_campaign_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["engine_id"], ["engines.id"], name=op.f("sessions_engine_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pkey")),
        comment="One loaded engine on concrete boards",
    )
    op.create_table(
        "tasks",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column(
            "key", sa.Text(), nullable=False, comment="v1: and the SHA-256 of everything measured"
        ),
        sa.Column("engine_id", sa.Integer(), nullable=False, comment="engine to run on"),
        sa.Column("protocol_id", sa.Integer(), nullable=False, comment="how to measure"),
        sa.Column(
            "input_tokens",
            sa.Integer(),
            nullable=False,
            comment="prompt length, tokens per request",
        ),
        sa.Column(
            "output_tokens",
            sa.Integer(),
            nullable=False,
            comment="generated length, tokens per request",
        ),
        sa.Column(
            "batch_size", sa.Integer(), nullable=False, comment="requests handed over at once"
        ),
        sa.Column("reality", sa.Text(), nullable=False, comment="real, simulated or external"),
        sa.Column(
            "replicate",
            sa.Integer(),
            nullable=False,
            comment="the same point again in another session, from 0",
        ),
        sa.Column("ordinal", sa.Integer(), nullable=False, comment="order within the engine"),
        sa.Column(
            "state",
            sa.Text(),
            server_default="pending",
            nullable=False,
            comment="pending, leased, done, quarantined or excluded",
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is quarantined or excluded"),
        sa.Column(
            "not_before",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="not claimed earlier, after a fault",
        ),
        sa.Column(
            "lease_id",
            sa.UUID(),
            nullable=True,
            comment="the fence: lease of the newest attempt, as long as that may still finish",
        ),
        sa.Column(
            "lease_expires_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when others may reap the lease",
        ),
        sa.Column(
            "result_lease_id",
            sa.UUID(),
            sa.Computed("case when state = 'done' then lease_id end", persisted=True),
            nullable=True,
            comment="lease_id once it is done: there is no done task without an accepted attempt",
        ),
        sa.Column(
            "attempts", sa.Integer(), server_default="0", nullable=False, comment="attempts opened"
        ),
        sa.Column(
            "faults", sa.Integer(), server_default="0", nullable=False, comment="faulted attempts"
        ),
        sa.Column(
            "losses", sa.Integer(), server_default="0", nullable=False, comment="lost attempts"
        ),
        sa.Column(
            "invalids", sa.Integer(), server_default="0", nullable=False, comment="voided attempts"
        ),
        sa.CheckConstraint(
            "(state = 'leased') = (lease_expires_at is not null)",
            name=op.f("tasks_leased_has_expiry_check"),
        ),
        sa.CheckConstraint(
            "(state in ('quarantined', 'excluded')) = (reason is not null)",
            name=op.f("tasks_ended_has_reason_check"),
        ),
        sa.CheckConstraint(
            "not_before is null or state = 'pending'", name=op.f("tasks_only_pending_waits_check")
        ),
        sa.CheckConstraint(
            "reality in ('real', 'simulated', 'external')", name=op.f("tasks_reality_check")
        ),
        sa.CheckConstraint(
            "state in ('pending', 'leased', 'done', 'quarantined', 'excluded')",
            name=op.f("tasks_state_check"),
        ),
        sa.CheckConstraint(
            "state not in ('leased', 'done') or lease_id is not null",
            name=op.f("tasks_held_has_lease_check"),
        ),
        sa.CheckConstraint(
            "input_tokens > 0 and output_tokens > 0 and batch_size > 0",
            name=op.f("tasks_positive_sizes_check"),
        ),
        sa.ForeignKeyConstraint(["engine_id"], ["engines.id"], name=op.f("tasks_engine_id_fkey")),
        sa.ForeignKeyConstraint(
            ["protocol_id"], ["protocols.id"], name=op.f("tasks_protocol_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("tasks_pkey")),
        sa.UniqueConstraint("key", name=op.f("tasks_key_key")),
        comment="One engine x one workload x one replicate: the unit of lease, retry and result",
    )
    op.create_index(
        "tasks_claim_idx",
        "tasks",
        ["engine_id", "ordinal", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "tasks_lease_id_idx",
        "tasks",
        ["lease_id"],
        unique=True,
        postgresql_where=sa.text("lease_id IS NOT NULL"),
    )
    op.create_index(
        "tasks_reap_idx",
        "tasks",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_table(
        "attempts",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column("task_id", sa.BigInteger(), nullable=False, comment="task it tries"),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1 within the task"),
        sa.Column(
            "lease_id", sa.UUID(), nullable=False, comment="writer's token, chosen by the claimant"
        ),
        sa.Column("session_id", sa.UUID(), nullable=False, comment="who tried"),
        sa.Column(
            "opened_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was claimed",
        ),
        sa.Column(
            "closed_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when its outcome was written",
        ),
        sa.Column(
            "outcome",
            sa.Text(),
            nullable=True,
            comment="ok, faulted, lost, invalid, released, superseded; NULL while open",
        ),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=True,
            comment="kind of fault or loss, or the gate that voided it",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="traceback or the gate's words"),
        sa.Column("warmup_batches", sa.Integer(), nullable=True, comment="warm-up batches as done"),
        sa.Column(
            "marks",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="gates that marked, not voided, the measurement",
        ),
        sa.Column(
            "voided_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when people voided the accepted result",
        ),
        sa.Column("void_reason", sa.Text(), nullable=True, comment="why they did"),
        sa.Column(
            "result_lease_id",
            sa.UUID(),
            sa.Computed(
                "case when outcome = 'ok' and voided_at is null then lease_id end", persisted=True
            ),
            nullable=True,
            comment="lease_id as long as it is accepted: what a done task refers to",
        ),
        sa.CheckConstraint(
            "outcome in ('ok', 'faulted', 'lost', 'invalid', 'released', 'superseded')",
            name=op.f("attempts_outcome_check"),
        ),
        sa.CheckConstraint(
            "outcome not in ('faulted', 'lost', 'invalid') or kind is not null",
            name=op.f("attempts_failed_has_kind_check"),
        ),
        sa.CheckConstraint(
            "voided_at is null or outcome is not distinct from 'ok'",
            name=op.f("attempts_only_ok_is_voided_check"),
        ),
        sa.CheckConstraint(
            "(outcome is null) = (closed_at is null)",
            name=op.f("attempts_closed_has_outcome_check"),
        ),
        sa.CheckConstraint(
            "(voided_at is null) = (void_reason is null)",
            name=op.f("attempts_void_has_reason_check"),
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("attempts_session_id_fkey")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("attempts_task_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("attempts_pkey")),
        sa.UniqueConstraint("lease_id", name=op.f("attempts_lease_id_key")),
        sa.UniqueConstraint("result_lease_id", name=op.f("attempts_result_lease_id_key")),
        sa.UniqueConstraint("task_id", "number", name=op.f("attempts_task_id_number_key")),
        comment="One try of a task; an accepted one (ok, not voided) is its result",
    )
    op.create_index(
        "attempts_accepted_idx",
        "attempts",
        ["task_id"],
        unique=True,
        postgresql_where=sa.text("outcome = 'ok' and voided_at is null"),
    )
    op.create_index(
        "attempts_open_idx",
        "attempts",
        ["task_id"],
        unique=True,
        postgresql_where=sa.text("outcome is null"),
    )
    op.create_table(
        "campaign_tasks",
        sa.Column("campaign_id", sa.Integer(), nullable=False, comment="the campaign"),
        sa.Column("task_id", sa.BigInteger(), nullable=False, comment="a task of it"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("campaign_tasks_campaign_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("campaign_tasks_task_id_fkey")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "task_id", name=op.f("campaign_tasks_pkey")),
        comment="Which tasks a campaign asks for; a task measured in one counts in every other",
    )
    op.create_index("campaign_tasks_task_id_idx", "campaign_tasks", ["task_id"], unique=False)
    op.create_table(
        "windows",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column("session_id", sa.UUID(), nullable=False, comment="measured in"),
        sa.Column(
            "attempt_id",
            sa.BigInteger(),
            nullable=True,
            comment="repeat of; NULL for idle and load",
        ),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="repeat, idle_empty, load, idle_resident or idle_end",
        ),
        sa.Column(
            "ordinal",
            sa.Integer(),
            nullable=False,
            comment="order within the attempt or session, from 0",
        ),
        sa.Column(
            "started_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="start of the window",
        ),
        sa.Column(
            "started_ns", sa.BigInteger(), nullable=False, comment="the same, CLOCK_MONOTONIC ns"
        ),
        sa.Column("duration_s", sa.Double(), nullable=False, comment="length as done, seconds"),
        sa.Column("batches", sa.Integer(), nullable=False, comment="batches generated"),
        sa.Column("requests", sa.Integer(), nullable=False, comment="requests finished"),
        sa.Column(
            "input_tokens", sa.BigInteger(), nullable=False, comment="prompt tokens, by token ids"
        ),
        sa.Column(
            "output_tokens",
            sa.BigInteger(),
            nullable=False,
            comment="generated tokens, by token ids",
        ),
        sa.Column(
            "ttft_s",
            sa.Double(),
            nullable=True,
            comment="time to first token, mean over requests, seconds",
        ),
        sa.Column(
            "itl_s",
            sa.Double(),
            nullable=True,
            comment="inter-token latency, mean over requests, seconds",
        ),
        sa.Column(
            "e2e_s",
            sa.Double(),
            nullable=True,
            comment="arrival to last token, mean over requests, seconds",
        ),
        sa.Column(
            "prefix_cache_hit_tokens",
            sa.BigInteger(),
            nullable=True,
            comment="prompt tokens served from the cache",
        ),
        sa.Column("reality", sa.Text(), nullable=False, comment="real or simulated"),
        sa.Column(
            "energy_j",
            sa.Double(),
            nullable=True,
            comment="measured energy of the board group, joules; NULL with a reason",
        ),
        sa.Column(
            "energy_method",
            sa.Text(),
            nullable=True,
            comment="nvml_counter, nvml_integrated, rapl or roofline",
        ),
        sa.Column(
            "timing_uncertainty_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of tick, edges and sampling, joules",
        ),
        sa.Column(
            "energy_estimated_j",
            sa.Double(),
            nullable=True,
            comment="modelled, not measured, energy of the host, joules",
        ),
        sa.Column("estimate_method", sa.Text(), nullable=True, comment="who modelled it"),
        sa.Column(
            "cpu_package_j", sa.Double(), nullable=True, comment="CPU packages of the host, joules"
        ),
        sa.Column("cpu_dram_j", sa.Double(), nullable=True, comment="DRAM of the host, joules"),
        sa.Column(
            "reasons",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="why a value is missing or weak",
        ),
        sa.CheckConstraint(
            "(attempt_id is not null) = (kind = 'repeat')",
            name=op.f("windows_repeat_has_attempt_check"),
        ),
        sa.CheckConstraint(
            "energy_estimated_j > 0 and energy_estimated_j < 'Infinity'",
            name=op.f("windows_estimate_is_finite_check"),
        ),
        sa.CheckConstraint(
            "energy_j > 0 and energy_j < 'Infinity'", name=op.f("windows_energy_is_measured_check")
        ),
        sa.CheckConstraint(
            "kind in ('idle_empty', 'load', 'idle_resident', 'idle_end', 'repeat')",
            name=op.f("windows_kind_check"),
        ),
        sa.CheckConstraint(
            "reality in ('real', 'simulated', 'external')", name=op.f("windows_reality_check")
        ),
        sa.CheckConstraint(
            "(energy_estimated_j is null) or (estimate_method is not null)",
            name=op.f("windows_estimate_has_method_check"),
        ),
        sa.CheckConstraint(
            "(energy_j is null) = (energy_method is null)",
            name=op.f("windows_energy_has_method_check"),
        ),
        sa.CheckConstraint(
            "batches >= 0 and requests >= 0 and input_tokens >= 0 and output_tokens >= 0",
            name=op.f("windows_counts_check"),
        ),
        sa.CheckConstraint("duration_s > 0", name=op.f("windows_positive_duration_check")),
        sa.CheckConstraint(
            "energy_j is not null or cardinality(reasons) > 0",
            name=op.f("windows_missing_has_reason_check"),
        ),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("windows_attempt_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("windows_session_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("windows_pkey")),
        sa.UniqueConstraint("attempt_id", "ordinal", name=op.f("windows_attempt_id_ordinal_key")),
        comment="One metered interval with the work done in it",
    )
    op.create_index("windows_session_id_idx", "windows", ["session_id"], unique=False)
    op.create_index(
        "windows_session_kind_ordinal_idx",
        "windows",
        ["session_id", "kind", "ordinal"],
        unique=True,
        postgresql_where=sa.text("attempt_id IS NULL"),
    )
    op.create_table(
        "gpu_energies",
        sa.Column("window_id", sa.BigInteger(), nullable=False, comment="the window"),
        sa.Column("gpu_uuid", sa.Text(), nullable=False, comment="GPU by UUID"),
        sa.Column("gpu_index", sa.Integer(), nullable=False, comment="NVML index at the time"),
        sa.Column("name", sa.Text(), nullable=False, comment="NVML product name"),
        sa.Column(
            "sibling",
            sa.Boolean(),
            nullable=False,
            comment="outside the measured group, never part of a sum",
        ),
        sa.Column("energy_j", sa.Double(), nullable=True, comment="energy in the window, joules"),
        sa.Column("method", sa.Text(), nullable=True, comment="counter or integrated"),
        sa.Column("counter_j", sa.Double(), nullable=True, comment="by the energy counter, joules"),
        sa.Column("integrated_j", sa.Double(), nullable=True, comment="by power samples, joules"),
        sa.Column("ratio", sa.Double(), nullable=True, comment="counter over integral"),
        sa.Column(
            "timing_uncertainty_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of tick, edges and sampling, joules",
        ),
        sa.Column("mean_w", sa.Double(), nullable=True, comment="mean power, watts"),
        sa.Column("max_w", sa.Double(), nullable=True, comment="largest sample, watts"),
        sa.Column("samples", sa.Integer(), nullable=False, comment="power samples in the window"),
        sa.Column(
            "power_field",
            sa.Text(),
            nullable=True,
            comment="NVML field read: instant, average (1 s) or legacy",
        ),
        sa.Column(
            "power_limit_w", sa.Double(), nullable=True, comment="enforced power limit, watts"
        ),
        sa.Column(
            "temperature_c", sa.Double(), nullable=True, comment="GPU temperature, degrees Celsius"
        ),
        sa.Column("sm_clock_mhz", sa.Double(), nullable=True, comment="SM clock, MHz"),
        sa.Column("memory_clock_mhz", sa.Double(), nullable=True, comment="memory clock, MHz"),
        sa.Column(
            "utilization_pct",
            sa.Double(),
            nullable=True,
            comment="share of time with a kernel running, percent",
        ),
        sa.Column(
            "throttle_reasons",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="NVML clock event reasons seen",
        ),
        sa.Column(
            "reasons",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="why a value is missing or weak",
        ),
        sa.ForeignKeyConstraint(
            ["window_id"], ["windows.id"], name=op.f("gpu_energies_window_id_fkey")
        ),
        sa.PrimaryKeyConstraint("window_id", "gpu_uuid", name=op.f("gpu_energies_pkey")),
        comment="One GPU in one window",
    )
    op.create_table(
        "power_traces",
        sa.Column("window_id", sa.BigInteger(), nullable=False, comment="the window"),
        sa.Column("gpu_uuid", sa.Text(), nullable=False, comment="GPU by UUID"),
        sa.Column(
            "offsets_s",
            postgresql.ARRAY(sa.REAL()),
            nullable=False,
            comment="seconds since the window's start",
        ),
        sa.Column(
            "watts", postgresql.ARRAY(sa.REAL()), nullable=False, comment="power samples, watts"
        ),
        sa.ForeignKeyConstraint(
            ["window_id"], ["windows.id"], name=op.f("power_traces_window_id_fkey")
        ),
        sa.PrimaryKeyConstraint("window_id", "gpu_uuid", name=op.f("power_traces_pkey")),
        comment="Power samples of one GPU in one window",
    )
    op.create_foreign_key("tasks_lease_id_fkey", "tasks", "attempts", ["lease_id"], ["lease_id"])
    op.create_foreign_key(
        "tasks_result_lease_id_fkey", "tasks", "attempts", ["result_lease_id"], ["result_lease_id"]
    )


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
