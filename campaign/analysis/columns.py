"""The columns of a row of evidence: what a file that is imported may hold, and what an export does.

Pure data: name, kind, unit, range and meaning of each. The import, the export's data dictionary,
the predictor and docs/import.md all read this list; nobody keeps another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column's cells are."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"


class Part(StrEnum):
    """Which question a column answers."""

    WHAT = "what ran"
    MEASURED = "what was measured"
    PROVENANCE = "where it comes from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. Numbers are finite and above zero, whole ones at least `least`."""

    name: str
    kind: Kind
    part: Part
    unit: str | None
    meaning: str
    least: int = 1


def _text(name: str, meaning: str, part: Part = Part.WHAT) -> Column:
    return Column(name=name, kind=Kind.TEXT, part=part, unit=None, meaning=meaning)


def _whole(name: str, unit: str, meaning: str, part: Part = Part.WHAT, *, least: int = 1) -> Column:
    return Column(name=name, kind=Kind.WHOLE, part=part, unit=unit, meaning=meaning, least=least)


def _number(name: str, unit: str, meaning: str, part: Part = Part.WHAT) -> Column:
    return Column(name=name, kind=Kind.NUMBER, part=part, unit=unit, meaning=meaning)


MEASURED, PROVENANCE = Part.MEASURED, Part.PROVENANCE
_GROUP = "of all GPUs of the group"

_LISTED = (
    _text("model", "model, a hub id where one exists"),
    _text("model_commit", "commit of real weights on the hub, or the digest of their folder"),
    _text("architecture", "dense, moe, or another word"),
    _number("total_params_b", "10⁹ parameters", "parameters of the model"),
    _number("active_params_b", "10⁹ parameters", "parameters that one token is multiplied with"),
    _text("board", "exact GPU product by slug (`campaign catalog boards`), or cpu:MODEL:THREADS"),
    _whole("gpus", "GPUs", "boards that work as one group"),
    _whole("tensor_parallel", "GPUs", "tensor parallel size"),
    _whole("expert_parallel", "GPUs", "expert parallel size"),
    _whole("data_parallel", "GPUs", "data parallel size"),
    _text("dtype", "number format of activations: bfloat16, float16, float32"),
    _text("quantization", "how weights are quantized; empty: not at all"),
    _text("backend", "engine: vllm, transformers, …"),
    _text("options", "the engine's flags by their own names, as JSON; empty: none were set"),
    _text("mode", "offline, or online: a server's engine, which takes requests as it computes"),
    _whole("threads", "threads", "CPU threads the engine may compute with"),
    _text("speculation", "how tokens are looked ahead: draft_model, ngram; empty: not at all"),
    _whole("speculative_tokens", "tokens", "tokens that are looked ahead"),
    _text("draft", "model that looks ahead"),
    _number("declared_power_limit_w", "watts per GPU",
            "power limit that was asked for; empty: as it was found"),
    _whole("batch_size", "requests", "requests at a time, as asked for; or the most"),
    _number("mean_batch", "requests", "requests that were computed together, mean"),
    _number("input_tokens", "tokens", "prompt tokens per request; the mean where they differ"),
    _number("output_tokens", "tokens", "generated tokens per request, as asked for; or the most"),
    _number("mean_output_tokens", "tokens", "generated tokens per request, mean", MEASURED),
    _whole("requests", "requests", "requests that were answered", MEASURED),
    _number("duration_s", "seconds", "length of what was metered", MEASURED),
    _number("energy_j", "joules", f"energy {_GROUP} over duration_s", MEASURED),
    _number("energy_j_per_output_token", "joules per token",
            f"energy {_GROUP} per generated token", MEASURED),
    _number("energy_j_per_request", "joules per request", f"energy {_GROUP} per request", MEASURED),
    _number("power_w", "watts", f"mean power {_GROUP}", MEASURED),
    _number("ttft_ms", "milliseconds", "time to first token", MEASURED),
    _number("itl_ms", "milliseconds", "inter-token latency", MEASURED),
)  # fmt: skip

_BESIDE = (
    _text("workload", "the workload in words, or the data set", PROVENANCE),
    _text("weights", "real, or random (drawn like a real initialisation)", PROVENANCE),
    _text("reality", "real, simulated, or external (measured by others)", PROVENANCE),
    _text("source", "who measured it, where it was imported; empty for the campaign's own",
          PROVENANCE),
    _text("campaign", "campaigns that asked for it, separated by ;", PROVENANCE),
    _text("reasons", "why a value is missing or weak, words separated by ;", PROVENANCE),
    _text("energy_method", "nvml_counter, nvml_integrated, rapl, roofline, …", PROVENANCE),
    _number("energy_j_per_output_token_half_width", "joules per token",
            "95 % half-width within one session", PROVENANCE),
    _number("energy_estimated_j", "joules", "modelled, not measured, energy over duration_s",
            PROVENANCE),
    _text("estimate_method", "who modelled it", PROVENANCE),
    _text("backend_version", "version of the engine", PROVENANCE),
    _text("software", "other versions, as name version; name version", PROVENANCE),
    _text("driver", "version of the GPU driver", PROVENANCE),
    _number("power_limit_w", "watts per GPU", "enforced power limit, as read", PROVENANCE),
    _text("protocol", "name of the protocol; where others of the store have it too, with a digest",
          PROVENANCE),
    _whole("repeats", "windows", "repeats as done", PROVENANCE),
    _whole("warmup_batches", "batches", "warm-up batches as done", PROVENANCE, least=0),
    _text("measured_at", "when it began, ISO 8601 in UTC", PROVENANCE),
    _text("task_key", "identity of everything that was asked for", PROVENANCE),
    _whole("replicate", "", "the same point again in another session, from 0", PROVENANCE,
           least=0),
    _text("session", "SHA-256 of the session's id: equal for what one loaded engine measured",
          PROVENANCE),
    _text("gpu_ids", "SHA-256 of each GPU's UUID, separated by ;", PROVENANCE),
)  # fmt: skip

COLUMNS: tuple[Column, ...] = (*_LISTED, *_BESIDE)
BY_NAME = {column.name: column for column in COLUMNS}
#: A row says at least one of these, or in `reasons` why it does not.
ENERGIES = ("energy_j", "energy_j_per_output_token", "energy_j_per_request")
#: Without these a row says nothing.
REQUIRED = ("model", "board")
#: What a frame of rows has beside them: what an imported row was where it was measured, and the
#: name under which the catalogue knows the model.
ORIGIN_REALITY, CATALOGUE_MODEL = "origin_reality", "catalogue_model"
