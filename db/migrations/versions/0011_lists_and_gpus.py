"""The first measurements are found without sorting all; GPUs meet their sessions in order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("summaries_measured_at_idx", "summaries", ["measured_at"])
    op.create_index(
        "windows_repeats_idx",
        "windows",
        ["id"],
        postgresql_include=["session_id", "attempt_id"],
        postgresql_where=sa.text("kind = 'repeat' and id > 0"),
    )


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
