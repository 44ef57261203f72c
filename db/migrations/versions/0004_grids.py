"""What a campaign's tasks were expanded from, so that an unchanged grid is not expanded again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; a campaign that was there before is expanded once more."""
    op.add_column(
        "campaigns",
        sa.Column(
            "grid",
            postgresql.JSONB(none_as_null=True),
            nullable=True,
            comment="what it was expanded from; engines",
        ),
    )


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
