"""The tasks that will not be measured unasked, found without reading those that are done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "tasks_out_idx",
        "tasks",
        ["engine_id"],
        postgresql_where=sa.text("state in ('quarantined', 'excluded')"),
    )


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
