"""The tie between vLLM's engine process and the process that started it.

That process does not look whether its parent lives: killed alone, the parent would leave it
behind with the model on the board. Never imports vllm.
"""

from __future__ import annotations

import ctypes
import os
import signal
from multiprocessing import parent_process
from multiprocessing.reduction import ForkingPickler

_PR_SET_PDEATHSIG = 1


def mortal(executor: type) -> type:
    """Return a class that arrives in a spawned child as `executor`, once the child is tied.

    It is among the first things the child unpickles, before it asks its parent for anything.
    """
    kind = type("Mortal", (type(executor),), {})
    ForkingPickler.register(kind, lambda _: (_tied, (executor,)))
    told: type = kind(executor.__name__, (executor,), {})
    return told


def _tied(executor: type) -> type:
    die_with_parent()
    return executor


def die_with_parent() -> None:
    """Have the kernel kill this process with the thread that started it; now, if that is gone.

    Linux only; elsewhere nothing is promised.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)
