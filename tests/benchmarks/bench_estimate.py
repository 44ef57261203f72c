"""How far the estimate lies from published measurements: printed, never asserted.

Figures of 2511.05597 (its section IV) and 2504.17674 (its TP comparison) are written out here.
CAMPAIGN_MEASUREMENTS names a CSV of serving runs in the columns of the ML.ENERGY benchmark (v3);
without it that part is skipped.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median

import pytest

from campaign.catalogue.catalog import Catalog, load_catalog
from db.errors import ConfigError
from db.records import EngineSpec, ModelSpec, Scalar, Weights, Workload
from workers.costs.cost import Cost, estimate
from workers.shapes.shape import shape_of

OLD, SERVED = "0.6", "0.11"
#: model, board, boards, tensor parallel, input, output, batch; published seconds, Wh per request.
#: The two figures whose batches and answers the paper does not state are taken at 50 and 900.
PUBLISHED: Sequence[tuple[str, str, int, int, int, int, int, float | None, float]] = (
    ("facebook/opt-30b", "a100-sxm-80gb", 1, 1, 100, 100, 100, None, 0.0137),
    ("facebook/opt-30b", "a100-sxm-80gb", 1, 1, 900, 100, 100, None, 0.08),
    ("facebook/opt-30b", "a100-sxm-80gb", 1, 1, 100, 900, 100, None, 0.30),
    ("meta-llama/Meta-Llama-3.1-405B", "h100-sxm-80gb", 16, 8, 300, 300, 1, 15.4, 21.7),
    ("meta-llama/Meta-Llama-3.1-405B", "h100-sxm-80gb", 16, 8, 300, 300, 100, 29.4, 0.604),
    ("facebook/opt-2.7b", "l4", 1, 1, 500, 500, 50, None, 0.0185),
    ("google/gemma-2b", "l4", 1, 1, 500, 500, 50, None, 0.0086),
    ("facebook/opt-13b", "l4", 2, 2, 300, 900, 50, None, 0.18),
    ("facebook/opt-13b", "h100-sxm-80gb", 1, 1, 300, 900, 50, None, 0.08),
)
#: The part of the memory that they left to vLLM, its default then.
SHARE = {"gpu_memory_utilization": 0.9}
#: 2504.17674: Llama-3.1-8B at batch 1; seconds and joules over those of one board.
PARALLEL = {2: (0.598, 1.293), 4: (0.387, 1.552)}
#: The same: joules with a draft that proposes 4 tokens over those without.
SPECULATED = "published: least 0.71 up to batch 16, 1.26 at 128"
SINGLE_OVER_BATCHED = "published over 48 models: least 12.7, median 26, most 82"
#: Tokens of a prompt: the published means of two tasks, and an assumption for the others.
PROMPTS = {"gpqa": 224, "lm-arena-chat": 634, "sourcegraph-fim": 1500, "image-chat": 1500,
           "video-chat": 3000}  # fmt: skip
BOARDS = {"H100": "h100-sxm-80gb", "B200": "b200-sxm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One published value beside ours."""

    model: str
    published: float
    ours: float


def test_published_figures() -> None:
    catalog = load_catalog()
    print(f"\n{'':54} published       ours, vLLM {OLD} / version not given")
    pairs = []
    for name, board, boards, parallel, n, out, batch, seconds, wh in PUBLISHED:
        load = Workload(input_tokens=n, output_tokens=out, batch_size=batch)
        found = [
            _cost(catalog, name, board, boards, parallel, load, v, options=SHARE)
            for v in (OLD, None)
        ]
        ours = "   ".join(f"{c.e2e_s:6.1f} s {_wh(c, batch):8.4f} Wh" for c in found)
        given = f"{'' if seconds is None else f'{seconds:.1f} s':>6} {wh:8.4f} Wh"
        print(f"{name.partition('/')[2]:20} {boards:2}x {board:14} {load.label:12} {given}  {ours}")
        pairs.append(Pair(model=name, published=wh, ours=_wh(found[0], batch)))
    print(f"  energy: {_errors(pairs)}")


