"""What a workload and an engine may ask for beyond sizes, and what serving and speculation show."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; what is there already took the defaults."""
    _workloads()
    _engines()
    _windows()


def _workloads() -> None:
    """Let a task ask for more than its three sizes."""
    op.alter_column(
        "tasks",
        "batch_size",
        existing_type=sa.Integer(),
        existing_nullable=False,
        comment="requests handed over at once, or computed at a time",
    )
    op.add_column(
        "tasks",
        sa.Column(
            "workload",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="what else the workload asks for, by field name; a field that is not there "
            "has its default",
        ),
    )


def _engines() -> None:
    """Add the server's engine, speculation and the declared power limit."""
    op.add_column(
        "engines",
        sa.Column(
            "mode",
            sa.Text(),
            server_default="offline",
            nullable=False,
            comment="offline, or online: a server's engine, which takes requests as it computes",
        ),
    )
    op.add_column(
        "engines",
        sa.Column(
            "speculation", sa.Text(), nullable=True, comment="draft_model or ngram; NULL without"
        ),
    )
    op.add_column(
        "engines",
        sa.Column(
            "speculative_tokens",
            sa.Integer(),
            nullable=True,
            comment="tokens that are looked ahead",
        ),
    )
    op.add_column(
        "engines",
        sa.Column(
            "draft",
            postgresql.JSONB(),
            nullable=True,
            comment="draft: name, weights, commit, architecture",
        ),
    )
    op.add_column(
        "engines",
        sa.Column(
            "power_limit_w",
            sa.Double(),
            nullable=True,
            comment="declared and verified, never set, watts; NULL takes it as it is",
        ),
    )
    op.create_check_constraint(
        op.f("engines_mode_check"), "engines", "mode in ('offline', 'online')"
    )
    _replace_check(
        "engines",
        "sizes",
        "tensor_parallel > 0 and board_count > 0 and speculative_tokens > 0 and power_limit_w > 0",
    )


def _windows() -> None:
    """Add the reached batch, the requests at the edges, counters and percentiles."""
    op.add_column(
        "windows",
        sa.Column(
            "straddling",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="requests across a window's edge: only their tokens inside it count",
        ),
    )
    op.add_column(
        "windows",
        sa.Column(
            "running_mean",
            sa.Double(),
            nullable=True,
            comment="requests computed together, averaged over the engine's steps",
        ),
    )
    for name, comment in {
        "counters": "the engine's own counters by its own names, counted over the window",
        "latencies": 'percentiles under load, seconds: {"ttft_s": {"p50": …}, …}',
    }.items():
        op.add_column(
            "windows",
            sa.Column(
                name,
                postgresql.JSONB(),
                server_default=sa.text("'{}'"),
                nullable=False,
                comment=comment,
            ),
        )
    _replace_check(
        "windows",
        "counts",
        "batches >= 0 and requests >= 0 and input_tokens >= 0 and output_tokens >= 0"
        " and straddling >= 0 and running_mean >= 0",
    )


def _replace_check(table: str, name: str, rule: str) -> None:
    op.drop_constraint(op.f(f"{table}_{name}_check"), table, type_="check")
    op.create_check_constraint(op.f(f"{table}_{name}_check"), table, rule)


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
