"""What the exceptions of engines mean: their text read once, for every adapter.

Owns the kinds ``out_of_memory``, ``missing_weights``, ``disk_full``, ``unsupported`` and
``engine_error``. Never drops the library's own words.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from db.errors import EngineFault, TaskFault

#: How libraries say that memory, of a board or a host, is too small.
_MEMORY = (
    "out of memory",
    "memoryerror",
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
#: The last line of a traceback, alone or behind what a log puts before each line.
_RAISED = re.compile(r"^(?:.*[\])] )?((?:\w+\.)*\w*(?:Error|Exception)(?::.*)?)$", re.MULTILINE)


def kind_of(error: BaseException) -> tuple[str, bool]:
    """Return the kind of a library's exception, and whether trying again is pointless.

    What a library refuses by argument (ValueError and its like) stays refused. A program that is
    not there to compile a kernel (``ninja``) is this node's lack, not one of weights.
    """
    text = _chain(error).lower()
    if _is_of_memory(text):
        return "out_of_memory", False
    if any(map(_lacks_program, _causes(error))):
        return "engine_error", False
    if "safetensorerror" in text or any(words in text for words in _WEIGHTS):
        return "missing_weights", True
    if isinstance(error, ValueError | TypeError | NotImplementedError | ImportError):
        return "unsupported", True
    return "engine_error", False


def engine_fault(error: BaseException, doing: str, printed: str = "") -> EngineFault:
    """Return the EngineFault of a library's exception raised while `doing`.

    `printed` is what processes of the engine have printed meanwhile, of which the exception knows
    only that one failed: what it does not say is looked for there, in the last lines of tracebacks.
    """
    kind, permanent = kind_of(error)
    told = f"{doing}: {_words(error)}"
    if kind == "engine_error" and (raised := _out_of_memory(printed)):
        return EngineFault("out_of_memory", f"{told}; there: {raised}")
    return EngineFault(kind, told, permanent=permanent)


def task_fault(
    error: BaseException, doing: str, *, printed: str = "", stateless: bool = False
) -> TaskFault:
    """Return the TaskFault of a library's exception raised while generating.

    Only running out of memory is told apart: what loaded is supported and has its weights. An
    engine that is `stateless`, of which nothing outlives a batch, is as it was after that.
    `printed` as for `engine_fault`.
    """
    told = f"{doing}: {_words(error)}"
    if kind_of(error)[0] == "out_of_memory":
        return TaskFault("out_of_memory", told, sound=stateless)
    if raised := _out_of_memory(printed):
        return TaskFault("out_of_memory", f"{told}; there: {raised}")
    return TaskFault("engine_error", told)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or text of a library that lost its errno, says the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "os error 28" in str(error) or "no space left on device" in str(error).lower()


def _is_of_memory(text: str) -> bool:
    return any(words in text.lower() for words in _MEMORY)


def _out_of_memory(printed: str) -> str | None:
    """Return the first exception that a process printed and that says memory was too small."""
    raised = (" ".join(line.split())[:_LONGEST] for line in _RAISED.findall(printed))
    return next((line for line in raised if _is_of_memory(line)), None)


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