def test_parallel_boards() -> None:
    catalog = load_catalog()
    load = Workload(input_tokens=512, output_tokens=64, batch_size=1)
    print()
    for board in ("rtx-a6000", "a100-pcie-80gb"):
        one, *more = (
            _cost(catalog, "meta-llama/Llama-3.1-8B", board, n, n, load, OLD) for n in (1, 2, 4)
        )
        ours = [f"{c.boards}: {c.e2e_s / one.e2e_s:.2f} of the seconds,"
                f" {_wh(c, 1) / _wh(one, 1):.2f} of the joules" for c in more]  # fmt: skip
        print(f"{board:15} {'; '.join(ours)}")
    print(f"published: {PARALLEL}")


def test_a_draft() -> None:
    catalog, model = load_catalog(), "meta-llama/Llama-3.1-8B"
    print()
    for board, n, out in (("rtx-a6000", 512, 64), ("a100-pcie-80gb", 512, 64),
                          ("rtx-a6000", 512, 256), ("a100-pcie-80gb", 512, 256)):  # fmt: skip
        ratios = []
        for batch in (1, 4, 16, 64, 128):
            load = Workload(input_tokens=n, output_tokens=out, batch_size=batch)
            plain, drafted = (
                _cost(catalog, model, board, 1, 1, load, OLD, draft=draft)
                for draft in (None, "meta-llama/Llama-3.2-1B")
            )
            ratios.append(f"{batch}: {_wh(drafted, 1) / _wh(plain, 1):.2f}")
        print(f"a draft, {board:15} {n}→{out}: {', '.join(ratios)}")
    print(SPECULATED)


def test_single_over_batched() -> None:
    """A batch of 100 against one prompt, of every dense model on the smallest group it fits."""
    catalog, ratios = load_catalog(), []
    single, batched = (
        Workload(input_tokens=300, output_tokens=300, batch_size=batch) for batch in (1, 100)
    )
    for name in catalog.models():
        for slug, boards in (("l4", 1), ("l4", 2), ("a100-sxm-80gb", 1), ("h100-sxm-80gb", 2),
                             ("h100-sxm-80gb", 4)):  # fmt: skip
            board = catalog.board(slug)
            shape = _shape(catalog, name)
            if shape is None or shape.parameters * 2 > 0.75 * boards * (board.memory_bytes or 0):
                continue
            one, all_ = (
                _cost(catalog, name, slug, boards, boards, load, OLD) for load in (single, batched)
            )
            ratios.append(_wh(one, 1) / _wh(all_, 100))
            break
    print(f"\none prompt over one of 100, {len(ratios)} models: least {min(ratios):.1f}, median "
          f"{median(ratios):.1f}, most {max(ratios):.1f}; {SINGLE_OVER_BATCHED}")  # fmt: skip


def test_serving_runs() -> None:
    path = os.environ.get("CAMPAIGN_MEASUREMENTS")
    if not path:
        pytest.skip("CAMPAIGN_MEASUREMENTS names no CSV")
    rows = list(_served(Path(path)))
    print(f"\n{len(rows)} serving runs, vLLM {SERVED}")
    halves = {row["model_id"] for row, _ in rows if row["weight_precision"] == "bfloat16"}
    parts: Mapping[str, Callable[[Mapping[str, str]], bool]] = {
        "all": lambda r: True,
        "bfloat16": lambda r: r["weight_precision"] == "bfloat16",
        "bfloat16, batch <= 16": lambda r: (
            r["weight_precision"] == "bfloat16" and float(r["avg_batch_size"]) <= 16
        ),
        "bfloat16, dense, text": lambda r: (
            r["weight_precision"] == "bfloat16"
            and r["architecture"].startswith("Dense")
            and r["task"] in ("gpqa", "lm-arena-chat")
        ),
        "fp8": lambda r: r["weight_precision"] == "fp8",
        "fp8, no bfloat16 twin": lambda r: (
            r["weight_precision"] == "fp8" and r["model_id"].removesuffix("-FP8") not in halves
        ),
    }
    for name, chosen in parts.items():
        some = [(row, values) for row, values in rows if chosen(row)]
        for value in ("seconds", "joules", "watts"):
            print(f"  {name:24} {value:8} {_errors([values[value] for _, values in some])}")


