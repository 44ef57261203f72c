"""What the meters say about their own accuracy, and energy by phase."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    _accuracy()
    _prefill_windows()
    _phases()


def _accuracy() -> None:
    """Add the uncertainty of the samples' integral, and what is known of the sensors."""
    op.add_column(
        "windows",
        sa.Column(
            "sensor_accuracy",
            sa.Double(),
            nullable=True,
            comment="relative 95 % accuracy of the sensors, as calibrated; NULL: not documented",
        ),
    )
    op.create_check_constraint(
        op.f("windows_accuracy_is_relative_check"),
        "windows",
        "sensor_accuracy > 0 and sensor_accuracy < 1",
    )
    op.alter_column(
        "windows",
        "energy_estimated_j",
        existing_type=sa.Double(),
        existing_nullable=True,
        comment="modelled, not measured, energy of the board or host, joules",
    )
    op.alter_column(
        "gpu_energies",
        "timing_uncertainty_j",
        existing_type=sa.Double(),
        existing_nullable=True,
        comment="95 % half-width of energy_j: tick, edges, sampling, joules",
    )
    op.add_column(
        "gpu_energies",
        sa.Column(
            "integrated_uncertainty_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of integrated_j, joules",
        ),
    )
    op.add_column(
        "gpu_energies",
        sa.Column(
            "sensor_accuracy",
            sa.Double(),
            nullable=True,
            comment="relative 95 % accuracy of this sensor, as calibrated; NULL: not documented",
        ),
    )
    op.add_column(
        "gpu_energies",
        sa.Column(
            "sensor_period_s",
            sa.Double(),
            nullable=True,
            comment="how often that field changed, seconds",
        ),
    )


def _prefill_windows() -> None:
    """Let a task have windows of prompts only."""
    for name, rule in {
        "kind": "kind in ('idle_empty', 'load', 'idle_resident', 'idle_end', 'repeat', 'prefill')",
        "repeat_has_attempt": "(attempt_id is not null) = (kind in ('repeat', 'prefill'))",
    }.items():
        op.drop_constraint(op.f(f"windows_{name}_check"), "windows", type_="check")
        op.create_check_constraint(op.f(f"windows_{name}_check"), "windows", rule)
    op.alter_column(
        "windows",
        "kind",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="repeat, prefill (prompts only), idle_empty, load, idle_resident or idle_end",
    )
    op.alter_column(
        "windows",
        "attempt_id",
        existing_type=sa.BigInteger(),
        existing_nullable=True,
        comment="measured for; NULL for idle and load",
    )


def _phases() -> None:
    """Add the energy of prefill-only, mixed and decode-only steps."""
    op.create_table(
        "phases",
        sa.Column("window_id", sa.BigInteger(), nullable=False, comment="the repeat"),
        sa.Column("phase", sa.Text(), nullable=False, comment="prefill, mixed or decode"),
        sa.Column(
            "method",
            sa.Text(),
            nullable=False,
            comment="steps: by the engine's time stamps; prefill_run: against prefill-only windows",
        ),
        sa.Column(
            "duration_s",
            sa.Double(),
            nullable=True,
            comment="length over all batches of the window, seconds; NULL with a reason",
        ),
        sa.Column(
            "energy_j",
            sa.Double(),
            nullable=True,
            comment="energy of the board group in it, joules; NULL with a reason",
        ),
        sa.Column(
            "timing_uncertainty_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of the phase's edges and sampling, joules",
        ),
        sa.Column(
            "tokens",
            sa.BigInteger(),
            nullable=True,
            comment="tokens of the phase: prompt tokens in prefill, generated tokens after the "
            "first in decode; NULL where a part of it was mixed",
        ),
        sa.Column(
            "reasons",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="why a value is missing, or holds a part of the phase only",
        ),
        sa.CheckConstraint(
            "phase in ('prefill', 'mixed', 'decode')", name=op.f("phases_phase_check")
        ),
        sa.CheckConstraint("method in ('steps', 'prefill_run')", name=op.f("phases_method_check")),
        sa.CheckConstraint(
            "energy_j is not null or cardinality(reasons) > 0",
            name=op.f("phases_missing_has_reason_check"),
        ),
        sa.CheckConstraint(
            "energy_j > 0 and energy_j < 'Infinity'", name=op.f("phases_energy_is_measured_check")
        ),
        sa.CheckConstraint(
            "energy_j is null or duration_s > 0", name=op.f("phases_energy_has_duration_check")
        ),
        sa.CheckConstraint(
            "tokens is null or tokens > 0", name=op.f("phases_tokens_are_counted_check")
        ),
        sa.ForeignKeyConstraint(["window_id"], ["windows.id"], name=op.f("phases_window_id_fkey")),
        sa.PrimaryKeyConstraint("window_id", "phase", "method", name=op.f("phases_pkey")),
        comment="One phase of a repeat's batches, by one method",
    )


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
