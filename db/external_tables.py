"""The table of what others measured: rows that `import` brings, one by one, never changed.

They stand apart from the attempts of campaigns, so that no state, lease or comparison can take
them for measurements of its own; the view `evidence` lays both side by side.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index, Table, UniqueConstraint

from db.declaring import double, integer, large, metadata, moment, one_of, string, surrogate_key
from db.records import Reality, Weights

#: Postgres looks at those that are not null, and holds NaN for the greatest.
_NUMBERS = (
    "total_params_b, active_params_b, mean_batch, input_tokens, output_tokens, mean_output_tokens,"
    " duration_s, energy_j, energy_j_per_output_token, energy_j_per_request, power_w, ttft_ms,"
    " itl_ms, energy_j_per_output_token_half_width, energy_estimated_j, power_limit_w,"
    " declared_power_limit_w"
)

external_rows = Table(
    "external_rows",
    metadata,
    surrogate_key(sa.BigInteger),
    string("digest", "SHA-256 of the source and everything the row says"),
    string("source", "who measured it, as named when it was imported"),
    moment("imported_at", "when it was imported", now=True),
    string("file_sha256", "SHA-256 of the file it came in"),
    integer("line", "line of that file; of Parquet the row"),
    string("catalogue_model", "name of the catalogue's row with its architecture", null=True),
    string("model", "model, a hub id where one exists"),
    string("model_commit", "hub commit or folder digest of real weights", null=True),
    string("architecture", "dense, moe, or another word", null=True),
    double("total_params_b", "parameters of the model, 10⁹"),
    double("active_params_b", "parameters that one token is multiplied with, 10⁹"),
    string("board", "slug of the board"),
    integer("gpus", "boards that work as one group", null=True),
    integer("tensor_parallel", "tensor parallel size, in GPUs", null=True),
    integer("expert_parallel", "expert parallel size, in GPUs", null=True),
    integer("data_parallel", "data parallel size, in GPUs", null=True),
    string("dtype", "number format of activations", null=True),
    string("quantization", "how weights are quantized", null=True),
    string("backend", "engine", null=True),
    string("options", "the engine's flags by their own names, as JSON", null=True),
    string("mode", "offline, or online: a server's engine", null=True),
    integer("threads", "CPU threads the engine may compute with", null=True),
    string("speculation", "how tokens are looked ahead", null=True),
    integer("speculative_tokens", "tokens that are looked ahead", null=True),
    string("draft", "model that looks ahead", null=True),
    double("declared_power_limit_w", "power limit of a GPU that was asked for, watts"),
    integer("batch_size", "requests at a time that were asked for, or the limit", null=True),
    double("mean_batch", "requests computed together, mean"),
    double("input_tokens", "prompt tokens per request, the mean where they differ"),
    double("output_tokens", "generated tokens per request that were asked for, or limit"),
    double("mean_output_tokens", "generated tokens per request, mean"),
    large("requests", "requests that were answered", null=True),
    double("duration_s", "length of what was metered, seconds"),
    double("energy_j", "energy of all GPUs over duration_s, joules"),
    double("energy_j_per_output_token", "energy of all GPUs per generated token, joules"),
    double("energy_j_per_request", "energy of all GPUs per request, joules"),
    double("power_w", "mean power of all GPUs, watts"),
    double("ttft_ms", "time to first token, milliseconds"),
    double("itl_ms", "inter-token latency, milliseconds"),
    string("workload", "the workload in words, or the data set", null=True),
    string("weights", "real or random", null=True),
    Column("origin_reality", sa.Text, nullable=False, server_default=Reality.EXTERNAL.value,
           comment="what the file calls it: real, simulated, or external where it says nothing"),
    string("origin_source", "source that the file names", null=True),
    string("campaign", "campaigns that asked for it there, separated by ;", null=True),
    string("reasons", "why a value is missing or weak, words separated by ;", null=True),
    string("energy_method", "how energy was measured", null=True),
    double("energy_j_per_output_token_half_width", "95 % half-width in one session, joules"),
    double("energy_estimated_j", "modelled, not measured, energy over duration_s, joules"),
    string("estimate_method", "who modelled it", null=True),
    string("backend_version", "version of the engine", null=True),
    string("software", "other versions", null=True),
    string("driver", "version of the GPU driver", null=True),
    double("power_limit_w", "enforced power limit of a GPU, watts"),
    string("protocol", "name of the protocol", null=True),
    integer("repeats", "repeats as done", null=True),
    integer("warmup_batches", "warm-up batches as done", null=True),
    string("measured_at", "when it began, as the file says", null=True),
    string("task_key", "identity of everything that was asked for", null=True),
    integer("replicate", "the same point again in another session, from 0", null=True),
    string("session", "SHA-256 of the session's id", null=True),
    string("gpu_ids", "SHA-256 of each GPU's UUID, separated by ;", null=True),
    UniqueConstraint("digest"),
    one_of("origin_reality", Reality),
    one_of("weights", Weights),
    CheckConstraint(f"least({_NUMBERS}) > 0", name="numbers_are_positive"),
    CheckConstraint(f"greatest({_NUMBERS}) < 'Infinity'", name="numbers_are_finite"),
    CheckConstraint("least(gpus, tensor_parallel, expert_parallel, data_parallel, threads,"
                    " speculative_tokens, batch_size, requests, repeats) > 0"
                    " and least(warmup_batches, replicate) >= 0",
                    name="counts"),
    CheckConstraint("num_nonnulls(energy_j, energy_j_per_output_token, energy_j_per_request) > 0"
                    " or reasons is not null", name="missing_has_reason"),
    # evidence: the rows of a source.
    Index("external_rows_source_idx", "source"),
    comment="One configuration as others measured it",
)  # fmt: skip
