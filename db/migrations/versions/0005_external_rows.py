"""Rows that others measured, in a table of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "external_rows",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="surrogate key"
        ),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="SHA-256 of the source and everything the row says",
        ),
        sa.Column(
            "source",
            sa.Text(),
            nullable=False,
            comment="who measured it, as named when it was imported",
        ),
        sa.Column(
            "imported_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was imported",
        ),
        sa.Column(
            "file_sha256", sa.Text(), nullable=False, comment="SHA-256 of the file it came in"
        ),
        sa.Column(
            "line", sa.Integer(), nullable=False, comment="line of that file; of Parquet the row"
        ),
        sa.Column(
            "catalogue_model",
            sa.Text(),
            nullable=True,
            comment="name of the catalogue's row with its architecture",
        ),
        sa.Column("model", sa.Text(), nullable=False, comment="model, a hub id where one exists"),
        sa.Column("architecture", sa.Text(), nullable=True, comment="dense, moe, or another word"),
        sa.Column(
            "total_params_b", sa.Double(), nullable=True, comment="parameters of the model, 10⁹"
        ),
        sa.Column(
            "active_params_b",
            sa.Double(),
            nullable=True,
            comment="parameters that one token is multiplied with, 10⁹",
        ),
        sa.Column("board", sa.Text(), nullable=False, comment="slug of the board"),
        sa.Column("gpus", sa.Integer(), nullable=True, comment="boards that work as one group"),
        sa.Column(
            "tensor_parallel", sa.Integer(), nullable=True, comment="tensor parallel size, in GPUs"
        ),
        sa.Column(
            "expert_parallel", sa.Integer(), nullable=True, comment="expert parallel size, in GPUs"
        ),
        sa.Column(
            "data_parallel", sa.Integer(), nullable=True, comment="data parallel size, in GPUs"
        ),
        sa.Column("dtype", sa.Text(), nullable=True, comment="number format of activations"),
        sa.Column("quantization", sa.Text(), nullable=True, comment="how weights are quantized"),
        sa.Column("backend", sa.Text(), nullable=True, comment="engine"),
        sa.Column(
            "batch_size",
            sa.Integer(),
            nullable=True,
            comment="requests at a time that were asked for, or the limit",
        ),
        sa.Column(
            "mean_batch", sa.Double(), nullable=True, comment="requests computed together, mean"
        ),
        sa.Column(
            "input_tokens",
            sa.Double(),
            nullable=True,
            comment="prompt tokens per request, the mean where they differ",
        ),
        sa.Column(
            "output_tokens",
            sa.Double(),
            nullable=True,
            comment="generated tokens per request that were asked for, or limit",
        ),
        sa.Column(
            "mean_output_tokens",
            sa.Double(),
            nullable=True,
            comment="generated tokens per request, mean",
        ),
        sa.Column(
            "requests", sa.BigInteger(), nullable=True, comment="requests that were answered"
        ),
        sa.Column(
            "duration_s", sa.Double(), nullable=True, comment="length of what was metered, seconds"
        ),
        sa.Column(
            "energy_j",
            sa.Double(),
            nullable=True,
            comment="energy of all GPUs over duration_s, joules",
        ),
        sa.Column(
            "energy_j_per_output_token",
            sa.Double(),
            nullable=True,
            comment="energy of all GPUs per generated token, joules",
        ),
        sa.Column(
            "energy_j_per_request",
            sa.Double(),
            nullable=True,
            comment="energy of all GPUs per request, joules",
        ),
        sa.Column("power_w", sa.Double(), nullable=True, comment="mean power of all GPUs, watts"),
        sa.Column(
            "ttft_ms", sa.Double(), nullable=True, comment="time to first token, milliseconds"
        ),
        sa.Column(
            "itl_ms", sa.Double(), nullable=True, comment="inter-token latency, milliseconds"
        ),
        sa.Column(
            "workload", sa.Text(), nullable=True, comment="the workload in words, or the data set"
        ),
        sa.Column("weights", sa.Text(), nullable=True, comment="real or random"),
        sa.Column(
            "origin_reality",
            sa.Text(),
            server_default="external",
            nullable=False,
            comment="what the file calls it: real, simulated, or external where it says nothing",
        ),
        sa.Column("origin_source", sa.Text(), nullable=True, comment="source that the file names"),
        sa.Column(
            "campaign",
            sa.Text(),
            nullable=True,
            comment="campaigns that asked for it there, separated by ;",
        ),
        sa.Column(
            "reasons",
            sa.Text(),
            nullable=True,
            comment="why a value is missing or weak, words separated by ;",
        ),
        sa.Column("energy_method", sa.Text(), nullable=True, comment="how energy was measured"),
        sa.Column(
            "energy_j_per_output_token_half_width",
            sa.Double(),
            nullable=True,
            comment="95 % half-width in one session, joules",
        ),
        sa.Column(
            "energy_estimated_j",
            sa.Double(),
            nullable=True,
            comment="modelled, not measured, energy over duration_s, joules",
        ),
        sa.Column("estimate_method", sa.Text(), nullable=True, comment="who modelled it"),
        sa.Column("backend_version", sa.Text(), nullable=True, comment="version of the engine"),
        sa.Column("software", sa.Text(), nullable=True, comment="other versions"),
        sa.Column("driver", sa.Text(), nullable=True, comment="version of the GPU driver"),
        sa.Column(
            "power_limit_w",
            sa.Double(),
            nullable=True,
            comment="enforced power limit of a GPU, watts",
        ),
        sa.Column("protocol", sa.Text(), nullable=True, comment="name of the protocol"),
        sa.Column("repeats", sa.Integer(), nullable=True, comment="repeats as done"),
        sa.Column("warmup_batches", sa.Integer(), nullable=True, comment="warm-up batches as done"),
        sa.Column(
            "measured_at", sa.Text(), nullable=True, comment="when it began, as the file says"
        ),
        sa.Column(
            "task_key",
            sa.Text(),
            nullable=True,
            comment="identity of everything that was asked for",
        ),
        sa.Column(
            "replicate",
            sa.Integer(),
            nullable=True,
            comment="the same point again in another session, from 0",
        ),
        sa.Column("session", sa.Text(), nullable=True, comment="SHA-256 of the session's id"),
        sa.Column(
            "gpu_ids",
            sa.Text(),
            nullable=True,
            comment="SHA-256 of each GPU's UUID, separated by ;",
        ),
        sa.CheckConstraint(
            "origin_reality in ('real', 'simulated', 'external')",
            name=op.f("external_rows_origin_reality_check"),
        ),
        sa.CheckConstraint(
            "least(total_params_b, active_params_b, mean_batch, input_tokens, output_tokens,"
            " mean_output_tokens, duration_s, energy_j, energy_j_per_output_token,"
            " energy_j_per_request, power_w, ttft_ms, itl_ms,"
            " energy_j_per_output_token_half_width, energy_estimated_j, power_limit_w) > 0",
            name=op.f("external_rows_numbers_are_positive_check"),
        ),
        sa.CheckConstraint(
            "greatest(total_params_b, active_params_b, mean_batch, input_tokens, output_tokens,"
            " mean_output_tokens, duration_s, energy_j, energy_j_per_output_token,"
            " energy_j_per_request, power_w, ttft_ms, itl_ms,"
            " energy_j_per_output_token_half_width, energy_estimated_j, power_limit_w)"
            " < 'Infinity'",
            name=op.f("external_rows_numbers_are_finite_check"),
        ),
        sa.CheckConstraint(
            "weights in ('real', 'random')", name=op.f("external_rows_weights_check")
        ),
        sa.CheckConstraint(
            "least(gpus, tensor_parallel, expert_parallel, data_parallel, batch_size,"
            " requests, repeats) > 0 and least(warmup_batches, replicate) >= 0",
            name=op.f("external_rows_counts_check"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(energy_j, energy_j_per_output_token, energy_j_per_request) > 0"
            " or reasons is not null",
            name=op.f("external_rows_missing_has_reason_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("external_rows_pkey")),
        sa.UniqueConstraint("digest", name=op.f("external_rows_digest_key")),
        comment="One configuration as others measured it",
    )
    op.create_index("external_rows_source_idx", "external_rows", ["source"], unique=False)


def downgrade() -> None:
    """Refuse: a store keeps facts, and facts are not dropped."""
    raise RuntimeError("a store is never downgraded: restore a dump instead")
