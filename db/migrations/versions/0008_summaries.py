"""What the repeats of every attempt add up to, kept beside them by triggers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The owner's rights: whoever writes windows needs none on the copy. The view sums says what is in
# it; it is looked up when the function runs, and made anew at every upgrade.
KEEP = """
create function keep_summaries() returns trigger language plpgsql
security definer set search_path = {schema}, pg_temp as $$
declare
    touched bigint[] := array(select distinct attempt_id from written
                               where attempt_id is not null and kind = 'repeat');
begin
    if cardinality(touched) > 0 then
        delete from summaries where attempt_id = any(touched);
        insert into summaries select * from sums where attempt_id = any(touched);
    end if;
    return null;
end $$;
revoke execute on function keep_summaries() from public;
create trigger windows_summed_insert after insert on windows
    referencing new table as written for each statement execute function keep_summaries();
create trigger windows_summed_update after update on windows
    referencing new table as written for each statement execute function keep_summaries();
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "summaries",
        sa.Column("attempt_id", sa.BigInteger(), nullable=False, comment="the attempt"),
        sa.Column("repeats", sa.Integer(), nullable=False, comment="metered repeats"),
        sa.Column("simulated", sa.Boolean(), nullable=False, comment="one of them was simulated"),
        sa.Column(
            "measured_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="start of the first",
        ),
        sa.Column("duration_s", sa.Double(), nullable=True, comment="length of all, seconds"),
        sa.Column("requests", sa.BigInteger(), nullable=True, comment="requests finished"),
        sa.Column(
            "straddling",
            sa.BigInteger(),
            nullable=True,
            comment="requests across the edge of a repeat",
        ),
        sa.Column(
            "running_mean",
            sa.Double(),
            nullable=True,
            comment="requests computed together, mean of the repeats",
        ),
        sa.Column("input_tokens_total", sa.BigInteger(), nullable=True, comment="prompt tokens"),
        sa.Column(
            "output_tokens_total", sa.BigInteger(), nullable=True, comment="generated tokens"
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
            "energy_j",
            sa.Double(),
            nullable=True,
            comment="measured energy, joules; NULL where a repeat has none",
        ),
        sa.Column("energy_method", sa.Text(), nullable=True, comment="how it was measured"),
        sa.Column(
            "timing_uncertainty_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of edges and sampling, joules",
        ),
        sa.Column(
            "sensor_accuracy",
            sa.Double(),
            nullable=True,
            comment="relative 95 % accuracy of the sensors, weighted by joules",
        ),
        sa.Column(
            "energy_estimated_j", sa.Double(), nullable=True, comment="modelled energy, joules"
        ),
        sa.Column("estimate_method", sa.Text(), nullable=True, comment="who modelled it"),
        sa.Column(
            "cpu_package_j", sa.Double(), nullable=True, comment="CPU packages of the host, joules"
        ),
        sa.Column("cpu_dram_j", sa.Double(), nullable=True, comment="DRAM of the host, joules"),
        sa.Column(
            "half_width_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of the joules per output token, timing and spread of repeats",
        ),
        sa.Column(
            "reasons",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="why values of its windows are missing or weak",
        ),
        sa.Column(
            "latencies",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="percentiles, mean of the repeats, seconds",
        ),
        sa.Column(
            "counters",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the engine's counters, summed",
        ),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("summaries_attempt_id_fkey")
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("summaries_pkey")),
        comment="The repeats of one attempt, summed: kept by triggers, a copy of the view sums",
    )
    schema = op.get_bind().exec_driver_sql("select quote_ident(current_schema())").scalar_one()
    op.execute(KEEP.replace("{schema}", schema))


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
