"""The points of a block: which engines, and which workloads each of them is asked for.

Pure. Every combination of a block's values is one point; where a value has no use (a rate without
arrivals, beams without a beam search) its default stands in, so that no point is asked for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from campaign.configuration.settings import Axes
from db.records import Board, EngineSpec, ModelSpec, Scalar, Workload

AUTO = "auto"
NGRAM = "ngram"
ONLINE_MODE = "online"
OFFLINE_MODE = "offline"

#: (name, weights) -> model.
Models = Mapping[tuple[str, str], ModelSpec]


def workloads(axes: Axes) -> tuple[Workload, ...]:
    """Return the workloads of a block, in the order of its axes."""
    return tuple(
        Workload(
            input_tokens=inputs,
            output_tokens=outputs,
            batch_size=batch,
            requests=requests,
            lengths=lengths,
            prefix_tokens=prefix,
            arrival=arrival,
            rate_rps=rate,
            decoding=decoding,
            beams=beams,
            temperature=temperature,
            top_p=top_p,
        )
        for inputs, outputs, batch, requests, lengths, prefix, (arrival, rate), (
            decoding, beams, temperature, top_p,
        ) in product(
            axes.input_tokens, axes.output_tokens, axes.batch_size, axes.requests, axes.lengths,
            axes.prefix_tokens, axes.arrivals, axes.decodings,
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How an engine is loaded for its workloads.

    `places` is how many requests it computes together at most, where that is for it to see to.
    """

    mode: str
    places: int | None


def loadings(mode: str, asked: Iterable[Workload]) -> dict[Loading, list[Workload]]:
    """Return the workloads of each way an engine has to be loaded in for them."""
    found: dict[Loading, list[Workload]] = {}
    for workload in asked:
        needed = ONLINE_MODE if workload.is_online else OFFLINE_MODE
        places = workload.batch_size if workload.needs_places else None
        loading = Loading(mode=needed if mode == AUTO else mode, places=places)
        found.setdefault(loading, []).append(workload)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What one engine of a block is, beside its model, board, mode and flags."""

    version: str | None
    dtype: str
    quantization: str | None
    parallel: int
    threads: int | None
    speculation: str | None
    speculative_tokens: int | None
    power_limit_w: float | None


def _choices(axes: Axes) -> Iterator[_Choice]:
    for version, dtype, quantization, parallel, threads, (name, tokens), limit in product(
        axes.version, axes.dtype, axes.quantization, axes.tensor_parallel, axes.threads,
        axes.speculations, axes.power_limit_w,
    ):  # fmt: skip
        yield _Choice(version=version, dtype=dtype, quantization=quantization, parallel=parallel,
                      threads=threads, speculation=name, speculative_tokens=tokens,
                      power_limit_w=limit)  # fmt: skip


def engines(
    axes: Axes,
    model: ModelSpec,
    board: Board,
    loading: Loading,
    draft: Callable[[str], ModelSpec],
) -> Iterator[EngineSpec]:
    """Yield the engines of a model on a board, loaded so; `draft` names a draft's model."""
    for backend in axes.backend:
        flags = axes.options[backend]
        bounded = loading.places is not None and backend == "vllm"
        held = {"max_num_seqs": loading.places} if bounded else {}
        options = [dict(zip(flags, values, strict=True)) for values in product(*flags.values())]
        for chosen, given in product(_choices(axes), options):
            yield _engine(model, board, loading.mode, backend, chosen, held | given, draft)


def _engine(
    model: ModelSpec,
    board: Board,
    mode: str,
    backend: str,
    chosen: _Choice,
    options: Mapping[str, Scalar],
    draft: Callable[[str], ModelSpec],
) -> EngineSpec:
    proposer = chosen.speculation
    named = proposer is not None and proposer != NGRAM
    return EngineSpec(
        model=model,
        backend=backend,
        board=board.slug,
        board_count=1 if board.is_cpu else chosen.parallel,
        version=chosen.version,
        dtype=board.dtype if chosen.dtype == AUTO else chosen.dtype,
        quantization=chosen.quantization,
        tensor_parallel=chosen.parallel,
        threads=chosen.threads or _threads(board),
        options=options,
        mode=mode,
        speculation="draft_model" if named else proposer,
        speculative_tokens=chosen.speculative_tokens,
        draft=draft(proposer) if named and proposer is not None else None,
        power_limit_w=chosen.power_limit_w,
    )


def _threads(board: Board) -> int | None:
    """Return the number of threads a CPU board names, so that every backend gets the same."""
    last = board.slug.rpartition(":")[2]
    return int(last) if board.is_cpu and last.isdigit() else None
