"""What vLLM is asked of each request and what it tells of it, in whichever mode.

Imports vllm inside functions, after the engine did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from db.errors import TaskFault
from db.readings import RequestTiming
from db.records import EngineSpec
from workers.engines.engine import Decoding, Request

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams


def prompt_of(request: Request) -> dict[str, list[int]]:
    """Return a prompt of token ids as vLLM takes it."""
    return {"prompt_token_ids": list(request.prompt)}


def sampling(request: Request, decoding: Decoding, *, streamed: bool = False) -> SamplingParams:
    """Return how a request's tokens are chosen: exactly as many as asked, the end is ignored.

    Without `min_tokens`, which would forbid the end as well: vLLM masks it request by request in
    every step, which takes milliseconds beside proposed tokens. Samples are drawn from the engine's
    own generator, seeded when it is loaded: no two batches draw the same. A seed per request would
    make vLLM draw them one after another.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampled = decoding.method == "sample"
    return SamplingParams(
        temperature=decoding.temperature if sampled else 0.0,
        top_p=decoding.top_p if sampled else 1.0,
        max_tokens=request.output_tokens,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA if streamed else RequestOutputKind.FINAL_ONLY,
    )


def timing(output: RequestOutput, started_ns: int, ended_ns: int) -> RequestTiming:
    """Return a request's tokens and latencies since the batch was handed over.

    Without the engine's own stamps the first token has no time and the last the batch's end.
    """
    stats = output.metrics
    first_s = getattr(stats, "first_token_ts", 0.0)
    last_s = getattr(stats, "last_token_ts", 0.0)
    started_s = started_ns / 1e9
    return RequestTiming(
        input_tokens=len(output.prompt_token_ids or ()),
        output_tokens=len(output.outputs[0].token_ids),
        ttft_s=first_s - started_s if first_s else None,
        e2e_s=(last_s or ended_ns / 1e9) - started_s,
    )


def cached(outputs: Sequence[RequestOutput]) -> int | None:
    """Return the prompt tokens answered from the prefix cache; None if any is not told."""
    counts = [output.num_cached_tokens for output in outputs]
    return None if any(count is None for count in counts) else sum(counts)


# ---- beam search -----------------------------------------------------------------------------


def beam_search(
    llm: LLM, spec: EngineSpec, requests: Sequence[Request], decoding: Decoding
) -> list[Any]:
    """Return vLLM's beams of each request: every step is a batch of requests of one token.

    One length for all, and a tokenizer, which vLLM wants for the text of the best beams; it is
    there for this call alone. Raises TaskFault for what vLLM cannot do.
    """
    from vllm.sampling_params import BeamSearchParams
    from vllm.tokenizers import cached_get_tokenizer

    config = llm.llm_engine.vllm_config.model_config
    lengths = {request.output_tokens for request in requests}
    if len(lengths) != 1:
        raise unsupported(spec, f"beam search takes one output length, not {len(lengths)}")
    if 2 * decoding.beams > config.max_logprobs >= 0:
        need = f"{decoding.beams} beams need options.max_logprobs={2 * decoding.beams}"
        raise unsupported(spec, f"{need}; it is {config.max_logprobs}")
    try:
        tokenizer = cached_get_tokenizer(config.model)
    except (OSError, ValueError) as error:
        raise unsupported(spec, f"beam search needs a tokenizer: {error}") from error
    params = BeamSearchParams(
        beam_width=decoding.beams, max_tokens=lengths.pop(), ignore_eos=True, temperature=0.0
    )
    llm.renderer.tokenizer = tokenizer
    try:
        return list(llm.beam_search([prompt_of(request) for request in requests], params))
    finally:
        llm.renderer.tokenizer = None


def beam_timing(request: Request, output: Any, seconds: float) -> RequestTiming:  # noqa: ANN401
    """Return the tokens of a request's best beam; vLLM tells no time of its first one."""
    return RequestTiming(
        input_tokens=len(request.prompt),
        output_tokens=len(output.sequences[0].tokens) - len(request.prompt),
        ttft_s=None,
        e2e_s=seconds,
    )


def unsupported(spec: EngineSpec, why: str) -> TaskFault:
    """Return the fault of what this engine cannot do, however often it is tried."""
    return TaskFault("unsupported", f"{spec.label}: {' '.join(why.split())}", permanent=True)
