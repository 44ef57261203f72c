"""What an attempt measured stands beside its sums, so that questions about all need no joins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What the copy says of attempts, tasks and sessions is theirs, whoever changes them: a void, a
# mark, or a hand at what else never changes. Of these columns a finish changes the outcome alone,
# and finds nothing in the copy yet. Plans are made once for a connection, and not for the empty
# store that it may have begun on.
KEEP = """
create function keep_summaries_accepted() returns trigger language plpgsql
security definer set search_path = {schema}, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    update summaries
       set accepted = coalesce(new.outcome = 'ok' and new.voided_at is null, false),
           marks = new.marks
     where attempt_id = new.id;
    return null;
end $$;
create function keep_summaries_described() returns trigger language plpgsql
security definer set search_path = {schema}, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    touched bigint[];
begin
    if tg_table_name = 'tasks' then
        touched := array(select id from attempts where task_id = new.id);
    elsif tg_table_name = 'attempts' then
        touched := array[new.id];
    else
        touched := array(select distinct attempt_id from windows
                          where session_id = new.id and attempt_id is not null);
    end if;
    touched := array(select attempt_id from summaries where attempt_id = any(touched));
    if cardinality(touched) > 0 then
        delete from summaries where attempt_id = any(touched);
        insert into summaries select * from sums where attempt_id = any(touched);
    end if;
    return null;
end $$;
revoke execute on function keep_summaries_accepted(), keep_summaries_described() from public;
create trigger attempts_accepted_update after update of outcome, voided_at, marks on attempts
    for each row
    when ((old.outcome, old.voided_at, old.marks)
          is distinct from (new.outcome, new.voided_at, new.marks))
    execute function keep_summaries_accepted();
create trigger attempts_described_update after update of task_id, session_id on attempts
    for each row execute function keep_summaries_described();
create trigger tasks_described_update
    after update of engine_id, protocol_id, input_tokens, output_tokens, batch_size, workload,
                    reality, replicate on tasks
    for each row execute function keep_summaries_described();
create trigger sessions_described_update after update of software on sessions
    for each row execute function keep_summaries_described();
"""


def upgrade() -> None:
    """Apply; the upgrade that this is a part of fills the table again, as it is emptied here."""
    op.execute("truncate summaries")
    for column in (
        sa.Column(
            "accepted",
            sa.Boolean(),
            nullable=False,
            comment="the attempt is ok and was not voided",
        ),
        sa.Column("task_id", sa.BigInteger(), nullable=False, comment="the task it tried"),
        sa.Column("engine_id", sa.Integer(), nullable=False, comment="engine of the task"),
        sa.Column("protocol_id", sa.Integer(), nullable=False, comment="protocol of the task"),
        sa.Column("workload", sa.Text(), nullable=False, comment="workload of the task in words"),
        sa.Column("replicate", sa.Integer(), nullable=False, comment="replicate of the task"),
        sa.Column(
            "reality",
            sa.Text(),
            nullable=False,
            comment="simulated where a repeat was, else what the task asked for",
        ),
        sa.Column(
            "session_id",
            sa.UUID(),
            nullable=False,
            comment="the session it was measured in",
        ),
        sa.Column(
            "backend_version",
            sa.Text(),
            nullable=True,
            comment="version of the backend in that session",
        ),
        sa.Column(
            "marks",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="gates that marked, not voided, the measurement",
        ),
    ):
        op.add_column("summaries", column)
    op.create_table_comment(
        "summaries",
        "The repeats of one attempt, summed, and what they measured: kept by triggers, a copy of "
        "the view sums",
        existing_comment="The repeats of one attempt, summed: kept by triggers, a copy of the view "
        "sums",
    )
    op.create_index(
        "windows_unusual_idx",
        "windows",
        ["id"],
        postgresql_include=["kind", "reality"],
        postgresql_where=sa.text("kind <> 'repeat' or reality <> 'real'"),
    )
    schema = op.get_bind().exec_driver_sql("select quote_ident(current_schema())").scalar_one()
    op.execute(KEEP.replace("{schema}", schema))


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
