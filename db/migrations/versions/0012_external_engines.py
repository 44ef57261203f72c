"""Imported rows say of the engine what our own say, so that rows of two engines stay apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: What the checks say from now on, by name.
CHECKS = {
    "numbers_are_positive": (
        "least(total_params_b, active_params_b, mean_batch, input_tokens, output_tokens,"
        " mean_output_tokens, duration_s, energy_j, energy_j_per_output_token,"
        " energy_j_per_request, power_w, ttft_ms, itl_ms, energy_j_per_output_token_half_width,"
        " energy_estimated_j, power_limit_w, declared_power_limit_w) > 0"
    ),
    "numbers_are_finite": (
        "greatest(total_params_b, active_params_b, mean_batch, input_tokens, output_tokens,"
        " mean_output_tokens, duration_s, energy_j, energy_j_per_output_token,"
        " energy_j_per_request, power_w, ttft_ms, itl_ms, energy_j_per_output_token_half_width,"
        " energy_estimated_j, power_limit_w, declared_power_limit_w) < 'Infinity'"
    ),
    "counts": (
        "least(gpus, tensor_parallel, expert_parallel, data_parallel, threads, speculative_tokens,"
        " batch_size, requests, repeats) > 0 and least(warmup_batches, replicate) >= 0"
    ),
}


def upgrade() -> None:
    """Apply."""
    for name, kind, comment in (
        ("model_commit", sa.Text(), "hub commit or folder digest of real weights"),
        ("options", sa.Text(), "the engine's flags by their own names, as JSON"),
        ("mode", sa.Text(), "offline, or online: a server's engine"),
        ("threads", sa.Integer(), "CPU threads the engine may compute with"),
        ("speculation", sa.Text(), "how tokens are looked ahead"),
        ("speculative_tokens", sa.Integer(), "tokens that are looked ahead"),
        ("draft", sa.Text(), "model that looks ahead"),
        (
            "declared_power_limit_w",
            sa.Double(),
            "power limit of a GPU that was asked for, watts",
        ),
    ):
        op.add_column("external_rows", sa.Column(name, kind, nullable=True, comment=comment))
    for name, rule in CHECKS.items():
        op.drop_constraint(op.f(f"external_rows_{name}_check"), "external_rows")
        op.create_check_constraint(op.f(f"external_rows_{name}_check"), "external_rows", rule)


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
