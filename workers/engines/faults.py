"""What the exceptions of engines mean: their text read once, for every adapter.

Owns the kinds ``out_of_memory``, ``missing_weights``, ``disk_full``, ``unsupported`` and
``engine_error``. Never drops the library's own words.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from db.errors import EngineFault, TaskFault

#: How libraries say that memory, of a board or a host, is too small.
_MEMORY = (
    "out of memory",
    "no available memory for the cache blocks",
    "larger than the available kv cache memory",
    "is less than desired gpu memory utilization",
    "is less than desired cpu memory utilization",
    "is less than requested memory for kv",
    "can't allocate memory",
    "defaultcpuallocator: not enough memory",
)
_WEIGHTS = (
    "weights were not initialized from checkpoint",
    "cannot find any model weights",
    "error while deserializing header",
    "no such file or directory",
    "incomplete metadata",
)
_LONGEST = 600


def kind_of(error: BaseException) -> tuple[str, bool]:
    """Return the kind of a library's exception, and whether trying again is pointless.

    What a library refuses by argument (ValueError and its like) stays refused. A program that is
    not there to compile a kernel (``ninja``) is this node's lack, not one of weights.
    """
    text = _chain(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _MEMORY):
        return "out_of_memory", False
    if any(map(_lacks_program, _causes(error))):
        return "engine_error", False
    if "safetensorerror" in text or any(words in text for words in _WEIGHTS):
        return "missing_weights", True
    if isinstance(error, ValueError | TypeError | NotImplementedError | ImportError):
        return "unsupported", True
    return "engine_error", False


def engine_fault(error: BaseException, doing: str) -> EngineFault:
    """Return the EngineFault of a library's exception raised while `doing`."""
    kind, permanent = kind_of(error)
    return EngineFault(kind, f"{doing}: {_words(error)}", permanent=permanent)


def task_fault(error: BaseException, doing: str, *, stateless: bool = False) -> TaskFault:
    """Return the TaskFault of a library's exception raised while generating.

    Only running out of memory is told apart: what loaded is supported and has its weights. An
    engine that is `stateless`, of which nothing outlives a batch, is as it was after that.
    """
    memory = kind_of(error)[0] == "out_of_memory"
    kind = "out_of_memory" if memory else "engine_error"
    return TaskFault(kind, f"{doing}: {_words(error)}", sound=memory and stateless)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or text of a library that lost its errno, says the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "os error 28" in str(error) or "no space left on device" in str(error).lower()


def _words(error: BaseException) -> str:
    """Return the exception's name and text on one line."""
    text = " ".join(str(error).split())[:_LONGEST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _chain(error: BaseException) -> str:
    """Return the names and texts of an exception and its causes."""
    return "\n".join(f"{type(each).__name__}: {each}" for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _lacks_program(error: BaseException) -> bool:
    """Whether a program was not found: its name is no path."""
    missing = error.filename if isinstance(error, FileNotFoundError) else None
    return isinstance(missing, str) and missing == Path(missing).name and "." not in missing
