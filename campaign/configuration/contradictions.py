"""Values of a block that say opposite things, each as one line with the key and the fix.

Pure. What merely cannot work on a board is not here: `fit` excludes it, point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from campaign.configuration.reader import Reader
from campaign.configuration.settings import RATED, Axes
from db.records import ONLINE


def note_contradictions(read: Reader, axes: Axes) -> None:
    """Note every pair of values that no point can have, and values that nothing uses.

    A key that was refused for itself contradicts nothing.
    """
    refused = {problem.partition(":")[0] for problem in read.problems}
    for keys, rule in RULES.items():
        if not refused.intersection(keys):
            rule(read, axes)


def _arrivals(read: Reader, axes: Axes) -> None:
    rated = [a for a in axes.arrival if a in RATED]
    if any(axes.rate_rps) and not rated:
        read.note("workload.rate_rps", f"has no use with workload.arrival={_listed(axes.arrival)}; "
                  "leave it out, or write workload.arrival=poisson")  # fmt: skip
    needing = [a for a in rated if a != "trace"]
    if needing and None in axes.rate_rps:
        read.note("workload.rate_rps", f"is needed by workload.arrival={needing[0]}; "
                  "write workload.rate_rps=2")  # fmt: skip
    if "trace" in axes.arrival and "fixed" in axes.lengths:
        read.note("workload.lengths", "is fixed, which has no times to replay; name a trace, or "
                  "write workload.arrival=poisson")  # fmt: skip
    online = [a for a in axes.arrival if a in ONLINE]
    if online and "offline" in axes.mode:
        read.note("engine.mode", f"offline takes no requests as they arrive, which "
                  f"workload.arrival={online[0]} asks for; write engine.mode=auto")  # fmt: skip


def _decodings(read: Reader, axes: Axes) -> None:
    chosen = _listed(axes.decoding)
    if "beam" not in axes.decoding and max(axes.beams) > 1:
        read.note("workload.beams", f"has no use with workload.decoding={chosen}; leave it out, or "
                  "write workload.decoding=beam")  # fmt: skip
    if "beam" in axes.decoding and min(axes.beams) == 1:
        read.note("workload.beams", "1 is greedy decoding; with workload.decoding=beam write "
                  "workload.beams=4")  # fmt: skip
    for name, values in (("temperature", axes.temperature), ("top_p", axes.top_p)):
        if "sample" not in axes.decoding and any(value != 1.0 for value in values):
            read.note(f"workload.{name}", f"has no use with workload.decoding={chosen}; leave it "
                      "out, or write workload.decoding=sample")  # fmt: skip
    if max(axes.top_p) > 1.0:
        read.note("workload.top_p", f"{max(axes.top_p):g} is no probability; it must be at most 1")


def _speculations(read: Reader, axes: Axes) -> None:
    proposing = [name for name in axes.speculation if name is not None]
    if any(axes.speculative_tokens) and not proposing:
        read.note("engine.speculative_tokens", "has no use without engine.speculation; leave it "
                  "out, or write engine.speculation=ngram")  # fmt: skip
    if proposing and None in axes.speculative_tokens:
        read.note("engine.speculative_tokens", f"is needed by engine.speculation={proposing[0]}; "
                  "write engine.speculative_tokens=4")  # fmt: skip


def _requests(read: Reader, axes: Axes) -> None:
    fewest = min((r for r in axes.requests if r is not None), default=None)
    if fewest is not None and fewest < max(axes.batch_size):
        read.note("workload.requests", f"{fewest} do not fill a batch of {max(axes.batch_size)}; "
                  f"write workload.requests={max(axes.batch_size)} or smaller batches")  # fmt: skip


def _prefix(read: Reader, axes: Axes) -> None:
    if max(axes.prefix_tokens) >= min(axes.input_tokens):
        read.note("workload.prefix_tokens", f"{max(axes.prefix_tokens)} leave nothing of a prompt "
                  f"of {min(axes.input_tokens)} tokens; it must be less than "
                  "workload.input_tokens")  # fmt: skip


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"[{','.join(words)}]"


#: What each rule looks at.
RULES: Mapping[tuple[str, ...], Callable[[Reader, Axes], None]] = {
    ("workload.arrival", "workload.rate_rps", "workload.lengths", "engine.mode"): _arrivals,
    ("workload.decoding", "workload.beams", "workload.temperature", "workload.top_p"): _decodings,
    ("engine.speculation", "engine.speculative_tokens"): _speculations,
    ("workload.requests", "workload.batch_size"): _requests,
    ("workload.prefix_tokens", "workload.input_tokens"): _prefix,
}
