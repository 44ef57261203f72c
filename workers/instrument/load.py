"""A load on a GPU that is switched at given instants: what an instrument is looked at with.

A process of its own, asked over its pipes. It owns the arithmetic that draws power and the stamps
of when it did. It ends with its parent, in the middle of a schedule too. It never measures, and
changes no setting of a board.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from workers.meters.child import Message, Parent, integer, items

#: Edge of the square matrices that are multiplied, and how many products are queued before looking
#: at the clock: about a millisecond on a board of 2024.
EDGE, QUEUED = 4096, 4
#: The last stretch before a switch is not slept: a sleep ends late.
SPUN_NS = 2_000_000

#: Draw power for about a millisecond, and return once the board has done it.
Work = Callable[[], None]


def work_of(index: int) -> Work:
    """Return products of random matrices on a GPU. Raises RuntimeError where there is none."""
    import torch

    device = torch.device("cuda", index)
    left, right = (torch.randn(EDGE, EDGE, device=device, dtype=torch.bfloat16) for _ in "lr")
    out = torch.empty_like(left)

    def work() -> None:
        for _ in range(QUEUED):
            torch.matmul(left, right, out=out)
        torch.cuda.synchronize(device)

    return work


def follow(work: Work, switches_ns: Sequence[int], wanted: Callable[[], bool]) -> Message:
    """Work from the first instant to the second, rest to the third, and so on, while it is wanted.

    Returns how often there was work, and when each stretch of it began and ended.
    """
    done, stretches = 0, []
    for on_ns, off_ns in zip(switches_ns[::2], switches_ns[1::2], strict=True):
        if not wanted():
            break
        _rest(on_ns)
        began_ns = time.monotonic_ns()
        while time.monotonic_ns() < off_ns and wanted():
            work()
            done += 1
        stretches.append([began_ns, time.monotonic_ns()])
    return {"done": done, "stretches": stretches}


def _rest(until_ns: int) -> None:
    left_ns = until_ns - time.monotonic_ns() - SPUN_NS
    if left_ns > 0:
        time.sleep(left_ns / 1e9)
    while time.monotonic_ns() < until_ns:
        pass


def main() -> None:
    """Serve one parent until it goes."""
    parent = Parent()
    requests = (request for request in parent.requests() if request is not None)
    settings = next(requests, None)
    if settings is None:
        return
    try:
        work = work_of(integer(settings["index"]))
        work()
    except (ImportError, RuntimeError) as error:
        parent.answer({"unavailable": " ".join(str(error).split())[:200]})
        return
    parent.answer({"ready": True})
    for request in requests:
        switches_ns = [integer(at) for at in items(request["switches_ns"])]
        parent.answer(follow(work, switches_ns, parent.alive))


if __name__ == "__main__":
    main()
