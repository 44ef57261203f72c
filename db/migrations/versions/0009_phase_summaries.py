"""What the phases of every attempt add up to, kept by triggers; what the planner knows of loads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The owner's rights: whoever writes phases needs none on the copy. The view phase_sums says what is
# in it; it is looked up when the function runs, and made anew at every upgrade.
KEEP = """
create function keep_phase_summaries() returns trigger language plpgsql
security definer set search_path = {schema}, pg_temp as $$
declare
    touched bigint[] := array(select distinct w.attempt_id
                                from written p join windows w on w.id = p.window_id
                               where w.attempt_id is not null);
begin
    if cardinality(touched) > 0 then
        delete from phase_summaries where attempt_id = any(touched);
        insert into phase_summaries select * from phase_sums where attempt_id = any(touched);
    end if;
    return null;
end $$;
revoke execute on function keep_phase_summaries() from public;
create trigger phases_summed_insert after insert on phases
    referencing new table as written for each statement execute function keep_phase_summaries();
create trigger phases_summed_update after update on phases
    referencing new table as written for each statement execute function keep_phase_summaries();
"""
# As the view configurations has them: without, the planner takes a filter on them for one that
# leaves next to nothing, and joins row by row what is all there.
KNOWN = """
create statistics tasks_workload_stats (mcv)
    on (coalesce(workload ->> 'lengths', 'fixed')),
       (coalesce(workload ->> 'arrival', 'static')),
       (coalesce(workload ->> 'decoding', 'greedy')),
       (coalesce((workload ->> 'prefix_tokens')::int, 0))
  from tasks
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "phase_summaries",
        sa.Column("attempt_id", sa.BigInteger(), nullable=False, comment="the attempt"),
        sa.Column("phase", sa.Text(), nullable=False, comment="prefill, mixed or decode"),
        sa.Column("method", sa.Text(), nullable=False, comment="how phases were told apart"),
        sa.Column(
            "repeats",
            sa.Integer(),
            nullable=False,
            comment="metered repeats in which it was looked for",
        ),
        sa.Column(
            "duration_s",
            sa.Double(),
            nullable=True,
            comment="length in all of them, seconds; NULL where one has none",
        ),
        sa.Column(
            "energy_j",
            sa.Double(),
            nullable=True,
            comment="measured energy, joules; NULL where a repeat has none",
        ),
        sa.Column(
            "timing_uncertainty_j",
            sa.Double(),
            nullable=True,
            comment="95 % half-width of edges and sampling, joules",
        ),
        sa.Column(
            "tokens",
            sa.BigInteger(),
            nullable=True,
            comment="tokens of the phase; NULL where a repeat does not know",
        ),
        sa.Column(
            "reasons",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="why a value is missing, or holds a part of the phase only",
        ),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("phase_summaries_attempt_id_fkey")
        ),
        sa.PrimaryKeyConstraint("attempt_id", "phase", "method", name=op.f("phase_summaries_pkey")),
        comment="One phase of one attempt, by one method, summed: kept by triggers, a copy of the "
        "view phase_sums",
    )
    schema = op.get_bind().exec_driver_sql("select quote_ident(current_schema())").scalar_one()
    op.execute(KEEP.replace("{schema}", schema))
    op.execute(KNOWN)


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