def _served(path: Path) -> Iterator[tuple[Mapping[str, str], Mapping[str, Pair]]]:
    """Yield each run with its inter-token latency, joules per token and watts, beside ours."""
    catalog = load_catalog()
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            boards, batch = int(row["num_gpus"]), max(1, round(float(row["avg_batch_size"])))
            load = Workload(
                input_tokens=PROMPTS[row["task"]],
                output_tokens=round(float(row["avg_output_len"])),
                batch_size=batch,
            )
            quantization = "fp8" if row["weight_precision"] == "fp8" else None
            try:
                cost = _cost(
                    catalog, row["model_id"], BOARDS[row["gpu_model"]], boards, boards, load,
                    SERVED, quantization=quantization,
                    options={"enable_expert_parallel": int(row["expert_parallel"]) > 1},
                )  # fmt: skip
            except ConfigError:
                continue
            itl_s = cost.decode.seconds / (load.output_tokens - 1) / (batch / cost.running)
            joules = (cost.energy_j or 0.0) / batch / load.output_tokens
            values = {
                "seconds": (float(row["median_itl_ms"]) / 1e3, itl_s),
                "joules": (float(row["energy_per_token_joules"]), joules),
                "watts": (float(row["avg_power_watts"]), (cost.energy_j or 0.0) / cost.e2e_s),
            }
            yield (
                row,
                {
                    name: Pair(model=row["model_id"], published=published, ours=ours)
                    for name, (published, ours) in values.items()
                },
            )


def _cost(
    catalog: Catalog,
    name: str,
    slug: str,
    boards: int,
    parallel: int,
    load: Workload,
    version: str | None,
    *,
    draft: str | None = None,
    quantization: str | None = None,
    options: Mapping[str, Scalar] | None = None,
) -> Cost:
    model, board = catalog.model(name), catalog.board(slug)
    shape = shape_of(model.name, model.architecture)
    assert shape is not None
    engine = EngineSpec(
        model=ModelSpec(name=name, weights=Weights.RANDOM), backend="vllm", board=slug,
        board_count=boards, tensor_parallel=parallel, dtype=board.dtype, version=version,
        quantization=quantization, options=options or {},
        speculation=draft and "draft_model", speculative_tokens=4 if draft else None,
        draft=None if draft is None else catalog.model(draft),
    )  # fmt: skip
    found = estimate(engine, shape, board, load)
    assert found is not None
    return found


def _shape(catalog: Catalog, name: str):
    try:
        model = catalog.model(name)
    except ConfigError:
        return None
    found = shape_of(model.name, model.architecture)
    return None if found is None or found.experts else found


def _wh(cost: Cost, requests: int) -> float:
    return (cost.energy_j or 0.0) / 3600 / requests


def _errors(pairs: Sequence[Pair]) -> str:
    """Median error as it is, and with one constant fitted to the other models; tau; worst."""
    plain = [abs(p.ours / p.published - 1) for p in pairs]
    left_out = {
        model: exp(median(log(p.published / p.ours) for p in pairs if p.model != model))
        for model in {p.model for p in pairs}
    }
    fitted = [abs(p.ours * left_out[p.model] / p.published - 1) for p in pairs]
    worst = max(max(p.ours / p.published, p.published / p.ours) for p in pairs)
    return (f"median error {median(plain):4.0%}, one constant fitted to the other models "
            f"{median(fitted):4.0%}, tau {_tau(pairs):.2f}, worst {worst:.1f}x, "
            f"{len(pairs)} values")  # fmt: skip


def _tau(pairs: Sequence[Pair]) -> float:
    """Kendall's tau between published values and ours."""
    agreed = 0
    for n, one in enumerate(pairs):
        for other in pairs[:n]:
            product = (one.published - other.published) * (one.ours - other.ours)
            agreed += (product > 0) - (product < 0)
    return agreed / (len(pairs) * (len(pairs) - 1) / 2)
